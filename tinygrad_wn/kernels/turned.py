"""Weights of small layers as columns: turned once, so that a product reads whole vectors of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .jit import kernel
from .measure import CLOSE, LEAST, MOST, finish, measure_inverse, within
from .panels import turn
from .room import near
from .rows import squares_of_lanes
from .vector import VECTOR_BYTES


@kernel
def _bring_near(block: Any, factors: Any, scale: Any, factor: Any) -> None:
    """Columns times powers of two, so that products with them are about as large as those with w."""
    for r in range(block.shape[1]):
        power = min(max(scale[r], LEAST), MOST) if block.itemsize == 4 else scale[r]
        factors[0, r] = factors[2, r] = factor[r] * (scale[r] / power)
        factors[1, r], factors[3, r] = power, 1.0
    for q in range(block.shape[0]):
        for r in range(block.shape[1]):
            block[q, r] *= factors[1, r]


@kernel
def _measured(scale: Any, inverse: Any, squares: Any, block: Any, v: Any) -> Any:
    """`measure_inverse` of rows that are turned already; `squares` has room for a vector."""
    if v.itemsize == 8:
        return measure_inverse(scale, inverse, v)
    squares_of_lanes(v, squares.ctypes.data, block.ctypes.data, block.strides[0], v.shape[1])
    for r in range(v.shape[0]):
        scale[r], inverse[r] = 1.0, squares[r]
    zeros = finish(scale, inverse, v.shape[0])
    for r in range(v.shape[0]):
        inverse[r] = 1.0 / inverse[r]
    return zeros


@kernel
def measure_turned(columns: Any, kept: Any, factors: Any, v: Any, g: Any) -> Any:
    """vᵀ, and in `kept` the scale and the inverse length of each row of v; 1 where one is zeros.

    Row r of w is v[r]·factors[1, r]·factors[2, r]; the first, a power of two, is in the columns already. It is 1 unless
    products with v might leave the range where those with w do not, and it comes first, as numbers of v times the other
    factor might leave it too. `factors[0]` is that factor once more, and `factors[3]` is 1: what multiplies columns of
    a product, and what a power of two is to be used with alone. Rows of `columns` have room to the end of a vector,
    which is written too.
    """
    rows, lanes, room = v.shape[0], VECTOR_BYTES // v.itemsize, near(np.float64)
    factor, both = room[:lanes], room[lanes : 2 * lanes]
    for i in range(0, rows, lanes):
        j = min(i + lanes, rows)
        block, scale, inverse = columns[:, i:j], kept[0, i:j], kept[1, i:j]
        turn(block, v[i:j])
        if _measured(scale, inverse, both, block, v[i:j]):
            return 1
        for r in range(j - i):
            factor[r] = g[i + r, 0] * inverse[r]
            both[r] = factor[r] * scale[r]
        if within(both, j - i, -CLOSE, CLOSE):
            for r in range(j - i):
                factors[0, i + r] = factors[2, i + r] = both[r]
                factors[1, i + r] = factors[3, i + r] = 1.0
        else:
            _bring_near(block, factors[:, i:j], scale, factor)
    return 0
