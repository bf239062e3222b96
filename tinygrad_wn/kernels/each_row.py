"""One number a row: lengths that follow from sums of squares, and factors that follow from lengths, in whole vectors.

Roots and quotients take as long for a vector as for a number, and rows of a small layer are few. Numbers of rows lie
side by side, at addresses; float64 but where the dtype of `like` is named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba import types

from .jit import inlined
from .tiles import load_some, store_some, with_rest
from .vector import REAL, SIZE, VECTOR_BYTES, WIDE, WORD, counted, load, piece, roots, size_of, store, word

if TYPE_CHECKING:
    from collections.abc import Callable

DIGITS, EXPONENTS, BIAS = 52, 0x7FF, 1023
"""How float64 has its exponent in its bits."""

CLOSE, NEAR_ONE, MEDIUM, LARGE = 20, 30, 60, 126
"""Exponents. What is multiplied by less than the first is about as far from the ends of the range as before; products
of a few numbers up to the second are far from the ends of the range of float32; up to the third, a number and what it
lost in rounding are in it; up to the fourth, powers of two are.
"""

MANY = VECTOR_BYTES // 8
NUMBERS, WORDS = ir.VectorType(WIDE, MANY), ir.VectorType(WORD, MANY)


class Rows:
    """Some rows at once: as many as a vector has lanes, or only those that have a flag."""

    def __init__(self, at: Any, i: Any, flags: Any) -> None:
        self.at, self.i, self.flags = at, i, flags

    def load(self, start: Any, real: Any = WIDE, size: int = 8) -> Any:
        """Their numbers, in float64; 0 in lanes without a flag."""
        place, kind = self.at.add(start, self.at.mul(self.i, word(size))), ir.VectorType(real, MANY)
        if self.flags is None:
            found = load(self.at, place, kind, size)
        else:
            found = load_some(self.at, place, kind, self.flags, size)
        return found if size == 8 else self.at.fpext(found, NUMBERS)

    def store(self, x: Any, start: Any, real: Any = WIDE, size: int = 8) -> None:
        """Write their numbers, rounded to their dtype."""
        x = x if size == 8 else self.at.fptrunc(x, ir.VectorType(real, MANY))
        place = self.at.add(start, self.at.mul(self.i, word(size)))
        if self.flags is None:
            store(self.at, x, place, size)
        else:
            store_some(self.at, x, place, self.flags, size)

    def only(self, found: Any) -> Any:
        """Words of lanes that count, and 0."""
        return found if self.flags is None else self.at.and_(found, self.at.sext(self.flags, WORDS))


def _each(at: Any, count: Any, turn: Callable[[Rows], Any]) -> Any:
    """Emit a loop over vectors of rows; whether one of the words that turns give is below 0, as an integer."""
    nothing = ir.Constant(WORDS, [0] * MANY)
    i, (found,) = counted(
        at, word(0), count, MANY, [nothing], lambda i, held: [at.or_(held[0], turn(Rows(at, i, None)))]
    )

    def last(flags: Any) -> list[Any]:
        rows = Rows(at, i, flags)
        return [at.or_(found, rows.only(turn(rows)))]

    (whole,) = with_rest(at, i, count, MANY, [found], last)
    below = at.bitcast(at.icmp_signed("<", whole, nothing), ir.IntType(MANY))
    return at.zext(at.icmp_unsigned("!=", below, ir.Constant(below.type, 0)), WORD)


def _words(value: int) -> Any:
    return ir.Constant(WORDS, [value] * MANY)


def _exponents(at: Any, x: Any) -> Any:
    """The exponents of numbers, biased."""
    return at.and_(at.lshr(at.bitcast(x, WORDS), _words(DIGITS)), _words(EXPONENTS))


def _powers(at: Any, x: Any) -> Any:
    """As `power_for`."""
    exponents, most = _exponents(at, x), _words(2 * BIAS - 2)
    least = at.select(at.icmp_signed("<", exponents, most), exponents, most)
    return at.bitcast(at.shl(at.sub(_words(2 * BIAS - 1), least), _words(DIGITS)), NUMBERS)


def _outside(at: Any, x: Any, low: int, high: int, *, zero: bool = False) -> Any:
    """Words below 0 where sizes are not between these powers of two; 0 is not, unless it is allowed."""
    exponents = _exponents(at, x)
    found = at.or_(at.sub(exponents, _words(BIAS + low)), at.sub(_words(BIAS + high), exponents))
    return at.and_(found, at.sext(at.icmp_unsigned("!=", exponents, _words(0)), WORDS)) if zero else found


def _measured(*, inverted: bool) -> Any:
    """Make the piece that turns sums of squares into a scale and a length, or 1 over it; whether one is 0."""

    def emit(_typing: Any, scale: Any, length: Any, squares: Any, count: Any) -> Any:
        one = ir.Constant(NUMBERS, [ir.Constant(WIDE, 1.0)] * MANY)

        def build(_context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
            scale, length, squares, count = arguments

            def turn(rows: Rows) -> Any:
                root = roots(at, rows.load(squares))
                power = _powers(at, root)
                own = at.fmul(root, power)
                rows.store(power, scale)
                rows.store(at.fdiv(one, own) if inverted else own, length)
                return at.sext(at.fcmp_ordered("==", root, ir.Constant(NUMBERS, None)), WORDS)

            return _each(at, count, turn)

        return types.int64(*[types.int64] * 4), build

    return piece(emit)


lengths_of_rows, inverses_of_rows = _measured(inverted=False), _measured(inverted=True)
"""scale, length ← what `measure` says, of rows whose sums of squares lost nothing at the ends of the range."""


@piece
def factors_of_rows(_typing: Any, like: Any, to: Any, to_row: Any, scale: Any, inverse: Any, g: Any, count: Any) -> Any:
    """The factors that `measure_turned` gives, for rows whose factor is close to 1; 1 if some are not."""
    real, size = REAL[like.dtype], SIZE[like.dtype]

    def build(_context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        _, to, to_row, scale, inverse, g, count = arguments
        places = [at.add(to, at.mul(to_row, word(r))) for r in range(4)]
        one = ir.Constant(NUMBERS, [ir.Constant(WIDE, 1.0)] * MANY)

        def turn(rows: Rows) -> Any:
            both = at.fmul(at.fmul(rows.load(g, real, size), rows.load(inverse)), rows.load(scale))
            for x, place in zip((both, one, both, one), places, strict=True):
                rows.store(x, place, real, size)
            return _outside(at, both, -CLOSE, CLOSE)

        return _each(at, count, turn)

    return types.int64(like, *[types.int64] * 6), build


@piece
def slopes_of_rows(
    _typing: Any,
    like: Any,
    dg: Any,
    high: Any,
    low: Any,
    factor: Any,
    along: Any,
    scale: Any,
    inverse: Any,
    g: Any,
    count: Any,
) -> Any:
    """dg, and what equation 3 multiplies rows with, from the dot products `along`; 1 if it needs more than float32.

    ∇v is factor·((ct - high·v) - low·v). Of the results, dg, high, low and factor have the dtype of `like`, as has g.
    """
    real, size = REAL[like.dtype], SIZE[like.dtype]

    def build(_context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        _, dg, high, low, factor, along, scale, inverse, g, count = arguments

        def turn(rows: Rows) -> Any:
            by, over = rows.load(scale), rows.load(inverse)
            slope = at.fmul(at.fmul(rows.load(along), by), over)
            part, times = at.fmul(slope, over), at.fmul(rows.load(g, real, size), over)
            # part is 0 where nothing reaches a row, as for a unit that never fires
            outside = at.or_(_outside(at, part, -MEDIUM, NEAR_ONE, zero=True), _outside(at, times, -NEAR_ONE, NEAR_ONE))
            whole = at.fmul(part, by)
            top = at.fptrunc(whole, ir.VectorType(real, MANY)) if size == 4 else whole
            rest = at.fsub(whole, at.fpext(top, NUMBERS)) if size == 4 else ir.Constant(NUMBERS, None)
            for x, to in ((slope, dg), (whole, high), (rest, low), (at.fmul(times, by), factor)):
                rows.store(x, to, real, size)
            return at.or_(outside, _outside(at, by, -NEAR_ONE, NEAR_ONE))

        return _each(at, count, turn)

    return types.int64(like, *[types.int64] * 9), build


@inlined
def side_by_side_at(column: Any, room: Any) -> Any:
    """Where the numbers of a column lie side by side: there, or copied into `room`."""
    if column.strides[0] == size_of(column) or column.shape[0] == 1:
        return column.ctypes.data
    for i in range(column.shape[0]):
        room[i] = column[i, 0]
    return room.ctypes.data
