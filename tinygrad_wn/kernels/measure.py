"""The lengths of rows, which are measured at any scale, and what follows for computing with them.

A row v is read as v̂ = v·scale, with a power of two for scale that brings its length near 1: that rounds nothing. Raw
squares of float32 never leave the range of float64, nor do those of most rows of float64, so the scale is found from
their sum, in one pass; a row near the ends of the range takes two.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .each_row import BIAS, DIGITS, EXPONENTS, inverses_of_rows, lengths_of_rows
from .jit import inlined, kernel
from .rows import squares_of_rows, squares_of_scaled_row
from .vector import bits_of, float_of, size_of

SAFE = 2.0**900
"""Sums of squares between 1/SAFE and SAFE have lost nothing, neither at the top nor at the bottom of the range."""

LARGEST_POWER = 2.0**1022
"""The largest power of two whose inverse is a normal number."""

QUARTERED = 2.0**1020
"""A power of two has room for four times as much below it."""

LEAST, MOST = 2.0**-126, 2.0**126
"""Powers of two between them are normal numbers of float32, and so are their inverses."""

BLOCK = 1 << 15
"""Numbers of v that are measured before they are used: few enough to be near still, and rows of one vector at least."""

ROWS = 64
"""Rows of a block at most."""


@kernel
def power_for(top: Any) -> Any:
    """2⁻ᵉ with top·2⁻ᵉ in [½, 1), if that is a normal number; else the nearest one. For 0 and infinity it is any."""
    exponent = bits_of(top) >> DIGITS & EXPONENTS
    return float_of(2 * BIAS - 1 - min(exponent, 2 * BIAS - 2) << DIGITS)


@kernel
def largest(v: Any, i: Any) -> Any:
    """The largest size in a row; NaN where there is one."""
    top = 0.0
    for j in range(v.shape[1]):
        if not abs(v[i, j]) <= top:  # true for NaN as well
            top = abs(v[i, j])
            if math.isnan(top):
                break
    return top


@kernel
def measure(scale: Any, length: Any, v: Any) -> Any:
    """The scale of each row of v, and the length of the scaled row; whether there is a row of zeros."""
    squares_of_rows(length, v)
    if size_of(v) == 4:
        return lengths_of_rows(scale.ctypes.data, length.ctypes.data, length.ctypes.data, v.shape[0])
    zeros = False
    for i in range(v.shape[0]):
        first = 1.0
        if not 1.0 / SAFE < length[i] < SAFE:
            first = power_for(largest(v, i))
            squares_of_scaled_row(length, v, i, first)
        root = math.sqrt(length[i])
        power = power_for(root)
        length[i], scale[i] = root * power, first * power
        zeros |= root == 0.0
        if scale[i] == math.inf:  # numbers near the smallest there is stay below 1, however they are scaled
            scale[i] = LARGEST_POWER
            squares_of_scaled_row(length, v, i, scale[i])
            length[i] = math.sqrt(length[i])
    return zeros


@inlined
def measure_inverse(scale: Any, inverse: Any, v: Any) -> Any:
    """The scale of each row of v, and 1 over the length of the scaled row; whether there is a row of zeros."""
    if size_of(v) == 4:
        squares_of_rows(inverse, v)
        return inverses_of_rows(scale.ctypes.data, inverse.ctypes.data, inverse.ctypes.data, v.shape[0])
    zeros = measure(scale, inverse, v)
    for i in range(v.shape[0]):
        inverse[i] = 1.0 / inverse[i]
    return zeros


@kernel
def in_turn(factor: Any, scale: Any) -> Any:
    """Two factors that make up factor·scale, for a power of two: no product with both leaves the range on its way."""
    if (abs(factor) > 1.0) == (scale > 1.0):
        return factor, scale
    return factor * scale, 1.0


@kernel
def factor_for(g: Any, inverse: Any, scale: Any) -> Any:
    """g·inverse and the scale; where the first would leave the range, a quarter of it and four times the second."""
    factor = np.float64(g) * inverse
    if abs(factor) < math.inf or not scale < QUARTERED:
        return factor, scale
    return np.float64(g) / 4 * inverse, scale * 4


@kernel
def power_and_factor(scale: Any, inverse: Any, g: Any, size: Any) -> Any:
    """A power of two and a factor in the range of the dtype of `size` bytes, whose product is g·inverse·scale.

    An inverse goes up to 2, so the largest g give a part of themselves to the power of two.
    """
    least, most, large = (LEAST, MOST, MOST) if size == 4 else (0.0, LARGEST_POWER, QUARTERED)
    part = 4.0 if abs(g) > large else 1.0
    power = min(max(scale * part, least), most)
    return power, g / part * inverse * (scale / power * part)


@kernel
def times(x: Any, factor: Any, scale: Any) -> Any:
    """x·factor·scale, for a power of two."""
    first, second = in_turn(factor, scale)
    return x * first * second


@kernel
def power_of(scale: Any) -> Any:
    """e of a power of two 2ᵉ."""
    return (bits_of(scale) >> DIGITS & EXPONENTS) - BIAS


@kernel
def shifted(x: Any, power: Any) -> Any:
    """x·2ᵉ for any e, in three steps, none of which goes further than the result."""
    power = min(max(power, -2 * BIAS - DIGITS), 2 * BIAS + DIGITS)
    third = (power + (2 if power < 0 else 0)) // 3
    step = float_of(BIAS + third << DIGITS)
    return x * step * step * float_of(BIAS + power - 2 * third << DIGITS)


@kernel
def rows_at_once(v: Any) -> Any:
    """How many rows make a block."""
    return max(1, min(v.shape[0], ROWS, BLOCK // max(v.shape[1], 1)))


@kernel
def split(high: Any, low: Any, x: Any, count: Any) -> None:
    """Numbers of float64 as sums of two of float32."""
    for i in range(count):
        high[i] = x[i]
        low[i] = x[i] - high[i]


@kernel
def within(x: Any, count: Any, low: Any, high: Any) -> Any:
    """Whether the sizes of all numbers are between these powers of two; 0 is not."""
    outside = 0
    for i in range(count):
        exponent = (bits_of(x[i]) >> DIGITS & EXPONENTS) - BIAS
        outside |= (exponent - low) | (high - exponent)
    return outside >= 0
