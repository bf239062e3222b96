"""Sums over several rows of a matrix at once, in float64: while one sum waits for an addition, the others go on.

Each row is summed in the same way whatever rows are beside it, so results do not depend on how rows are shared out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba import types

from .jit import inlined, kernel
from .tiles import each_vector, first_lanes, load_some, store_some, with_rest
from .vector import (
    FUSED,
    INDEX,
    REAL,
    SIZE,
    VECTOR_BYTES,
    WIDE,
    counted,
    folded,
    fused,
    load,
    piece,
    size_of,
    splat,
    store,
    word,
)

if TYPE_CHECKING:
    from collections.abc import Callable

TOGETHER = 4
"""Rows at once, as an addition takes about four cycles."""


def _widened(at: Any, size: int, x: Any) -> Any:
    return x if size == 8 else at.fpext(x, ir.VectorType(WIDE, x.type.count))


def _sums(at: Any, size: int, to: Any, rows: int, count: Any, product: Callable[[int, Any], tuple[Any, Any]]) -> None:
    """Emit to[r] ← Σ x·y with the vectors `product(r, read)` of row r, where `read(address)` reads a vector of it."""
    many = VECTOR_BYTES // 8
    vector = ir.VectorType(ir.FloatType() if size == 4 else WIDE, many)

    def turn(i: Any, sums: list[Any], flags: Any) -> list[Any]:
        offset, new = at.mul(i, word(size)), []

        def read(start: Any) -> Any:
            place = at.add(start, offset)
            return load(at, place, vector, size) if flags is None else load_some(at, place, vector, flags, size)

        for r, total in enumerate(sums):
            x, y = (_widened(at, size, one) for one in product(r, read))
            new.append(at.fadd(at.fmul(x, y, flags=FUSED), total, flags=FUSED))
        return new

    zero = ir.Constant(ir.VectorType(WIDE, many), [ir.Constant(WIDE, 0.0)] * many)
    i, sums = counted(at, word(0), count, many, [zero] * rows, lambda i, held: turn(i, held, None))
    sums = with_rest(at, i, count, many, sums, lambda flags: turn(i, sums, flags))
    for j, totals in enumerate(folded(at, sums)):
        store(at, totals, at.add(to, word(8 * totals.type.count * j)), 8)


def _squares(rows: int) -> Any:
    def emit(_typing: Any, like: Any, to: Any, a: Any, a_row: Any, count: Any) -> Any:
        def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
            _, to, a, a_row, count = arguments
            starts = [at.add(a, at.mul(a_row, word(r))) for r in range(rows)]

            def product(r: int, read: Callable[[Any], Any]) -> tuple[Any, Any]:
                x = read(starts[r])
                return x, x

            _sums(at, SIZE[like.dtype], to, rows, count, product)
            return context.get_dummy_value()

        return types.void(like, *[types.int64] * 4), build

    return piece(emit)


@piece
def _squares_scaled(_typing: Any, like: Any, to: Any, a: Any, scale: Any, count: Any) -> Any:
    vector = ir.VectorType(WIDE, VECTOR_BYTES // 8)

    def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        _, to, a, scale, count = arguments
        by = splat(at, scale, vector)

        def product(_: int, read: Callable[[Any], Any]) -> tuple[Any, Any]:
            x = at.fmul(_widened(at, SIZE[like.dtype], read(a)), by)
            return x, x

        _sums(at, SIZE[like.dtype], to, 1, count, product)
        return context.get_dummy_value()

    return types.void(like, types.int64, types.int64, types.float64, types.int64), build


def _dots(rows: int) -> Any:
    def emit(_typing: Any, like: Any, to: Any, a: Any, a_row: Any, b: Any, b_row: Any, count: Any) -> Any:
        def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
            _, to, a, a_row, b, b_row, count = arguments
            pairs = [(at.add(a, at.mul(a_row, word(r))), at.add(b, at.mul(b_row, word(r)))) for r in range(rows)]
            _sums(at, SIZE[like.dtype], to, rows, count, lambda r, read: (read(pairs[r][0]), read(pairs[r][1])))
            return context.get_dummy_value()

        return types.void(like, *[types.int64] * 6), build

    return piece(emit)


_squares_1, _squares_4, _dots_1, _dots_4 = _squares(1), _squares(TOGETHER), _dots(1), _dots(TOGETHER)


@inlined
def squares_of_rows(to: Any, v: Any) -> None:
    """to[i] ← Σ v[i]², for a matrix with rows side by side."""
    start, at, row, i = to.ctypes.data, v.ctypes.data, v.strides[0], 0
    while i + TOGETHER <= v.shape[0]:
        _squares_4(v, start + 8 * i, at + i * row, row, v.shape[1])
        i += TOGETHER
    while i < v.shape[0]:
        _squares_1(v, start + 8 * i, at + i * row, row, v.shape[1])
        i += 1


@kernel
def squares_of_scaled_row(to: Any, v: Any, i: Any, scale: Any) -> None:
    """to[i] ← Σ (v[i]·scale)² in float64, added in the order of `squares_of_rows`: its sum but for a power of two."""
    _squares_scaled(v, to.ctypes.data + 8 * i, v.ctypes.data + i * v.strides[0], scale, v.shape[1])


@inlined
def dots_of_rows(to: Any, a: Any, b: Any) -> None:
    """to[i] ← Σ a[i]·b[i], for matrices with rows side by side."""
    start, from_a, from_b = to.ctypes.data, a.ctypes.data, b.ctypes.data
    a_row, b_row, i = a.strides[0], b.strides[0], 0
    while i + TOGETHER <= a.shape[0]:
        _dots_4(a, start + 8 * i, from_a + i * a_row, a_row, from_b + i * b_row, b_row, a.shape[1])
        i += TOGETHER
    while i < a.shape[0]:
        _dots_1(a, start + 8 * i, from_a + i * a_row, a_row, from_b + i * b_row, b_row, a.shape[1])
        i += 1


def _along(at: Any, size: int, to: Any, starts: list[Any], count: Any, value: Callable[..., Any], real: Any) -> None:
    """Emit to ← value(*numbers of the rows at `starts`), in vectors of their dtype."""
    many = VECTOR_BYTES // size
    vector = ir.VectorType(real, many)

    def turn(i: Any, flags: Any) -> None:
        offset = at.mul(i, word(size))
        if flags is None:
            numbers = [load(at, at.add(start, offset), vector, size) for start in starts]
            store(at, value(*numbers), at.add(to, offset), size)
        else:
            numbers = [load_some(at, at.add(start, offset), vector, flags, size) for start in starts]
            store_some(at, value(*numbers), at.add(to, offset), flags, size)

    each_vector(at, count, many, turn)


def _stretch(scaled: bool) -> Any:
    def emit(_typing: Any, like: Any, to: Any, a: Any, scale: Any, high: Any, low: Any, count: Any) -> Any:
        real, size = REAL[like.dtype], SIZE[like.dtype]
        vector = ir.VectorType(real, VECTOR_BYTES // size)

        def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
            _, to, a, *numbers, count = arguments
            by, top, rest = (splat(at, x, vector) for x in numbers)

            def value(x: Any) -> Any:
                x = at.fmul(x, by) if scaled else x
                return fused(at, x, top, at.fmul(x, rest))

            _along(at, size, to, [a], count, value, real)
            return context.get_dummy_value()

        number = like.dtype
        return types.void(like, types.int64, types.int64, number, number, number, types.int64), build

    return piece(emit)


row_stretched, row_stretched_near = _stretch(scaled=True), _stretch(scaled=False)
"""to ← (high + low)·(a·scale) over a row, in its dtype: as right as in float64 but for one case in millions.

