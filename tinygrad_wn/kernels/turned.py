"""Weights of small layers as columns: turned once, so that a product reads whole vectors of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .each_row import factors_of_rows, inverses_of_rows, side_by_side_at
from .jit import inlined, kernel
from .measure import measure_inverse, power_and_factor
from .panels import turn
from .room import near
from .rows import squares_of_lanes
from .vector import VECTOR_BYTES, size_of


@kernel
def _bring_near(block: Any, factors: Any, scale: Any, inverse: Any, g: Any) -> None:
    """Columns times powers of two, so that products with them are about as large as those with w."""
    for r in range(block.shape[1]):
        power, factor = power_and_factor(scale[r], inverse[r], g[r, 0], size_of(block))
        factors[0, r] = factors[2, r] = factor
        factors[1, r], factors[3, r] = power, 1.0
    for q in range(block.shape[0]):
        for r in range(block.shape[1]):
            block[q, r] *= factors[1, r]


@inlined
def _measured(scale: Any, inverse: Any, squares: Any, block: Any, v: Any) -> Any:
    """`measure_inverse` of rows that are turned already; `squares` has room for a vector."""
    if size_of(v) == 8:
        return measure_inverse(scale, inverse, v)
    squares_of_lanes(v, squares.ctypes.data, block.ctypes.data, block.strides[0], v.shape[1])
    return inverses_of_rows(scale.ctypes.data, inverse.ctypes.data, squares.ctypes.data, v.shape[0])


@kernel
def measure_turned(columns: Any, kept: Any, factors: Any, v: Any, g: Any) -> Any:
    """vᵀ, and in `kept` the scale and the inverse length of each row of v; 1 where one is zeros.

    Row r of w is v[r]·factors[1, r]·factors[2, r]; the first, a power of two, is in the columns already. It is 1 unless
    products with v might leave the range where those with w do not, and it comes first, as numbers of v times the other
    factor might leave it too. `factors[0]` is that factor once more, and `factors[3]` is 1: what multiplies columns of
    a product, and what a power of two is to be used with alone. Rows of `columns` have room to the end of a vector,
    which is written too.
    """
    rows, lanes, room = v.shape[0], VECTOR_BYTES // size_of(v), near(np.float64)
    numbers = near(g)
    for i in range(0, rows, lanes):
        j = min(i + lanes, rows)
        block, scale, inverse, own = columns[:, i:j], kept[0, i:j], kept[1, i:j], factors[:, i:j]
        turn(block, v[i:j])
        if _measured(scale, inverse, room, block, v[i:j]):
            return 1
        places = (own.ctypes.data, own.strides[0], scale.ctypes.data, inverse.ctypes.data)
        if factors_of_rows(v, *places, side_by_side_at(g[i:j], numbers), j - i):
            _bring_near(block, own, scale, inverse, g[i:j])
    return 0
