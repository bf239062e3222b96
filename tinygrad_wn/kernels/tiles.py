"""Tiles of a matrix product, held in registers for the whole sum, and the panels that they read."""

from __future__ import annotations

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


def tile(rows: int, columns: int) -> Any:
    """Make the piece that computes `rows` by `columns` vectors of c = start + a·b.

    The sums stay in registers while k runs. a is read number by number through any steps, b in whole vectors.
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
    ) -> Any:
        real, size = REAL[like.dtype], SIZE[like.dtype]
        vector = ir.VectorType(real, VECTOR_BYTES // size)

        def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
            _, c, a, b, start, k_end, a_row, a_k, b_k, c_row = arguments

            def lane(base: Any, j: int) -> Any:
                return at.add(base, word(j * VECTOR_BYTES))

            first = [load(at, lane(start, j), vector, size) for j in range(columns)]
            before, turn, after = at.block, at.append_basic_block("turn"), at.append_basic_block("after")
            at.cbranch(at.icmp_signed(">", k_end, word(0)), turn, after)
            at.position_at_end(turn)
            k, a_now, b_now = (at.phi(WORD) for _ in range(3))
            held = [[at.phi(vector) for _ in range(columns)] for _ in range(rows)]
            loaded = [load(at, lane(b_now, j), vector, size) for j in range(columns)]
            sums: list[list[Any]] = []
            for i in range(rows):
                every = splat(at, load(at, at.add(a_now, at.mul(a_row, word(i))), real, size), vector)
                sums.append(
                    [at.fadd(at.fmul(every, loaded[j], flags=FUSED), held[i][j], flags=FUSED) for j in range(columns)]
                )
            following = at.add(k, word(1))
            for phi, begin, later in (
                (k, word(0), following),
                (a_now, a, at.add(a_now, a_k)),
                (b_now, b, at.add(b_now, b_k)),
            ):
                phi.add_incoming(begin, before)
                phi.add_incoming(later, turn)
            at.cbranch(at.icmp_signed("<", following, k_end), turn, after)
            at.position_at_end(after)
            totals: list[list[Any]] = [[at.phi(vector) for _ in range(columns)] for _ in range(rows)]
            for i, j in np.ndindex(rows, columns):
                for phi in (held[i][j], totals[i][j]):
                    phi.add_incoming(first[j], before)
                    phi.add_incoming(sums[i][j], turn)
            for i, j in np.ndindex(rows, columns):
                store(at, totals[i][j], lane(at.add(c, at.mul(c_row, word(i))), j), size)
            return context.get_dummy_value()

        return types.void(like, *[types.int64] * 9), build

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


@piece
def part_of_row(_typing: Any, like: Any, to: Any, source: Any, count: Any, padded: Any) -> Any:
    """to ← source for the first `count` numbers of one vector; `padded` sets the others to 0, else they stay."""
    real, size = REAL[like.dtype], SIZE[like.dtype]
    n = VECTOR_BYTES // size
    vector, flags = ir.VectorType(real, n), ir.VectorType(ir.IntType(1), n)

    def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        _, to, source, count, padded = arguments
        words = ir.VectorType(WORD, n)
        there = at.icmp_signed("<", ir.Constant(words, list(range(n))), splat(at, count, words))
        written = at.or_(there, splat(at, padded, flags))
        pointer, align = vector.as_pointer(), ir.Constant(INDEX, size)
        name = f"v{n}{'f32' if size == 4 else 'f64'}.p0"
        reads = ir.FunctionType(vector, [pointer, INDEX, flags, vector])
        writes = ir.FunctionType(ir.VoidType(), [vector, pointer, INDEX, flags])
        read = cgutils.get_or_insert_function(at.module, reads, f"llvm.masked.load.{name}")
        write = cgutils.get_or_insert_function(at.module, writes, f"llvm.masked.store.{name}")
        zeros = ir.Constant(vector, [ir.Constant(real, 0.0)] * n)
        x = at.call(read, [at.inttoptr(source, pointer), align, there, zeros])
        at.call(write, [x, at.inttoptr(to, pointer), align, written])
        return context.get_dummy_value()

    return types.void(like, *[types.int64] * 3, types.boolean), build