As long as high + low is a number of 48 bits, the product with `low` only decides about the last bit. The second one
does not multiply by the scale: it is in the factors.
"""


def slope_of_v(at: Any, ct: Any, v: Any, high: Any, low: Any, factor: Any) -> Any:
    """factor·((ct - high·v) - low·v), rounded once for each part."""
    for part in (high, low):
        ct = fused(at, v, at.fneg(part), ct)
    return at.fmul(ct, factor)


def _across(scaled: bool) -> Any:
    def emit(
        _typing: Any,
        like: Any,
        to: Any,
        ct: Any,
        v: Any,
        scale: Any,
        high: Any,
        low: Any,
        factor: Any,
        after: Any,
        count: Any,
    ) -> Any:
        real, size = REAL[like.dtype], SIZE[like.dtype]
        vector = ir.VectorType(real, VECTOR_BYTES // size)

        def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
            _, to, ct, v, scale, high, low, factor, after, count = arguments
            by, times, last = (splat(at, x, vector) for x in (scale, factor, after))
            top, rest = (splat(at, x, vector) for x in (high, low))

            def value(x: Any, y: Any) -> Any:
                x = slope_of_v(at, x, at.fmul(y, by) if scaled else y, top, rest, times)
                return at.fmul(x, last) if scaled else x

            _along(at, size, to, [ct, v], count, value, real)
            return context.get_dummy_value()

        number = like.dtype
        return types.void(like, *[types.int64] * 3, *[number] * 5, types.int64), build

    return piece(emit)


row_across_split, row_across_near = _across(scaled=True), _across(scaled=False)
"""to ← factor·((ct - high·v̂) - low·v̂)·after with v̂ = v·scale, over rows, in their dtype; `to` may be `ct` or `v`.

