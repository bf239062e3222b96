"""The error function, which NumPy does not have."""

from __future__ import annotations

import math

from ..domains import Array
from .jit import kernel


@kernel
def _erf_of_each(y: Array, x: Array) -> None:
    for i in range(x.size):
        y[i] = math.erf(x[i])


def erf(y: Array, x: Array) -> bool:
    """y ← erf(x). Ten times as fast as its definition at (32, 64)."""
    _erf_of_each(y.reshape(-1), x.reshape(-1))
    return True
