"""Update rules of optimizers for one parameter: p and its state in place, one pass over memory.

Formulas as in `ops/update.py`, term for term. Arrays and numbers come as tuples; their counts say which rule is meant.
"""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .jit import kernel
from .rows import slope_of_v
from .tiles import each_vector, load_some, store_some
from .vector import REAL, SIZE, VECTOR_BYTES, WORD, load, piece, roots, splat, store, word


def _compared(at: Any, old: Any, new: Any) -> list[Any]:
    return [new]


def _chosen(at: Any, number: Any, x: Any, other: Any) -> Any:
    """x where a number is not 0."""
    return at.select(at.fcmp_unordered("!=", number, ir.Constant(number.type, None)), x, other)


def _settled(at: Any, x: Any) -> Any:
    """x, and 0 where its exponent has no bits: where it is not a normal number."""
    bits, exponent = (32, 0xFF << 23) if x.type.element == ir.FloatType() else (64, 0x7FF << 52)
    words = ir.VectorType(ir.IntType(bits), x.type.count)
    found = at.and_(at.bitcast(x, words), ir.Constant(words, [exponent] * x.type.count))
    return at.select(at.icmp_unsigned("==", found, ir.Constant(words, None)), ir.Constant(x.type, None), x)


def _counted(at: Any, slope: Any, share: Any) -> Any:
    """A slope, and 0 where its square over that of `share` is not a normal number. Sizes compare as their bits."""
    bits, root = (32, 2.0**-63) if slope.type.element == ir.FloatType() else (64, 2.0**-511)
    words = ir.VectorType(ir.IntType(bits), slope.type.count)
    size = at.and_(at.bitcast(slope, words), ir.Constant(words, [2 ** (bits - 1) - 1] * slope.type.count))
    least = at.fmul(share, ir.Constant(slope.type, [ir.Constant(slope.type.element, root)] * slope.type.count))
    small = at.icmp_unsigned("<", size, at.bitcast(least, words))
    return at.select(small, ir.Constant(slope.type, None), slope)


def _slope(at: Any, p: Any, g: Any, decay: Any = None) -> Any:
    return g if decay is None else _chosen(at, decay, at.fadd(g, at.fmul(decay, p)), g)


def _descended(at: Any, p: Any, g: Any, rate: Any, *decay: Any) -> list[Any]:
    return [at.fsub(p, at.fmul(rate, _slope(at, p, g, *decay)))]


def _rolled(at: Any, p: Any, m: Any, g: Any, rate: Any, momentum: Any, *more: Any) -> list[Any]:
    slope = _slope(at, p, g, *more[1:])
    new = _settled(at, at.fadd(at.fmul(momentum, m), slope))
    step = _chosen(at, more[0], at.fadd(slope, at.fmul(momentum, new)), new) if more else new
    return [at.fsub(p, at.fmul(rate, step)), new]


def _adapted(at: Any, p: Any, m: Any, s: Any, g: Any, *numbers: Any) -> list[Any]:
    pace, rise, beta1, beta2, new1, new2, share, eps, *decays = numbers
    slope = _counted(at, _slope(at, p, g, *decays[1:]), share)
    m = _settled(at, at.fadd(at.fmul(beta1, m), at.fmul(new1, slope)))
    s = _settled(at, at.fadd(at.fmul(beta2, s), at.fmul(at.fmul(new2, slope), slope)))
    kept = _chosen(at, decays[0], at.fsub(p, at.fmul(decays[0], p)), p) if decays else p
    return [at.fsub(kept, at.fmul(pace, at.fdiv(m, at.fadd(at.fmul(roots(at, s), rise), eps)))), m, s]


FORMULAS: dict[tuple[int, int], Any] = {
    (2, 0): _compared,
    (2, 1): _descended,
    (2, 2): _descended,
    (3, 2): _rolled,
    (3, 4): _rolled,
    (4, 8): _adapted,
    (4, 10): _adapted,
}
"""New values, by how many arrays and how many numbers there are: rate; rate and momentum; those of `adam_numbers`. What
few ask for needs numbers of its own, so that others do not wait for it: decay; nesterov and decay; or what p shrinks by
and what decay adds to the slope.
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


def starts_of(context: Any, at: Any, kinds: Any, arrays: Any) -> list[Any]:
    """Addresses of the arrays of a tuple."""
    parts = zip(kinds, cgutils.unpack_tuple(at, arrays), strict=True)
    return [at.ptrtoint(context.make_array(kind)(context, at, x).data, WORD) for kind, x in parts]


def numbers_of(context: Any, at: Any, kinds: Any, numbers: Any, dtype: Any) -> list[Any]:
    """The numbers of a tuple, rounded to a dtype, each in every lane of a vector."""
    vector = ir.VectorType(REAL[dtype], VECTOR_BYTES // SIZE[dtype])
    parts = zip(kinds, cgutils.unpack_tuple(at, numbers), strict=True)
    return [splat(at, context.cast(at, x, kind, dtype), vector) for kind, x in parts]


@piece
def update_row(_typing: Any, arrays: Any, numbers: Any, place: Any, count: Any) -> Any:
    """Update `count` numbers side by side, `place` bytes after the beginning of each array; the last has slopes."""
    dtype = arrays[0].dtype
    size, lanes = SIZE[dtype], VECTOR_BYTES // SIZE[dtype]
    vector, formula = ir.VectorType(REAL[dtype], lanes), FORMULAS[len(arrays), len(numbers)]

    def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        given, values, place, count = arguments
        starts = [at.add(start, place) for start in starts_of(context, at, arrays, given)]
        values = numbers_of(context, at, numbers, values, dtype)

        def turn(i: Any, flags: Any) -> None:
            updated(at, formula, [at.add(start, at.mul(i, word(size))) for start in starts], values, flags, [], vector)

        each_vector(at, count, lanes, turn)
        return context.get_dummy_value()

    return types.void(arrays, numbers, types.int64, types.int64), build


@kernel
def adam_numbers(rate: Any, step: Any, beta1: Any, beta2: Any, eps: Any) -> Any:
    """What all numbers of a parameter are updated with: pace, rise, β₁, β₂, 1-β₁, 1-β₂, √(1/(1-β₂)), ε."""
    pace, rise = rate / (1.0 - beta1**step), 1.0 / math.sqrt(1.0 - beta2**step)
    return pace, rise, beta1, beta2, 1.0 - beta1, 1.0 - beta2, math.sqrt(1.0 / (1.0 - beta2)), eps


@kernel
def update(arrays: Any, numbers: Any) -> None:
    """New values of all arrays but the last, which has slopes; all numbers of an array lie side by side."""
    update_row(arrays, numbers, 0, arrays[0].size)