A fused product and sum rounds once. So where ct and high·v̂ cancel, their difference is right to its last bit, and as
long as high + low is a number of 48 bits, so is the whole of float32. The second one does not multiply by scale and
after, which are in the factors: that gives the same bits.
"""


@piece
def squares_of_lanes(_typing: Any, like: Any, to: Any, a: Any, a_row: Any, rows: Any) -> Any:
    """to[j] ← Σ a[i, j]² over i for a vector of columns, in float64."""
    real, size = REAL[like.dtype], SIZE[like.dtype]
    vector = ir.VectorType(real, VECTOR_BYTES // size)

    def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        _, to, a, a_row, rows = arguments
        half = vector.count // 2
        parts = [ir.Constant(ir.VectorType(INDEX, half), list(range(i, i + half))) for i in (0, half)]

        def turn(i: Any, sums: list[Any], step: int) -> list[Any]:
            new = []
            for k in range(step):
                x = load(at, at.add(a, at.mul(a_row, at.add(i, word(k)))), vector, size)
                for p, places in enumerate(parts):
                    y = _widened(at, size, at.shuffle_vector(x, x, places))
                    new.append(at.fadd(at.fmul(y, y, flags=FUSED), sums[2 * k + p], flags=FUSED))
            return new

        zero = ir.Constant(ir.VectorType(WIDE, half), [ir.Constant(WIDE, 0.0)] * half)
        i, sums = counted(at, word(0), rows, 2, [zero] * 4, lambda i, held: turn(i, held, 2))
        sums = [at.fadd(sums[0], sums[2]), at.fadd(sums[1], sums[3])]
        _, sums = counted(at, i, rows, 1, sums, lambda i, held: turn(i, held, 1))
        for p, total in enumerate(sums):
            store(at, total, at.add(to, word(8 * half * p)), 8)
        return context.get_dummy_value()

    return types.void(like, *[types.int64] * 4), build


@piece
def row_times(_typing: Any, like: Any, to: Any, a: Any, b: Any, count: Any) -> Any:
    """to ← a·b, number by number, over rows."""
    real, size = REAL[like.dtype], SIZE[like.dtype]

    def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        _, to, a, b, count = arguments
        _along(at, size, to, [a, b], count, at.fmul, real)
        return context.get_dummy_value()

    return types.void(like, *[types.int64] * 4), build


def _columns(vectors: int) -> Any:
    """Make the piece that sums the rows of some columns: whole vectors, but for the last one, with `valid` numbers."""

    def emit(_typing: Any, like: Any, to: Any, a: Any, a_row: Any, rows: Any, valid: Any) -> Any:
        real, size = REAL[like.dtype], SIZE[like.dtype]
        vector = ir.VectorType(real, VECTOR_BYTES // size)

        def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
            _, to, a, a_row, rows, valid = arguments
            flags = first_lanes(at, valid, vector.count)

            def turn(i: Any, sums: list[Any]) -> list[Any]:
                row = at.add(a, at.mul(a_row, i))
                found = [load(at, at.add(row, word(j * VECTOR_BYTES)), vector, size) for j in range(vectors - 1)]
                found.append(load_some(at, at.add(row, word((vectors - 1) * VECTOR_BYTES)), vector, flags, size))
                return [at.fadd(total, x) for total, x in zip(sums, found, strict=True)]

            zero = ir.Constant(vector, [ir.Constant(real, 0.0)] * vector.count)
            _, sums = counted(at, word(0), rows, 1, [zero] * vectors, turn)
            for j, total in enumerate(sums[:-1]):
                store(at, total, at.add(to, word(j * VECTOR_BYTES)), size)
            store_some(at, sums[-1], at.add(to, word((vectors - 1) * VECTOR_BYTES)), flags, size)
            return context.get_dummy_value()

        return types.void(like, *[types.int64] * 5), build

    return piece(emit)


_columns_1, _columns_4 = _columns(1), _columns(TOGETHER)


@kernel
def sum_of_rows(to: Any, a: Any) -> None:
    """to[j] ← Σ a[i, j] over i, one row after the other, for rows side by side."""
    size, n = size_of(a), a.shape[1]
    lanes = VECTOR_BYTES // size
    start, at, j = to.ctypes.data, a.ctypes.data, 0
    while n - j > 3 * lanes:
        _columns_4(a, start + j * size, at + j * size, a.strides[0], a.shape[0], min(n - j - 3 * lanes, lanes))
        j += 4 * lanes
    while j < n:
        _columns_1(a, start + j * size, at + j * size, a.strides[0], a.shape[0], min(n - j, lanes))
        j += lanes
