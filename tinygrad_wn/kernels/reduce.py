"""What loops of emitted steps call for one number after the other when they reduce."""

from __future__ import annotations

import math
from typing import Any

from .jit import kernel
from .loss import rank


@kernel
def larger(a: Any, b: Any) -> Any:
    """The larger of two integers or booleans."""
    return max(a, b)


@kernel
def smaller(a: Any, b: Any) -> Any:
    """The smaller of two integers or booleans."""
    return min(a, b)


@kernel
def rank_above(x: Any) -> Any:
    """An integer that is larger for larger numbers, and largest for NaN: the largest of many is found in vectors."""
    return rank(x if x == x else abs(x))


@kernel
def rank_below(x: Any) -> Any:
    """An integer that is larger for larger numbers, and smallest for NaN."""
    return rank(x if x == x else -abs(x))


@kernel
def earlier(place: Any, here: Any, count: Any, x: Any, top: Any) -> Any:
    """The earlier of two places of `count`, where the second counts only if x is the largest value, or NaN."""
    return min(place, here if (x == top) | (x != x) else count)


@kernel
def finite_or_zero(x: Any) -> Any:
    """x, but 0 for NaN and infinity."""
    return x if math.isfinite(x) else 0.0


@kernel
def exponent_of(x: Any) -> Any:
    """e with x = m·2ᵉ, ½ ≤ m < 1."""
    return math.frexp(x)[1]


@kernel
def root(x: Any) -> Any:
    """√x."""
    return math.sqrt(x)


@kernel
def outside(i: Any, n: Any) -> Any:
    """1 where n things have none at place i, else 0."""
    return 1 if i < -n or i >= n else 0


@kernel
def wrapped(i: Any, n: Any) -> Any:
    """Place i of n, where negative places count from the end."""
    return i + n if i < 0 else i


@kernel
def boundless(x: Any) -> Any:
    """Whether a number is NaN or infinite."""
    return not abs(x) < math.inf
