"""Softmax cross-entropy and its gradient in one pass, for few classes: vectors run along rows, a lane for each.

The numbers of one class are gathered row by row, so that they lie side by side. Formulas as in `loss.py`: sums run in
float64 and leave out the one power that would hide the others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .exponential import Writer, write_exp, write_log
from .jit import kernel
from .loss import wrong
from .room import NEAR, near
from .tiles import first_lanes, store_some
from .vector import INDEX, REAL, SIZE, VECTOR_BYTES, WIDE, WORD, counted, load, piece, size_of, splat, store, word

MOST_CLASSES = NEAR // VECTOR_BYTES
"""More have no room on the stack. 4 times as fast as a pass for the loss and one for the gradient at (32, 10)."""


def _gathered(at: Any, places: list[Any], kind: Any, size: int) -> Any:
    """A vector of the numbers at some addresses."""
    found = ir.Constant(kind, ir.Undefined)
    for r, place in enumerate(places):
        found = at.insert_element(found, load(at, place, kind.element, size), ir.Constant(INDEX, r))
    return found


def _widened(at: Any, x: Any) -> Any:
    wide = ir.VectorType(WIDE, x.type.count)
    return x if x.type == wide else at.fpext(x, wide)


def _narrowed(at: Any, x: Any, vector: Any) -> Any:
    return x if x.type == vector else at.fptrunc(x, vector)


@piece
def _block(
    _typing: Any,
    like: Any,
    room: Any,
    classes: Any,
    last: Any,
    x: Any,
    x_steps: Any,
    target: Any,
    share: Any,
    losses: Any,
    dx: Any,
    dx_steps: Any,
) -> Any:
    """Losses and slopes of a vector of rows, of which those behind the last one are the last one once more.

    `room` is for a vector of logits for each class, in whose place powers are put.
    """
    real, size = REAL[like.dtype], SIZE[like.dtype]
    lanes = VECTOR_BYTES // size
    vector, wide, whole_numbers = (ir.VectorType(kind, lanes) for kind in (real, WIDE, WORD))

    def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        _, room, classes, last, x, x_steps, target, share, losses, dx, dx_steps = arguments
        to, double = Writer(at, like.dtype, lanes), Writer(at, types.float64, lanes)
        zero, one = double.number(0.0), double.number(1.0)
        (x_row, x_column), (dx_row, dx_column) = (cgutils.unpack_tuple(at, steps) for steps in (x_steps, dx_steps))
        rows = [at.select(at.icmp_signed("<", word(r), last), word(r), last) for r in range(lanes)]

        def places(base: Any, step: Any) -> list[Any]:
            return [at.add(base, at.mul(r, step)) for r in rows]

        from_x, to_dx = places(x, x_row), places(dx, dx_row)
        own = at.sitofp(_gathered(at, places(target, word(8)), whole_numbers, 8), vector)

        def place(j: Any) -> Any:
            return at.add(room, at.mul(j, word(VECTOR_BYTES)))

        def is_own(j: Any) -> Any:
            return at.fcmp_ordered("==", own, splat(at, at.sitofp(j, real), vector))

        def tops(j: Any, held: list[Any]) -> list[Any]:
            offset = at.mul(j, x_column)
            x = _gathered(at, [at.add(start, offset) for start in from_x], vector, size)
            store(at, x, place(j), size)
            return [at.select(at.fcmp_ordered(">", x, held[0]), x, held[0]), at.select(is_own(j), x, held[1])]

        first = _gathered(at, from_x, vector, size)
        _, (top, mine) = counted(at, word(0), classes, 1, [first, first], tops)

        def powers(j: Any, held: list[Any]) -> list[Any]:
            x = write_exp(at, to, at.fsub(load(at, place(j), vector, size), top))
            store(at, x, place(j), size)
            far, x = at.fcmp_unordered("!=", x, to.number(1.0)), _widened(at, x)
            terms = (
                at.select(far, x, zero),
                at.select(far, zero, one),
                at.select(is_own(j), zero, x),
                at.select(is_own(j), x, zero),
            )
            return [at.fadd(total, term) for total, term in zip(held, terms, strict=True)]

        _, (below, ties, others, power) = counted(at, word(0), classes, 1, [zero] * 4, powers)
        rest = at.fadd(below, at.fsub(ties, one))
        whole = at.fadd(one, rest)  # log(1 + rest), with what the sum has lost
        lost = at.fdiv(at.fsub(at.fsub(whole, one), rest), whole)
        loss = at.fadd(at.fsub(write_log(at, double, whole), lost), _widened(at, at.fsub(top, mine)))
        store_some(at, _narrowed(at, loss, vector), losses, first_lanes(at, at.add(last, word(1)), lanes), size)
        each = at.fdiv(splat(at, share, wide), at.fadd(power, others))
        target_slope = _narrowed(at, at.fneg(at.fmul(each, others)), vector)

        def slopes(j: Any, _: list[Any]) -> list[Any]:
            x = _narrowed(at, at.fmul(each, _widened(at, load(at, place(j), vector, size))), vector)
            x, offset = at.select(is_own(j), target_slope, x), at.mul(j, dx_column)
            for r, start in enumerate(to_dx):
                store(at, at.extract_element(x, ir.Constant(INDEX, r)), at.add(start, offset), size)
            return []

        counted(at, word(0), classes, 1, [], slopes)
        return context.get_dummy_value()

    steps, address = types.UniTuple(types.int64, 2), types.int64
    given = (address, types.int64, types.int64, address, steps, address, types.float64, address, address, steps)
    return types.void(like, *given), build


@kernel
def losses_and_slopes(losses: Any, dx: Any, ct: Any, x: Any, target: Any, parts: Any) -> Any:
    """Loss of each row, and cotangents of the logits x for `ct`, of one number, over `parts`; 1 for a wrong target."""
    n, classes = x.shape
    if wrong(target, classes):
        return 1
    lanes, room = VECTOR_BYTES // size_of(x), near(x).ctypes.data
    share = np.float64(x.dtype.type(ct[0] / parts))
    for i in range(0, n, lanes):
        from_x, to_dx = x.ctypes.data + i * x.strides[0], dx.ctypes.data + i * dx.strides[0]
        from_target, to_losses = target.ctypes.data + 8 * i, losses.ctypes.data + i * size_of(x)
        last = min(lanes, n - i) - 1
        _block(x, room, classes, last, from_x, x.strides, from_target, share, to_losses, to_dx, dx.strides)
    return 0
