"""A step of v in one pass over memory: equation 3 gives ∇v number by number, and the rule of an optimizer takes it.

∇v is never written, and new values are the same bit for bit as those of the two one after the other. 1.4 times as fast
as that for arrays of (64, 64) and of (128, 784) float32 numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba import types

from .equation_3 import across_factors, pull_back_apart
from .jit import kernel
from .measure import ROWS
from .room import near
from .rules import FORMULAS, numbers_of, starts_of, update_row, updated
from .tiles import each_vector, first_lanes
from .vector import REAL, SIZE, VECTOR_BYTES, counted, load, piece, size_of, splat, store, word

if TYPE_CHECKING:
    from collections.abc import Callable

SPREAD = 5 * ROWS
"""Where, in the room of `across_factors`, factors are spread over the numbers of narrow rows."""


class RowUpdate:
    """Emits the update of rows of `count` numbers: `turn` updates a vector of them, `factors` make ∇v of ∇w."""

    def __init__(self, at: Any, dtype: Any, turn: Callable[..., None], count: Any, rows: Any, factors: Any) -> None:
        self.at, self.real, self.size, self.lanes = at, REAL[dtype], SIZE[dtype], VECTOR_BYTES // SIZE[dtype]
        self.turn, self.count, self.rows, self.factors = turn, count, rows, factors
        self.vector = ir.VectorType(self.real, self.lanes)

    def each(self, act: Callable[[Any, Any], None]) -> None:
        """Emit `act(r, first number)` for each row."""

        def one(r: Any, _: list[Any]) -> list[Any]:
            act(r, self.at.mul(r, self.count))
            return []

        counted(self.at, word(0), self.rows, 1, [], one)

    def place(self, first: int, i: Any) -> Any:
        """Where number `first` + i of the room of factors is."""
        return self.at.add(self.factors, self.at.mul(self.at.add(i, word(first)), word(self.size)))

    def of_row(self, r: Any) -> list[Any]:
        """The three factors of a row, each in every lane."""
        places = [self.place(kind * ROWS, r) for kind in range(3)]
        return [splat(self.at, load(self.at, place, self.real, self.size), self.vector) for place in places]

    def spread(self, i: Any) -> list[Any]:
        """Where the three factors of number i are, and of those behind it."""
        return [self.place(SPREAD + kind * (ROWS + 1) * self.lanes, i) for kind in range(3)]

    def narrow(self) -> None:
        """Rows that fill no vector, as one row: factors are written once for each number."""

        def put(r: Any, first: Any) -> None:
            for x, place in zip(self.of_row(r), self.spread(first), strict=True):
                store(self.at, x, place, self.size)

        def vector(i: Any, flags: Any) -> None:
            self.turn(i, flags, [load(self.at, place, self.vector, self.size) for place in self.spread(i)])

        self.each(put)
        each_vector(self.at, self.at.mul(self.rows, self.count), self.lanes, vector)

    def wide(self) -> None:
        """Whole vectors of all rows, then what is left of each."""

        def vectors(r: Any, first: Any) -> None:
            by = self.of_row(r)

            def one(i: Any, _: list[Any]) -> list[Any]:
                self.turn(self.at.add(first, i), None, by)
                return []

            counted(self.at, word(0), self.count, self.lanes, [], one)

        self.each(vectors)
        rest = self.at.and_(self.count, word(self.lanes - 1))
        with self.at.if_then(self.at.icmp_signed(">", rest, word(0))):
            flags, whole = first_lanes(self.at, rest, self.lanes), self.at.sub(self.count, rest)
            self.each(lambda r, first: self.turn(self.at.add(first, whole), flags, self.of_row(r)))


@piece
def _update_rows(_typing: Any, arrays: Any, numbers: Any, place: Any, count: Any, rows: Any, factors: Any) -> Any:
    """Update rows of `count` numbers, no more than ROWS; the last array has ∇w, `factors` what makes ∇v of it.

    A vector is never read where part of one was just written: the processor would wait until that is in the cache. It
    takes half the time at (16, 2) and (16, 10), 0.8 of it at (64, 30) and (64, 33), and the same for whole vectors.
    """
    dtype, size = arrays[0].dtype, SIZE[arrays[0].dtype]
    formula = FORMULAS[len(arrays), len(numbers)]

    def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        given, values, place, count, *rest = arguments
        starts = [at.add(start, place) for start in starts_of(context, at, arrays, given)]
        values = numbers_of(context, at, numbers, values, dtype)

        def turn(i: Any, flags: Any, by: list[Any]) -> None:
            places = [at.add(start, at.mul(i, word(size))) for start in starts]
            updated(at, formula, places, values, flags, by, every.vector)

        every = RowUpdate(at, dtype, turn, count, *rest)
        with at.if_else(at.icmp_signed("<", count, word(every.lanes))) as (narrow, wide):
            with narrow:
                every.narrow()
            with wide:
                every.wide()
        return context.get_dummy_value()

    return types.void(arrays, numbers, *[types.int64] * 4), build


@kernel
def pull_back_and_update(dg: Any, kept: Any, g: Any, arrays: Any, numbers: Any) -> None:
    """`pull_back_kept`, and `update` with ∇v, for v, its state and ∇w, whose numbers lie side by side.

    Where float32 does not do, ∇v takes the place of ∇w.
    """
    v, ct = arrays[0], arrays[-1]
    n, room = v.shape[1], near(v)
    for i in range(0, v.shape[0], ROWS):
        j = min(i + ROWS, v.shape[0])
        own, place = (kept[:, i:j], ct[i:j], v[i:j], g[i:j]), i * n * size_of(v)
        if size_of(v) == 4 and n > 1 and across_factors(dg[i:j], room, *own):
            _update_rows(arrays, numbers, place, n, j - i, room.ctypes.data)
        else:
            pull_back_apart(ct[i:j], dg[i:j], own[0], *own[1:])
            update_row(arrays, numbers, place, (j - i) * n)
