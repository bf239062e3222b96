"""eˣ and log x without a call or a branch, so that a loop over them becomes vector code.

eˣ is right to 1.25 units in the last place and log x to 1, from the smallest subnormal number to infinity: the worst of
all float32 numbers are off by 1.09 and 0.85 units, the worst of 120 million float64 numbers by 1.16 and 0.88.

eˣ = 2ⁿ·eʳ with |r| ≤ log(2)/2, and log x = n·log 2 + log m with √½ ≤ m < √2; log 2 is split in two, so that r has all
its bits (Cody & Waite 1980). The polynomials go through the function's values at Chebyshev's points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import types

from .vector import FUSED, REAL, SIZE, piece


@dataclass(frozen=True)
class Kind:
    """Constants of a float type: x is kept between `low` and `high`; `log2` = log 2, in a short and a small part."""

    digits: int
    low: float
    high: float
    log2: tuple[float, float]
    exp: tuple[float, ...]
    log: tuple[float, ...]

    @property
    def shift(self) -> float:
        """Plus this, a number is rounded to an integer, which is then in its lowest bits."""
        return 1.5 * 2.0**self.digits


KINDS = {
    types.float32: Kind(
        digits=23,
        low=-104.0,
        high=89.0,
        log2=(0.693145751953125, 1.428606765330187e-06),
        exp=(0.5, 0.16666576666119928, 0.04166655421298415, 0.008363232883682618, 0.0013926250831497611),
        log=(0.6666668509542907, 0.39988757716604845, 0.29580985929974424),
    ),
    types.float64: Kind(
        digits=52,
        low=-746.0,
        high=710.0,
        log2=(0.6931471803691238, 1.9082149292705877e-10),
        exp=(
            *(0.5, 0.16666666666666669, 0.041666666666623824, 0.008333333333330039, 0.0013888888917367081),
            *(0.00019841269863171557, 2.4801521057868204e-05, 2.7557268276905696e-06, 2.7620201591031547e-07),
            2.5100472505694996e-08,
        ),
        log=(
            *(0.666666666666667, 0.3999999999989889, 0.28571428626253836, 0.22222211089379496),
            *(0.1818289243253687, 0.15331611722055008, 0.14617807153417325),
        ),
    ),
}
"""exp: (eʳ - 1 - r)/r², by powers of r. log: (log m - 2s)/s³ with s = (m - 1)/(m + 1), by powers of s²."""


class Writer:
    """Writes the arithmetic of one float type: of single numbers, or of vectors of `lanes`."""

    def __init__(self, at: Any, of: Any, lanes: int = 1) -> None:
        self.at, self.kind, self.lanes = at, KINDS[of], lanes
        self.real, self.word = self._form(REAL[of]), self._form(ir.IntType(8 * SIZE[of]))
        self.bias = (1 << 8 * SIZE[of] - 2 - self.kind.digits) - 1

    def _form(self, kind: Any) -> Any:
        return kind if self.lanes == 1 else ir.VectorType(kind, self.lanes)

    def _constant(self, kind: Any, value: Any) -> Any:
        return ir.Constant(kind, value if self.lanes == 1 else [ir.Constant(kind.element, value)] * self.lanes)

    def number(self, value: float) -> Any:
        """A constant."""
        return self._constant(self.real, value)

    def whole(self, value: int) -> Any:
        """A constant for bits."""
        return self._constant(self.word, value)

    def fused(self, a: Any, b: Any, c: Any) -> Any:
        """a·b + c, rounded once where the machine can."""
        return self.at.fadd(self.at.fmul(a, b, flags=FUSED), c, flags=FUSED)

    def polynomial(self, x: Any, factors: tuple[float, ...]) -> Any:
        """Σ factor·xⁱ by Horner's rule."""
        found = self.number(factors[-1])
        for factor in factors[-2::-1]:
            found = self.fused(found, x, self.number(factor))
        return found

    def bits(self, x: Any) -> Any:
        """The bits of a float, as an integer."""
        return self.at.bitcast(x, self.word)

    def power(self, n: Any) -> Any:
        """2ⁿ for an integer n, where that is a normal number."""
        bits = self.at.shl(self.at.add(n, self.whole(self.bias)), self.whole(self.kind.digits))
        return self.at.bitcast(bits, self.real)

    def chosen(self, x: Any, how: str, y: Any, value: Any) -> Any:
        """`value` where x is `how` to y, else x; NaN stays."""
        return self.at.select(self.at.fcmp_ordered(how, x, y), value, x)


def write_exp(at: Any, to: Writer, x: Any) -> Any:
    """Emit eˣ."""
    low, high, shift = (to.number(value) for value in (to.kind.low, to.kind.high, to.kind.shift))
    y = to.chosen(to.chosen(x, "<", low, low), ">", high, high)
    near = to.fused(y, to.number(1.4426950408889634), shift)
    n = at.fsub(near, shift)
    for part in to.kind.log2:
        y = to.fused(n, to.number(-part), y)
    beyond = to.fused(at.fmul(y, y), to.polynomial(y, to.kind.exp), y)
    power = at.sub(to.bits(near), to.bits(shift))
    half = at.ashr(power, to.whole(1))  # in two steps, as 2ⁿ itself can be subnormal, or above all numbers
    return at.fmul(at.fmul(at.fadd(to.number(1.0), beyond), to.power(half)), to.power(at.sub(power, half)))


def write_log(at: Any, to: Writer, x: Any) -> Any:
    """Emit log x."""
    digits, zero, inf = to.kind.digits, to.number(0.0), to.number(float("inf"))
    least, lift = to.number(2.0 ** (1 - to.bias)), to.number(2.0**digits)
    small = at.fcmp_ordered("<", x, least)
    bits = to.bits(at.select(small, at.fmul(x, lift), x))
    root = to.bits(to.number(0.5**0.5))
    power = at.ashr(at.sub(bits, root), to.whole(digits))
    m = at.bitcast(at.sub(bits, at.shl(power, to.whole(digits))), to.real)
    power = at.sub(power, at.select(small, to.whole(digits), to.whole(0)))
    shift = to.number(to.kind.shift)
    n = at.fsub(at.bitcast(at.add(power, to.bits(shift)), to.real), shift)
    f = at.fsub(m, to.number(1.0))
    s = at.fdiv(f, at.fadd(to.number(2.0), f))
    squares = at.fmul(s, s)
    rest = at.fmul(squares, to.polynomial(squares, to.kind.log))
    half = at.fmul(at.fmul(to.number(0.5), f), f)
    inner = at.fadd(half, rest)
    y = at.fsub(f, at.fsub(half, to.fused(s, inner, at.fmul(n, to.number(to.kind.log2[1])))))
    y = to.fused(n, to.number(to.kind.log2[0]), y)
    y = at.select(at.fcmp_ordered("<", x, zero), to.number(float("nan")), y)
    y = at.select(at.fcmp_ordered("==", x, zero), to.number(float("-inf")), y)
    return at.select(at.fcmp_ordered("<", x, inf), y, x)  # infinity stays, and so does NaN


@piece
def exp(_typing: Any, x: Any) -> Any:
    """eˣ of a float32 or float64 number."""

    def build(_context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        return write_exp(at, Writer(at, x), arguments[0])

    return x(x), build


@piece
def log(_typing: Any, x: Any) -> Any:
    """The natural logarithm of a float32 or float64 number: -inf of 0, NaN below."""

    def build(_context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        return write_log(at, Writer(at, x), arguments[0])

    return x(x), build
