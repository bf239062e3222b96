"""Updates of rows, as pieces of LLVM code that also sum how each row changes: Σ Δp² and Σ Δp·p.

The formulas are those of `rules.py`, operation for operation, so that new values are the same bit for bit. Sums run in
the dtype of the rows, lane by lane; lanes of several rows are added up together.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .measure import ROWS
from .rows import TOGETHER, slope_of_v
from .tiles import first_lanes, load_some, store_some
from .vector import FUSED, INDEX, REAL, SIZE, VECTOR_BYTES, counted, folded, load, piece, roots, splat, store, word


def _compared(at: Any, old: Any, new: Any) -> list[Any]:
    return [new]


def _chosen(at: Any, number: Any, x: Any, other: Any) -> Any:
    """x where a number is not 0."""
    return at.select(at.fcmp_unordered("!=", number, ir.Constant(number.type, None)), x, other)


def _slope(at: Any, p: Any, g: Any, decay: Any = None) -> Any:
    return g if decay is None else _chosen(at, decay, at.fadd(g, at.fmul(decay, p)), g)


def _descended(at: Any, p: Any, g: Any, rate: Any, *decay: Any) -> list[Any]:
    return [at.fsub(p, at.fmul(rate, _slope(at, p, g, *decay)))]


def _rolled(at: Any, p: Any, m: Any, g: Any, rate: Any, momentum: Any, *more: Any) -> list[Any]:
    slope = _slope(at, p, g, *more[1:])
    new = at.fadd(at.fmul(momentum, m), slope)
    step = _chosen(at, more[0], at.fadd(slope, at.fmul(momentum, new)), new) if more else new
    return [at.fsub(p, at.fmul(rate, step)), new]


def _adapted(at: Any, p: Any, m: Any, s: Any, g: Any, *numbers: Any) -> list[Any]:
    pace, rise, beta1, beta2, new1, new2, eps, *decays = numbers
    slope = _slope(at, p, g, *decays[1:])
    m = at.fadd(at.fmul(beta1, m), at.fmul(new1, slope))
    s = at.fadd(at.fmul(beta2, s), at.fmul(at.fmul(new2, slope), slope))
    kept = _chosen(at, decays[0], at.fsub(p, at.fmul(decays[0], p)), p) if decays else p
    return [at.fsub(kept, at.fmul(pace, at.fdiv(m, at.fadd(at.fmul(roots(at, s), rise), eps)))), m, s]


FORMULAS: dict[tuple[int, int], Any] = {
    (2, 0): _compared,
    (2, 1): _descended,
    (2, 2): _descended,
    (3, 2): _rolled,
    (3, 4): _rolled,
    (4, 7): _adapted,
    (4, 9): _adapted,
}
"""New values, by how many arrays and how many numbers there are; as in `rules.py`, bit for bit. What few ask for, such
as decay, needs numbers of its own, so that others do not wait for it.
"""


def updated(
    at: Any,
    formula: Any,
    places: list[Any],
    values: list[Any],
    flags: Any,
    factors: list[Any],
    vector: Any,
    *,
    writes: bool = True,
) -> tuple[Any, Any]:
    """Emit an update of a vector of each array, those at the first `places` in place; p before and after it.

    Where there are factors, the last array has ∇w, of which they make ∇v. Only lanes with a flag are there.
    """
    size = 4 if vector.element == ir.FloatType() else 8
    if flags is None:
        given = [load(at, one, vector, size) for one in places]
    else:
        given = [load_some(at, one, vector, flags, size) for one in places]
    if factors:
        given[-1] = slope_of_v(at, given[-1], given[0], *factors)
    new = formula(at, *given, *values)
    for x, to in zip(new if writes else [], places, strict=False):
        if flags is None:
            store(at, x, to, size)
        else:
            store_some(at, x, to, flags, size)
    return given[0], new[0]


def _looked_at(rows: int, *, turned: bool) -> Any:
    """Make the piece that updates some rows, and adds Σ Δp² and Σ Δp·p of each to the numbers at two addresses.

    `rest` holds the addresses of p and of arrays with rows like it, the last of which is only read. Where there are no
    numbers, nothing is written: the second array holds the new values. Where the last array has ∇w and is to be turned,
    `factors` has the numbers that `across_factors` gives for each row.
    """

    def emit(
        _typing: Any,
        p: Any,
        change: Any,
        along: Any,
        place: Any,
        count: Any,
        row: Any,
        rest: Any,
        numbers: Any,
        factors: Any,
    ) -> Any:
        real, size = REAL[p.dtype], SIZE[p.dtype]
        lanes = VECTOR_BYTES // size
        vector = ir.VectorType(real, lanes)
        formula, writes = FORMULAS[len(rest), len(numbers)], len(numbers) > 0

        def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
            _, change, along, place, count, row, rest, numbers, factors = arguments
            starts = cgutils.unpack_tuple(at, rest)
            values = [splat(at, x, vector) for x in cgutils.unpack_tuple(at, numbers)]

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
            before, more, after = at.block, at.append_basic_block("more"), at.append_basic_block("after")
            at.cbranch(at.icmp_signed("<", i, count), more, after)
            at.position_at_end(more)
            found = turn(i, sums, first_lanes(at, at.sub(count, i), lanes))
            at.branch(after)
            at.position_at_end(after)
            totals = []
            for x, y in zip(sums, found, strict=True):
                total = at.phi(vector)
                total.add_incoming(x, before)
                total.add_incoming(y, more)
                totals.append(total)
            _add(at, (change, along), folded(at, [*totals[::2], *totals[1::2]]), size)
            return context.get_dummy_value()

        return types.void(p, *[types.int64] * 5, rest, numbers, types.int64), build

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
