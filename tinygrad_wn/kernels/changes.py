"""Updates of rows, as pieces of LLVM code that also sum how each row changes: Σ Δp² and Σ Δp·p.

Sums run in the dtype of the rows, lane by lane; lanes of several rows are added up together.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from .measure import ROWS
from .rows import TOGETHER
from .rules import FORMULAS, numbers_of, starts_of, updated
from .tiles import with_rest
from .vector import FUSED, INDEX, REAL, SIZE, VECTOR_BYTES, counted, folded, load, piece, splat, store, word


def _looked_at(rows: int, *, turned: bool) -> Any:
    """Make the piece that updates some rows, and adds Σ Δp² and Σ Δp·p of each to the numbers at two addresses.

    The first of the arrays is p, and the others have rows like it. Where there are no numbers, nothing is written: the
    second array holds the new values. Where the last array has ∇w and is to be turned,
    `factors` has the numbers that `across_factors` gives for each row.
    """

    def emit(
        _typing: Any, arrays: Any, numbers: Any, change: Any, along: Any, place: Any, count: Any, row: Any, factors: Any
    ) -> Any:
        dtype = arrays[0].dtype
        real, size = REAL[dtype], SIZE[dtype]
        lanes = VECTOR_BYTES // size
        vector = ir.VectorType(real, lanes)
        formula, writes = FORMULAS[len(arrays), len(numbers)], len(numbers) > 0

        def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
            given, values, change, along, place, count, row, factors = arguments
            starts = starts_of(context, at, arrays, given)
            values = numbers_of(context, at, numbers, values, dtype)

            def factor(kind: int, r: int) -> Any:
                where = at.add(factors, word(size * (kind * ROWS + r)))
                return splat(at, load(at, where, real, size), vector)

            own = [[factor(kind, r) for kind in range(3 * turned)] for r in range(rows)]

            def turn(i: Any, sums: list[Any], flags: Any) -> list[Any]:
                offset, terms = at.add(place, at.mul(i, word(size))), []
                for r in range(rows):
                    places = [at.add(start, at.add(offset, at.mul(row, word(r)))) for start in starts]
                    old, new = updated(at, formula, places, values, flags, own[r], vector, writes=writes)
                    move = at.fsub(new, old)
                    terms += [at.fmul(move, x, flags=FUSED) for x in (move, old)]
                return [at.fadd(x, total, flags=FUSED) for x, total in zip(terms, sums, strict=True)]

            zero = ir.Constant(vector, [ir.Constant(real, 0.0)] * lanes)
            i, sums = counted(at, word(0), count, lanes, [zero] * (2 * rows), lambda i, held: turn(i, held, None))
            totals = with_rest(at, i, count, lanes, sums, lambda flags: turn(i, sums, flags))
            _add(at, (change, along), folded(at, [*totals[::2], *totals[1::2]]), size)
            return context.get_dummy_value()

        return types.void(arrays, numbers, *[types.int64] * 6), build

    return piece(emit)


def _add(at: Any, into: tuple[Any, Any], sums: list[Any], size: int) -> None:
    """Add the first half of the sums to the numbers at one address, the other half to those at another."""
    count = sums[0].type.count
    if len(sums) == 1:
        count //= 2
        kind, parts = ir.VectorType(INDEX, count), (range(count), range(count, 2 * count))
        sums = [at.shuffle_vector(sums[0], sums[0], ir.Constant(kind, list(lanes))) for lanes in parts]
    half = len(sums) // 2
    for start, some in zip(into, (sums[:half], sums[half:]), strict=True):
        for j, x in enumerate(some):
            place = at.add(start, word(size * count * j))
            store(at, at.fadd(load(at, place, x.type, size), x), place, size)


look_1, look_4 = (_looked_at(rows, turned=False) for rows in (1, TOGETHER))
look_1_across, look_4_across = (_looked_at(rows, turned=True) for rows in (1, TOGETHER))
