"""Softmax cross-entropy and its gradient in one pass, for few classes: vectors run along rows, a lane for each.

A block of rows is turned, so that the numbers of one class lie side by side. Formulas as in `loss.py`: sums run in
float64 and leave out the one power that would hide the others.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from .exponential import Writer, write_exp, write_log
from .jit import kernel
from .loss import wrong
from .room import NEAR, near
from .vector import REAL, SIZE, VECTOR_BYTES, WIDE, counted, load, piece, splat, store, word

MOST_CLASSES = NEAR // VECTOR_BYTES - 4
"""More have no room on the stack. 4 times as fast as a pass for the loss and one for the gradient at (32, 10)."""


@piece
def _block(_typing: Any, like: Any, room: Any, classes: Any) -> Any:
    """Losses and slopes of a vector of rows.

    `room` holds vectors: targets, cotangents, losses, then logits by class, in whose place the slopes are put.
    """
    real, size = REAL[like.dtype], SIZE[like.dtype]
    lanes = VECTOR_BYTES // size
    vector, wide = ir.VectorType(real, lanes), ir.VectorType(WIDE, lanes)

    def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        _, room, classes = arguments
        to, double = Writer(at, like.dtype, lanes), Writer(at, types.float64, lanes)
        zero, one, start = double.number(0.0), double.number(1.0), at.add(room, word(3 * VECTOR_BYTES))
        own, share = (load(at, at.add(room, word(i * VECTOR_BYTES)), vector, size) for i in (0, 1))

        def widened(x: Any) -> Any:
            return x if size == 8 else at.fpext(x, wide)

        def narrowed(x: Any) -> Any:
            return x if size == 8 else at.fptrunc(x, vector)

        def place(j: Any) -> Any:
            return at.add(start, at.mul(j, word(VECTOR_BYTES)))

        def is_own(j: Any) -> Any:
            return at.fcmp_ordered("==", own, splat(at, at.sitofp(j, real), vector))

        def tops(j: Any, held: list[Any]) -> list[Any]:
            x = load(at, place(j), vector, size)
            return [at.select(at.fcmp_ordered(">", x, held[0]), x, held[0]), at.select(is_own(j), x, held[1])]

        first = load(at, start, vector, size)
        _, (top, mine) = counted(at, word(0), classes, 1, [first, first], tops)

        def powers(j: Any, held: list[Any]) -> list[Any]:
            x = write_exp(at, to, at.fsub(load(at, place(j), vector, size), top))
            store(at, x, place(j), size)
            far, x = at.fcmp_unordered("!=", x, to.number(1.0)), widened(x)
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
        loss = at.fadd(at.fsub(write_log(at, double, whole), lost), widened(at.fsub(top, mine)))
        store(at, narrowed(loss), at.add(room, word(2 * VECTOR_BYTES)), size)
        each = at.fdiv(widened(share), at.fadd(power, others))
        target = narrowed(at.fneg(at.fmul(each, others)))

        def slopes(j: Any, _: list[Any]) -> list[Any]:
            x = narrowed(at.fmul(each, widened(load(at, place(j), vector, size))))
            store(at, at.select(is_own(j), target, x), place(j), size)
            return []

        counted(at, word(0), classes, 1, [], slopes)
        return context.get_dummy_value()

    return types.void(like, types.int64, types.int64), build


@kernel
def losses_and_slopes(losses: Any, dx: Any, ct: Any, x: Any, target: Any, parts: Any) -> Any:
    """Loss of each row, and cotangents of the logits x, where there is room for them; 1 if a target is no class.

    `ct` is one cotangent of a loss, or one for each row; slopes are divided by `parts`.
    """
    n, classes = x.shape
    if wrong(target, classes):
        return 1
    lanes = VECTOR_BYTES // x.itemsize
    room = near(x)[: (classes + 3) * lanes].reshape(classes + 3, lanes)
    share = x.dtype.type(ct[0] / parts)
    for first in range(0, n, lanes):
        rows = min(lanes, n - first)
        for r in range(lanes):  # lanes behind the last row repeat it
            i = first + min(r, rows - 1)
            room[0, r] = target[i]
            room[1, r] = share if ct.size == 1 else ct[i] / parts
            for j in range(classes):
                room[3 + j, r] = x[i, j]
        _block(x, room.ctypes.data, classes)
        for r in range(rows):
            if losses.size:
                losses[first + r] = room[2, r]
            if dx.size:
                for j in range(classes):
                    dx[first + r, j] = room[3 + j, r]
    return 0
