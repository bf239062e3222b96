"""Random numbers without a state: a hash of a key and of a place (Steele, Lea & Flood 2014, SplitMix64)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .jit import kernel

GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def mix(z: Any) -> Any:
    """A hash of 64 bits, of a number or of each of an array."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(FIRST)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(SECOND)
    return z ^ (z >> np.uint64(31))


_mix = kernel(mix)


@kernel
def drop(y: Any, x: Any, key: Any, p: Any) -> None:
    """y ← x / (1 - p), or 0 with probability p."""
    start, kept = _mix(np.uint64(key)), y.dtype.type(1 - p)
    for i in range(x.size):
        bits = _mix(start + np.uint64(i + 1) * np.uint64(GOLDEN))
        chosen = np.float64(np.int64(bits >> np.uint64(11))) * 2.0**-53 >= p
        y[i] = x[i] / kept if chosen else 0
