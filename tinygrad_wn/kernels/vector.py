"""Vectors in registers, which plain Numba loops cannot ask for: pieces of LLVM code for long rows of numbers.

Their width is chosen when this file is imported, by what Numba compiles for: 64 bytes with AVX-512, 32 with AVX2, 16
else; `NUMBA_CPU_FEATURES` narrows that. Addresses and steps are integers in bytes. The first argument of a piece is an
array of the dtype that its numbers have. A product and a sum may be fused, which rounds once instead of twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import binding, ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

if TYPE_CHECKING:
    from collections.abc import Callable

WORD, INDEX = ir.IntType(64), ir.IntType(32)
WIDE = ir.DoubleType()
REAL: dict[Any, Any] = {types.float32: ir.FloatType(), types.float64: WIDE}
SIZE: dict[Any, int] = {types.float32: 4, types.float64: 8}
FUSED = ("contract",)
SUMS = 4
"""Running sums side by side, as an addition takes about four cycles."""


def _vector_bytes() -> int:
    features = config.CPU_FEATURES
    if features is None:
        features = binding.get_host_cpu_features().flatten()
    return 64 if "+avx512f" in features else 32 if "+avx2" in features else 16


VECTOR_BYTES = _vector_bytes()


def piece(function: Callable[..., Any]) -> Any:
    """Make a function that emits LLVM code callable from kernels."""
    return intrinsic(function)


def word(value: int) -> Any:
    """A constant for addresses and counts."""
    return ir.Constant(WORD, value)


def splat(at: Any, number: Any, vector: Any) -> Any:
    """`number` in every lane."""
    nothing = ir.Constant(vector, ir.Undefined)
    first = at.insert_element(nothing, number, ir.Constant(INDEX, 0))
    return at.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(INDEX, vector.count), [0] * vector.count))


def load(at: Any, address: Any, kind: Any, size: int) -> Any:
    """A number or a vector that may lie anywhere in memory."""
    found = at.load(at.inttoptr(address, kind.as_pointer()), typ=kind)
    found.align = size
    return found


def store(at: Any, value: Any, address: Any, size: int) -> Any:
    """Write a number or a vector to any place in memory."""
    written = at.store(value, at.inttoptr(address, value.type.as_pointer()))
    written.align = size
    return written


@piece
def size_of(_typing: Any, like: Any) -> Any:
    """Bytes of a number of the dtype of `like`: a constant, where an array's `itemsize` is read when a kernel runs."""

    def build(context: Any, _at: Any, _signature: Any, _arguments: Any) -> Any:
        return context.get_constant(types.int64, like.dtype.bitwidth // 8)

    return types.int64(like), build


@piece
def number_at(_typing: Any, like: Any, address: Any) -> Any:
    """The number at an address."""

    def build(_context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        return load(at, arguments[1], REAL[like.dtype], SIZE[like.dtype])

    return like.dtype(like, types.int64), build


@piece
def put_at(_typing: Any, like: Any, address: Any, value: Any) -> Any:
    """Write a number to an address."""

    def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        store(at, arguments[2], arguments[1], SIZE[like.dtype])
        return context.get_dummy_value()

    return types.void(like, types.int64, like.dtype), build


def _widened(at: Any, address: Any, real: Any, size: int, count: int) -> Any:
    """`count` numbers from memory as float64; a single one is no vector."""
    kind, wide = (ir.VectorType(t, count) if count > 1 else t for t in (real, WIDE))
    found = load(at, address, kind, size)
    return found if size == 8 else at.fpext(found, wide)


def counted(at: Any, start: Any, end: Any, step: int, sums: list[Any], body: Any) -> tuple[Any, list[Any]]:
    """Emit `for i in range(start, end, step)`, whole steps only; `body(i, sums)` gives the sums for the next turn."""
    before, turn, after = at.block, at.append_basic_block("turn"), at.append_basic_block("after")
    at.cbranch(at.icmp_signed("<=", at.add(start, word(step)), end), turn, after)
    at.position_at_end(turn)
    i = at.phi(WORD)
    held = [at.phi(x.type) for x in sums]
    new = body(i, held)
    following = at.add(i, word(step))
    last = at.block
    i.add_incoming(start, before)
    i.add_incoming(following, last)
    for phi, first, later in zip(held, sums, new, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(later, last)
    at.cbranch(at.icmp_signed("<=", at.add(following, word(step)), end), turn, after)
    at.position_at_end(after)
    reached, results = at.phi(WORD), [at.phi(x.type) for x in sums]
    for phi, first, later in zip([reached, *results], [start, *sums], [following, *new], strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(later, last)
    return reached, results


@piece
def bits_of(_typing: Any, x: Any) -> Any:
    """The bits of a float64 number, as an integer."""

    def build(_context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        return at.bitcast(arguments[0], WORD)

    return types.int64(types.float64), build


@piece
def float_of(_typing: Any, x: Any) -> Any:
    """The float64 number that has these bits."""

    def build(_context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        return at.bitcast(arguments[0], WIDE)

    return types.float64(types.int64), build


@piece
def row_dot(_typing: Any, like: Any, a: Any, b: Any, count: Any, scale: Any) -> Any:
    """Σ a·(b·scale) over a row, in float64."""
    real, size = REAL[like.dtype], SIZE[like.dtype]

    def build(_context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        _, a, b, count, scale = arguments
        return _sum_of_products(at, real, size, a, b, count, None, scale)

    return types.float64(like, types.int64, types.int64, types.int64, types.float64), build


def _sum_of_products(at: Any, real: Any, size: int, a: Any, b: Any, count: Any, by_a: Any, by_b: Any) -> Any:
    many = VECTOR_BYTES // 8
    vector = ir.VectorType(WIDE, many)

    def term(i: Any, n: int) -> tuple[Any, Any]:
        offset = at.mul(i, word(size))
        x = _widened(at, at.add(a, offset), real, size, n)
        y = x if a is b else _widened(at, at.add(b, offset), real, size, n)
        x = x if by_a is None else at.fmul(x, by_a if n == 1 else splat(at, by_a, vector))
        y = x if a is b else at.fmul(y, by_b if n == 1 else splat(at, by_b, vector))
        return x, y

    def several(i: Any, sums: list[Any]) -> list[Any]:
        terms = [term(at.add(i, word(s * many)), many) for s in range(SUMS)]
        return [at.fadd(at.fmul(x, y, flags=FUSED), t, flags=FUSED) for (x, y), t in zip(terms, sums, strict=True)]

    def single(i: Any, sums: list[Any]) -> list[Any]:
        x, y = term(i, 1)
        return [at.fadd(at.fmul(x, y, flags=FUSED), sums[0], flags=FUSED)]

    nothing = ir.Constant(vector, [ir.Constant(WIDE, 0.0)] * many)

    def one_vector(i: Any, sums: list[Any]) -> list[Any]:
        x, y = term(i, many)
        return [at.fadd(at.fmul(x, y, flags=FUSED), sums[0], flags=FUSED)]

    i, sums = counted(at, word(0), count, SUMS * many, [nothing] * SUMS, several)
    while len(sums) > 1:
        sums = [at.fadd(x, y) for x, y in zip(sums[::2], sums[1::2], strict=True)]
    i, sums = counted(at, i, count, many, sums, one_vector)
    return counted(at, i, count, 1, [sum_of_lanes(at, sums[0])], single)[1][0]


def sum_of_lanes(at: Any, x: Any) -> Any:
    """All numbers of a vector, added by halves."""
    n = x.type.count
    while n > 1:
        n //= 2
        low, high = (
            at.shuffle_vector(x, x, ir.Constant(ir.VectorType(INDEX, n), list(range(start, start + n))))
            for start in (0, n)
        )
        x = at.fadd(low, high)
    return at.extract_element(x, ir.Constant(INDEX, 0))


def _halved(at: Any, x: Any, y: Any, group: int) -> Any:
    """One vector with the sums of both halves of each group of lanes, those of x before those of y."""
    lanes = range(0, 2 * x.type.count if y is not x else x.type.count, group)
    low, high = ([start + k for start in lanes for k in range(first, first + group // 2)] for first in (0, group // 2))
    kind = ir.VectorType(INDEX, len(low))
    return at.fadd(*(at.shuffle_vector(x, y, ir.Constant(kind, places)) for places in (low, high)))


def folded(at: Any, sums: list[Any]) -> list[Any]:
    """The totals of vectors, a lane for each: halves of lanes are added, of all vectors at once."""
    group = sums[0].type.count
    while group > 1:
        pairs = zip(sums[::2], sums[1::2], strict=True) if len(sums) > 1 else [(sums[0], sums[0])]
        sums = [_halved(at, x, y, group) for x, y in pairs]
        group //= 2
    return sums


@piece
def row_scaled(_typing: Any, like: Any, to: Any, a: Any, scale: Any, factor: Any, count: Any) -> Any:
    """to ← factor·(a·scale) in float64, each number rounded once; `to` may be `a`.

    For float32 the two factors are one, as none leaves the range of float64.
    """
    real, size = REAL[like.dtype], SIZE[like.dtype]

    def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        _, to, a, scale, factor, count = arguments
        at_once = at.fmul(scale, factor)

        def value(x: Any, each: Callable[[Any], Any]) -> Any:
            return at.fmul(x, each(at_once)) if size == 4 else at.fmul(each(factor), at.fmul(x, each(scale)))

        _fill(at, real, size, to, [a], count, value)
        return context.get_dummy_value()

    double = types.float64
    return types.void(like, types.int64, types.int64, double, double, types.int64), build


@piece
def row_across(
    _typing: Any, like: Any, to: Any, ct: Any, v: Any, scale: Any, along: Any, factor: Any, after: Any, count: Any
) -> Any:
    """to ← factor·(ct - along·(v·scale))·after in float64, each number rounded once; `to` may be `ct` or `v`."""
    real, size = REAL[like.dtype], SIZE[like.dtype]

    def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        _, to, ct, v, scale, along, factor, after, count = arguments
        outer, inner = at.fmul(after, factor), at.fmul(scale, along)
        inner = at.fmul(outer, inner)

        def value(ct: Any, v: Any, each: Callable[[Any], Any]) -> Any:
            if size == 4:
                return at.fsub(at.fmul(ct, each(outer)), at.fmul(v, each(inner), flags=FUSED), flags=FUSED)
            unit = at.fmul(v, each(scale))
            across = at.fsub(ct, at.fmul(each(along), unit, flags=FUSED), flags=FUSED)
            return at.fmul(at.fmul(each(factor), across), each(after))

        _fill(at, real, size, to, [ct, v], count, value)
        return context.get_dummy_value()

    double = types.float64
    return types.void(like, *[types.int64] * 3, double, double, double, double, types.int64), build


def _lane_by_lane(at: Any, name: str, *vectors: Any) -> Any:
    """What LLVM does to vectors of one type under a name of its own."""
    kind = vectors[0].type
    name = f"llvm.{name}.v{kind.count}f{32 if kind.element == ir.FloatType() else 64}"
    call = at.module.globals.get(name)
    if call is None:
        call = ir.Function(at.module, ir.FunctionType(kind, [kind] * len(vectors)), name=name)
    return at.call(call, vectors)


def fused(at: Any, a: Any, b: Any, c: Any) -> Any:
    """a·b + c, rounded once on every machine."""
    return _lane_by_lane(at, "fma", a, b, c)


def roots(at: Any, x: Any) -> Any:
    """√x, rounded once."""
    return _lane_by_lane(at, "sqrt", x)


def _fill(at: Any, real: Any, size: int, to: Any, sources: list[Any], count: Any, value: Callable[..., Any]) -> None:
    """Emit a loop that writes `value(*numbers, each)` of the rows at `sources` to the row at `to`."""

    def turn(i: Any, n: int) -> list[Any]:
        offset = at.mul(i, word(size))
        numbers = [_widened(at, at.add(start, offset), real, size, n) for start in sources]
        found = value(*numbers, lambda x: x if n == 1 else splat(at, x, ir.VectorType(WIDE, n)))
        if size == 4:
            found = at.fptrunc(found, ir.VectorType(real, n) if n > 1 else real)
        store(at, found, at.add(to, offset), size)
        return []

    many = VECTOR_BYTES // 8
    reached, _ = counted(at, word(0), count, many, [], lambda i, _: turn(i, many))
    counted(at, reached, count, 1, [], lambda i, _: turn(i, 1))
