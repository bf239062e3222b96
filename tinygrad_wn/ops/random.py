"""Random choices, as functions of a key: the same key gives the same choice, eager and compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..domains import Array, Integer, Real, Shape
from ..kernels.random import GOLDEN, mix
from ..op import case, op
from ..shapes import Misfit

if TYPE_CHECKING:
    from ..tensor import Tensor


def _like_x(x: Shape, key: Shape, *, p: float) -> Shape:
    if key:
        raise Misfit("key must be one number")
    if not 0 <= p < 1:
        raise Misfit(f"p must be at least 0 and below 1, not {p}")
    return x


@op(cases=[case("(m,n),():m", p=0.5), case("(n),():n", p=0.1), case("(),():3", p=0.25)], shape=_like_x)
def dropout(x: Real, key: Integer, p: float) -> Array:
    """Each entry of x divided by 1 - p, or 0 with probability p: which, is a hash of the key and of its place.

    >>> from tinygrad_wn.ops.random import dropout
    >>> dropout(tg.ones(6), 1, p=0.5)
    Tensor([2., 0., 0., 2., 0., 2.])
    """
    values = np.asarray(x)
    places = np.arange(1, values.size + 1, dtype=np.uint64) * np.uint64(GOLDEN)
    bits = mix(mix(np.asarray(key).reshape(1).astype(np.uint64)) + places).reshape(values.shape)
    dtype = np.result_type(values, np.float32) if values.dtype.kind != "f" else values.dtype
    chosen = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53 >= p
    return np.asarray(np.where(chosen, values / dtype.type(1 - p), dtype.type(0)), dtype)


@dropout.vjp
def dropout_vjp(ct: Tensor, _: None, x: Tensor, key: Any, *, p: float) -> Any:
    return dropout(ct, key, p=p), None
