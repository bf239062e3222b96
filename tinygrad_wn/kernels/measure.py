"""The lengths of rows, which are measured at any scale, and what follows for computing with them.

A row v is read as v̂ = v·scale, with a power of two for scale that brings its length near 1: that rounds nothing. Raw
squares of float32 never leave the range of float64, nor do those of most rows of float64, so the scale is found from
their sum, in one pass; a row near the ends of the range takes two.
"""

from __future__ import annotations

import math
from typing import Any

from .jit import kernel
from .rows import squares_of_rows, squares_of_scaled_row
from .vector import bits_of, float_of

DIGITS, EXPONENTS, BIAS = 52, 0x7FF, 1023
"""How float64 has its exponent in its bits."""

SAFE = 2.0**900
"""Sums of squares between 1/SAFE and SAFE have lost nothing, neither at the top nor at the bottom of the range."""

LEAST, MOST = 2.0**-126, 2.0**126
"""Powers of two between them are normal numbers of float32, and so are their inverses."""

CLOSE, NEAR_ONE, MEDIUM, LARGE = 20, 30, 60, 126
"""Exponents. What is multiplied by less than the first is about as far from the ends of the range as before; products
of a few numbers up to the second are far from the ends of the range of float32; up to the third, a number and what it
lost in rounding are in it; up to the fourth, powers of two are.
"""

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
    """The largest size of a number in a row, or NaN."""
    top = 0.0
    for j in range(v.shape[1]):
        if not abs(v[i, j]) <= top:  # true for NaN as well
            top = abs(v[i, j])
            if math.isnan(top):
                break
    return top


@kernel
def finish(scale: Any, length: Any, count: Any) -> Any:
    """From sums of squares to lengths near 1, and what they were scaled by; whether one is 0."""
    zeros = 0
    for i in range(count):
        root = math.sqrt(length[i])
        power = power_for(root)
        length[i], scale[i] = root * power, scale[i] * power
        zeros |= root == 0.0
    return zeros != 0


@kernel
def measure(scale: Any, length: Any, v: Any) -> Any:
    """The scale of each row of v, and the length of the scaled row; whether there is a row of zeros."""
    squares_of_rows(length, v)
    for i in range(v.shape[0]):
        scale[i] = 1.0
    if v.itemsize == 8:
        for i in range(v.shape[0]):
            if not 1.0 / SAFE < length[i] < SAFE:
                scale[i] = power_for(largest(v, i))
                squares_of_scaled_row(length, v, i, scale[i])
    return finish(scale, length, v.shape[0])


@kernel
def measure_inverse(scale: Any, inverse: Any, v: Any) -> Any:
    """The scale of each row of v, and 1 over the length of the scaled row; whether there is a row of zeros."""
    zeros = measure(scale, inverse, v)
    for i in range(v.shape[0]):
        inverse[i] = 1.0 / inverse[i]
    return zeros


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


@kernel
def within_or_zero(x: Any, count: Any, low: Any, high: Any) -> Any:
    """The same, but 0 is."""
    outside = 0
    for i in range(count):
        exponent = (bits_of(x[i]) >> DIGITS & EXPONENTS) - BIAS
        outside |= ((exponent - low) | (high - exponent)) & -(exponent != -BIAS)
    return outside >= 0
