"""Tiles of a matrix product, held in registers for the whole sum, and the panels that they read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .vector import FUSED, INDEX, REAL, SIZE, VECTOR_BYTES, WORD, counted, load, piece, splat, store, sum_of_lanes, word

ROWS = 8 if VECTOR_BYTES == 64 else 6
"""Rows of the largest tile: with two vectors a row, the sums fit into the 32 registers of AVX-512, or the 16 before."""

DOTS = (4, 5) if VECTOR_BYTES == 64 else (2, 5)
"""Rows and columns of the largest block of dot products that fits."""


def _multiples(at: Any, step: Any, count: int) -> list[Any]:
    """0, step, 2·step, … for a loop: odd ones in registers, where nobody sees what they are, even ones twice others.

    LLVM would add them up again in each turn, one after the other: a tile of 16 rows takes 1.1 to 1.25 times as long.
    """
    hidden, found = ir.InlineAsm(ir.FunctionType(WORD, [WORD]), "", "=r,0"), [word(0), step]
    for i in range(2, count):
        found.append(at.call(hidden, [at.mul(step, word(i))]) if i % 2 else at.mul(found[i // 2], word(2)))
    return found


class Tile:
    """Emits a tile of a product: `rows` rows of `columns` vectors, whose sums stay in registers while k runs."""

    def __init__(self, at: Any, like: Any, rows: int, columns: int) -> None:
        self.at, self.real, self.size, self.rows, self.columns = at, REAL[like.dtype], SIZE[like.dtype], rows, columns
        self.vector = ir.VectorType(self.real, VECTOR_BYTES // self.size)

    def place(self, base: Any, j: int, row: Any = None, i: int = 0) -> Any:
        """Where vector j of a row begins, of the first one or of row i."""
        base = base if row is None else self.at.add(base, self.at.mul(row, word(i)))
        return self.at.add(base, word(j * VECTOR_BYTES))

    def load(self, *place: Any) -> Any:
        """The vector there."""
        return load(self.at, self.place(*place), self.vector, self.size)

    def sums(self, a: Any, b: Any, start: Any, k_end: Any, a_row: Any, a_k: Any, b_k: Any) -> list[list[Any]]:
        """start + a·b. a is read number by number through any steps, b in whole vectors."""
        at, vector = self.at, self.vector
        first = [self.load(start, j) for j in range(self.columns)]
        below = _multiples(at, a_row, self.rows)
        before, turn, after = at.block, at.append_basic_block("turn"), at.append_basic_block("after")
        at.cbranch(at.icmp_signed(">", k_end, word(0)), turn, after)
        at.position_at_end(turn)
        k, a_now, b_now = (at.phi(WORD) for _ in range(3))
        held = [[at.phi(vector) for _ in range(self.columns)] for _ in range(self.rows)]
        loaded = [self.load(b_now, j) for j in range(self.columns)]
        sums: list[list[Any]] = []
        for i, row in enumerate(held):
            every = splat(at, load(at, at.add(a_now, below[i]), self.real, self.size), vector)
            sums.append(
                [at.fadd(at.fmul(every, x, flags=FUSED), t, flags=FUSED) for x, t in zip(loaded, row, strict=True)]
            )
        following = at.add(k, word(1))
        turns = ((k, word(0), following), (a_now, a, at.add(a_now, a_k)), (b_now, b, at.add(b_now, b_k)))
        for phi, begin, later in turns:
            phi.add_incoming(begin, before)
            phi.add_incoming(later, turn)
        at.cbranch(at.icmp_signed("<", following, k_end), turn, after)
        at.position_at_end(after)
        totals: list[list[Any]] = [[at.phi(vector) for _ in range(self.columns)] for _ in range(self.rows)]
        for i, j in np.ndindex(self.rows, self.columns):
            for phi in (held[i][j], totals[i][j]):
                phi.add_incoming(first[j], before)
                phi.add_incoming(sums[i][j], turn)
        return totals

    def stretched(self, totals: list[list[Any]], stretch: Any, shift: Any) -> list[list[Any]]:
        """Columns times the numbers at `stretch` plus those at `shift`, unless `stretch` is 0."""
        at = self.at
        bare, longer, done = at.block, at.append_basic_block("longer"), at.append_basic_block("done")
        at.cbranch(at.icmp_signed("!=", stretch, word(0)), longer, done)
        at.position_at_end(longer)
        pairs = [(self.load(stretch, j), self.load(shift, j)) for j in range(self.columns)]
        new = [
            [at.fadd(at.fmul(x, by, flags=FUSED), more, flags=FUSED) for x, (by, more) in zip(row, pairs, strict=True)]
            for row in totals
        ]
        at.branch(done)
        at.position_at_end(done)
        found: list[list[Any]] = [[at.phi(self.vector) for _ in row] for row in totals]
        for i, j in np.ndindex(self.rows, self.columns):
            found[i][j].add_incoming(totals[i][j], bare)
            found[i][j].add_incoming(new[i][j], longer)
        return found

    def floored(self, totals: list[list[Any]], floor: Any) -> list[list[Any]]:
        """Numbers below `floor` become `floor`; NaN stays."""
        least = splat(self.at, floor, self.vector)
        below = self.at.fcmp_ordered
        return [[self.at.select(below("<", x, least), least, x) for x in row] for row in totals]

    def put(self, totals: list[list[Any]], c: Any, c_row: Any, valid: Any, gate: Any, gate_row: Any) -> None:
        """Write the tile: `valid` numbers of the last vector of a row, or all, as far as the gate is open."""
        at, end = self.at, self.at.append_basic_block("end")
        gated, plain = at.append_basic_block("gated"), at.append_basic_block("plain")
        at.cbranch(at.icmp_signed("!=", gate, word(0)), gated, plain)
        at.position_at_end(gated)
        zero = ir.Constant(self.vector, [ir.Constant(self.real, 0.0)] * self.vector.count)
        for i, j in np.ndindex(self.rows, self.columns):
            there = at.fcmp_ordered(">", self.load(gate, j, gate_row, i), zero)
            store(at, at.select(there, totals[i][j], zero), self.place(c, j, c_row, i), self.size)
        at.branch(end)
        at.position_at_end(plain)
        for i, j in np.ndindex(self.rows, self.columns - 1):
            store(at, totals[i][j], self.place(c, j, c_row, i), self.size)
        last = [(row[-1], self.place(c, self.columns - 1, c_row, i)) for i, row in enumerate(totals)]
        with at.if_else(at.icmp_signed("==", valid, word(self.vector.count))) as (whole, part):
            with whole:
                for x, to in last:
                    store(at, x, to, self.size)
            with part:
                lanes = first_lanes(at, valid, self.vector.count)
                for x, to in last:
                    store_some(at, x, to, lanes, self.size)
        at.branch(end)
        at.position_at_end(end)


def tile(rows: int, columns: int) -> Any:
    """Make the piece that computes `rows` by `columns` vectors of c = start + a·b, and cuts them.

    Of the last vector of each row of c, `valid` numbers are written. Where the address `stretch` is not 0, columns of c
    are multiplied by the numbers there, and those at `shift` are added. Numbers below `floor` become `floor`. Where the
    address `gate` is not 0, numbers become 0 whose place there, in rows `gate_row` apart, holds no number above 0.
    """

    def emit(
        _typing: Any,
        like: Any,
        c: Any,
        a: Any,
        b: Any,
        start: Any,
        k: Any,
        a_row: Any,
        a_k: Any,
        b_k: Any,
        c_row: Any,
        valid: Any,
        floor: Any,
        gate: Any,
        gate_row: Any,
        stretch: Any,
        shift: Any,
    ) -> Any:
        def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
            _, c, a, b, start, k, a_row, a_k, b_k, c_row, valid, floor, gate, gate_row, stretch, shift = arguments
            one = Tile(at, like, rows, columns)
            totals = one.stretched(one.sums(a, b, start, k, a_row, a_k, b_k), stretch, shift)
            one.put(one.floored(totals, floor), c, c_row, valid, gate, gate_row)
            return context.get_dummy_value()

        return types.void(like, *[types.int64] * 10, like.dtype, *[types.int64] * 4), build

    return piece(emit)


def dots(rows: int, columns: int) -> Any:
    """Make the piece that computes c[i, j] = Σ a[i, k]·b[j, k] for `rows` by `columns` pairs, with vectors along k."""

    def emit(_typing: Any, like: Any, c: Any, a: Any, b: Any, k: Any, a_row: Any, b_row: Any, c_row: Any) -> Any:
        real, size = REAL[like.dtype], SIZE[like.dtype]
        n = VECTOR_BYTES // size
        vector = ir.VectorType(real, n)

        def products(at: Any, arguments: Any, i: Any, kind: Any, sums: list[Any]) -> list[Any]:
            a, b, a_row, b_row = arguments
            offset = at.mul(i, word(size))

            def line(base: Any, step: Any, r: int) -> Any:
                return load(at, at.add(at.add(base, at.mul(step, word(r))), offset), kind, size)

            left, right = [line(a, a_row, r) for r in range(rows)], [line(b, b_row, r) for r in range(columns)]
            pairs = [(x, y) for x in left for y in right]
            return [at.fadd(at.fmul(x, y, flags=FUSED), t, flags=FUSED) for (x, y), t in zip(pairs, sums, strict=True)]

        def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
            _, c, a, b, k, a_row, b_row, c_row = arguments
            rest = (a, b, a_row, b_row)
            zeros = [ir.Constant(vector, [ir.Constant(real, 0.0)] * n)] * (rows * columns)
            i, sums = counted(at, word(0), k, n, zeros, lambda i, held: products(at, rest, i, vector, held))
            totals = [sum_of_lanes(at, x) for x in sums]
            _, totals = counted(at, i, k, 1, totals, lambda i, held: products(at, rest, i, real, held))
            for p, total in enumerate(totals):
                place = at.add(c, at.add(at.mul(c_row, word(p // columns)), word(p % columns * size)))
                store(at, total, place, size)
            return context.get_dummy_value()

        return types.void(like, *[types.int64] * 7), build

    return piece(emit)


def square(scaled: bool) -> Any:
    """Make the piece that turns a square of lanes by lanes numbers: to[k, j] ← source[j, k].

    Rows of the source from `valid` on are not read; the last one stands for them. A scaled one multiplies each number
    by scale[j] and factor[j].
    """

    def emit(
        _typing: Any, like: Any, to: Any, source: Any, to_row: Any, source_row: Any, valid: Any, scale: Any, factor: Any
    ) -> Any:
        real, size = REAL[like.dtype], SIZE[like.dtype]
        n = VECTOR_BYTES // size
        vector, places = ir.VectorType(real, n), ir.VectorType(INDEX, n)

        def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
            _, to, source, to_row, source_row, valid, scale, factor = arguments
            last = at.sub(valid, word(1))
            held = []
            for j in range(n):
                row = at.select(at.icmp_signed("<", word(j), last), word(j), last)
                held.append(load(at, at.add(source, at.mul(source_row, row)), vector, size))
            step = 1
            while step < n:  # swap the blocks off the diagonal: of one number, then two, four, …
                low = ir.Constant(places, [i if not i & step else n + i - step for i in range(n)])
                high = ir.Constant(places, [i + step if not i & step else n + i for i in range(n)])
                for j in range(n):
                    if not j & step:
                        x, y = held[j], held[j + step]
                        held[j], held[j + step] = at.shuffle_vector(x, y, low), at.shuffle_vector(x, y, high)
                step *= 2
            factors = [load(at, x, vector, size) for x in (scale, factor)] if scaled else []
            for k in range(n):
                x = held[k]
                for one in factors:
                    x = at.fmul(x, one)
                store(at, x, at.add(to, at.mul(to_row, word(k))), size)
            return context.get_dummy_value()

        return types.void(like, *[types.int64] * 7), build

    return piece(emit)


@piece
def vector_of_row(_typing: Any, like: Any, to: Any, source: Any, scale: Any, factor: Any) -> Any:
    """to ← source·scale·factor for one vector."""
    real, size = REAL[like.dtype], SIZE[like.dtype]
    vector = ir.VectorType(real, VECTOR_BYTES // size)

    def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        _, to, source, scale, factor = arguments
        x = at.fmul(load(at, source, vector, size), splat(at, scale, vector))
        store(at, at.fmul(x, splat(at, factor, vector)), to, size)
        return context.get_dummy_value()

    return types.void(like, types.int64, types.int64, like.dtype, like.dtype), build


def first_lanes(at: Any, count: Any, lanes: int) -> Any:
    """Flags for the first `count` lanes of a vector."""
    words = ir.VectorType(WORD, lanes)
    return at.icmp_signed("<", ir.Constant(words, list(range(lanes))), splat(at, count, words))


def each_vector(at: Any, count: Any, lanes: int, turn: Callable[[Any, Any], None]) -> None:
    """Emit `turn(i, None)` for the whole vectors of `count` numbers, and `turn(i, flags)` for what is left."""

    def whole(i: Any, _: list[Any]) -> list[Any]:
        turn(i, None)
        return []

    i, _ = counted(at, word(0), count, lanes, [], whole)
    with at.if_then(at.icmp_signed("<", i, count)):
        turn(i, first_lanes(at, at.sub(count, i), lanes))


def with_rest(at: Any, i: Any, count: Any, lanes: int, held: list[Any], turn: Callable[[Any], list[Any]]) -> list[Any]:
    """What `turn(flags)` gives for what is left of `count` numbers from i on; what is held where nothing is."""
    before, rest, after = at.block, at.append_basic_block("rest"), at.append_basic_block("after")
    at.cbranch(at.icmp_signed("<", i, count), rest, after)
    at.position_at_end(rest)
    new = turn(first_lanes(at, at.sub(count, i), lanes))
    at.branch(after)
    at.position_at_end(after)
    found = [at.phi(x.type) for x in held]
    for phi, x, y in zip(found, held, new, strict=True):
        phi.add_incoming(x, before)
        phi.add_incoming(y, rest)
    return found


def _masked(at: Any, what: str, kind: Any, size: int, form: Any) -> Any:
    name = f"llvm.masked.{what}.v{kind.count}f{8 * size}.p0"
    return cgutils.get_or_insert_function(at.module, form, name)


def load_some(at: Any, address: Any, kind: Any, flags: Any, size: int) -> Any:
    """A vector whose lanes without a flag are 0 and not read."""
    pointer = kind.as_pointer()
    form = ir.FunctionType(kind, [pointer, INDEX, flags.type, kind])
    zeros = ir.Constant(kind, [ir.Constant(kind.element, 0.0)] * kind.count)
    arguments = [at.inttoptr(address, pointer), ir.Constant(INDEX, size), flags, zeros]
    return at.call(_masked(at, "load", kind, size, form), arguments)


def store_some(at: Any, value: Any, address: Any, flags: Any, size: int) -> None:
    """Write the lanes that have a flag."""
    kind, pointer = value.type, value.type.as_pointer()
    form = ir.FunctionType(ir.VoidType(), [kind, pointer, INDEX, flags.type])
    arguments = [value, at.inttoptr(address, pointer), ir.Constant(INDEX, size), flags]
    at.call(_masked(at, "store", kind, size, form), arguments)


@piece
def part_of_row(_typing: Any, like: Any, to: Any, source: Any, count: Any) -> Any:
    """to ← source for the first `count` numbers of one vector, and 0 for the others."""
    real, size = REAL[like.dtype], SIZE[like.dtype]
    vector = ir.VectorType(real, VECTOR_BYTES // size)

    def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        _, to, source, count = arguments
        store(at, load_some(at, source, vector, first_lanes(at, count, vector.count), size), to, size)
        return context.get_dummy_value()

    return types.void(like, *[types.int64] * 3), build
