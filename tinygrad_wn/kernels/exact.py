"""Quotients, remainders, signs, shifts and powers of numbers as NumPy defines them, where Numba or processors differ.

A processor stops a process that divides the smallest integer by -1, and shifts by the width of a number as if by 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload


def _for_kinds(stand_in: Callable[..., Any], **kinds: Callable[..., Any]) -> None:
    """Choose a definition by the kind of the first argument: "real", "signed" or "unsigned"."""

    def choose(*given: Any) -> Callable[..., Any]:
        first = given[0]
        return kinds["real" if isinstance(first, types.Float) else "signed" if first.signed else "unsigned"]

    def choose_one(x: Any) -> Callable[..., Any]:
        return choose(x)

    def choose_two(a: Any, b: Any) -> Callable[..., Any]:
        return choose(a, b)

    overload(stand_in)(choose_one if stand_in is sign else choose_two)


def floor_divide(a: Any, b: Any) -> Any:
    """⌊a/b⌋; integers by 0 are 0."""


def remainder(a: Any, b: Any) -> Any:
    """What `floor_divide` leaves, with the sign of b."""


def sign(x: Any) -> Any:
    """-1, 0 or 1; NaN for NaN."""


def left_shift(a: Any, b: Any) -> Any:
    """a · 2^b, and 0 where all bits are shifted out."""


def right_shift(a: Any, b: Any) -> Any:
    """⌊a / 2^b⌋."""


def power(a: Any, b: Any) -> Any:
    """a to the power b; of integers, modulo what their dtype holds, where b is not below 0."""


def _power_of(a: Any, b: Any) -> Callable[..., Any]:
    def of_reals(a: Any, b: Any) -> Any:
        return np.power(a, b)

    if isinstance(a, types.Float) or isinstance(b, types.Float):
        return of_reals
    number = getattr(np, str(a))

    def of_integers(a: Any, b: Any) -> Any:
        result, factor, left = number(1), a, np.int64(b)
        while left > 0:
            if left & 1:
                result = number(result * factor)
            factor = number(factor * factor)
            left >>= 1
        return result

    return of_integers


def _real_quotient(a: Any, b: Any) -> Any:
    if b == 0:
        return a / b
    rest = np.fmod(a, b)
    quotient = (a - rest) / b
    if rest != 0 and (b < 0) != (rest < 0):
        quotient -= 1
    if quotient == 0:
        return math.copysign(0.0, a / b)
    whole = np.floor(quotient)
    return whole + 1 if quotient - whole > 0.5 else whole


def _signed_quotient(a: Any, b: Any) -> Any:
    return 0 if b == 0 else -a if b == -1 else a // b


def _unsigned_quotient(a: Any, b: Any) -> Any:
    return a // b if b != 0 else b


def _real_remainder(a: Any, b: Any) -> Any:
    rest = np.fmod(a, b)
    if rest == 0:
        return math.copysign(0.0, b)
    return rest + b if (b < 0) != (rest < 0) else rest


def _signed_remainder(a: Any, b: Any) -> Any:
    return 0 if b == 0 or b == -1 else a % b


def _unsigned_remainder(a: Any, b: Any) -> Any:
    return a % b if b != 0 else b


def _signed_sign(x: Any) -> Any:
    return 1 if x > 0 else -1 if x < 0 else 0


def _unsigned_sign(x: Any) -> Any:
    return 1 if x > 0 else 0


def _real_sign(x: Any) -> Any:
    return 1.0 if x > 0 else -1.0 if x < 0 else 0.0 if x == 0 else x


def _bits(a: Any) -> int:
    return int(a.bitwidth)


def _bits_of(a: Any) -> Callable[..., Any]:
    width = a.bitwidth

    def bits(a: Any) -> Any:
        return width

    return bits


def _left(a: Any, b: Any) -> Any:
    return a << b if 0 <= b < _bits(a) else a ^ a


def _signed_right(a: Any, b: Any) -> Any:
    return a >> b if 0 <= b < _bits(a) else -1 if a < 0 else 0


def _unsigned_right(a: Any, b: Any) -> Any:
    return a >> b if b < _bits(a) else a ^ a


overload(_bits)(_bits_of)
overload(power)(_power_of)
_for_kinds(floor_divide, real=_real_quotient, signed=_signed_quotient, unsigned=_unsigned_quotient)
_for_kinds(remainder, real=_real_remainder, signed=_signed_remainder, unsigned=_unsigned_remainder)
_for_kinds(sign, real=_real_sign, signed=_signed_sign, unsigned=_unsigned_sign)
_for_kinds(left_shift, signed=_left, unsigned=_left)
_for_kinds(right_shift, signed=_signed_right, unsigned=_unsigned_right)
