"""How threads share the stages of a step, and where they wait for each other.

A stage that can be split goes over `count` things, such as the rows of a batch, and each thread does the things of its
part. A thread must wait for the others only where it needs what another one made: not where both stages go over the
same things of the same memory. Stages that need not wait for each other make an epoch; between epochs, threads meet.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..kernels.tiles import ROWS
from .calls import Call, View
from .lower import LANES, SMALL, UPDATES, is_turned, matrices, vectors

if TYPE_CHECKING:
    from .plan import Stage

WHOLE = -1
"""In the place of an axis: all of a view is read or written for each of the things."""


@dataclass(frozen=True)
class Access:
    """A view, and the axis along which a stage is split."""

    view: View
    axis: int
    writes: bool


@dataclass(frozen=True)
class Split:
    """How many things a stage goes over, in grains of how many; 0 things: one thread does all."""

    count: int
    grain: int
    accesses: tuple[Access, ...]


def split_of(stage: Stage) -> Split:
    """How threads share a stage."""
    first = stage.calls[0]
    rule = _elementwise if stage.fused else SPLITS.get(first.op.name)
    found = rule(stage) if rule is not None else None
    if found is None:
        reads = [Access(x, WHOLE, writes=False) for x in stage.reads()]
        return Split(0, 1, (*reads, *(Access(x, WHOLE, writes=True) for x in stage.writes())))
    return found


def _split(count: int, grain: int, reads: list[tuple[Any, int]], writes: list[tuple[Any, int]]) -> Split:
    accesses = [Access(x, axis, writes=False) for x, axis in reads if isinstance(x, View)]
    return Split(count, grain, (*accesses, *(Access(x, axis, writes=True) for x, axis in writes)))


def _elementwise(stage: Stage) -> Split | None:
    shape = stage.calls[0].results[0].shape
    if not shape or shape[0] == 1:
        return None

    def axis(x: View) -> int:
        return 0 if len(x.shape) == len(shape) and x.shape[0] == shape[0] else WHOLE

    writes = [(x, axis(x)) for x in stage.writes()]
    if stage.outside or any(one == WHOLE for _, one in writes):
        return None
    return _split(shape[0], ROWS, [(x, axis(x)) for x in stage.reads()], writes)


def _linear(stage: Stage) -> Split | None:
    """Rows of the batch; of a weight that was not turned for all, the panels, so that no two threads turn the same."""
    x, weight, bias, *factors = stage.calls[0].given
    y = stage.calls[-1].results[0]
    if not matrices(x, y) or not (matrices(y, weight) or is_turned(weight)) or not vectors(bias, dtype=y.dtype):
        return None
    if weight.size <= SMALL:
        return _split(y.shape[0], ROWS, [(x, 0), *((one, WHOLE) for one in (weight, bias, *factors))], [(y, 0)])
    return _split(y.shape[1], 2 * LANES, [(x, WHOLE), (weight, 0), (bias, 0)], [(y, 1)])


def _weight_norm_linear(stage: Stage) -> Split | None:
    x, v, g, bias = stage.calls[0].given
    y, *measured = (*stage.calls[-1].results[:1], *stage.calls[0].results[1:])
    if not measured:
        return None
    reads = [(x, WHOLE), (v, 0), (g, 0), (bias, 0)]
    return _split(y.shape[1], 2 * LANES, reads, [(y, 1), *((one, 1) for one in measured)])


def _pullback(stage: Stage) -> Split | None:
    """The cotangents of a batch by rows or columns; those of a weight by its rows."""
    first, wanted = stage.calls[0], stage.calls[0].params["wanted"]
    ct, x, weight = first.given[:3]
    into = [y for y in (*first.results, stage.calls[-1].results[0]) if len(y.shape) > 1]
    known = len(first.given) == 4 + (first.op.name != "linear_pullback")
    if (wanted[0] and any(wanted[1:])) or not matrices(ct, x, weight, *into) or (len(wanted) == 4 and not known):
        return None
    if not wanted[0]:
        to = [(y, 0) for y in first.results]
        return _split(weight.shape[0], LANES, [(ct, 1), (x, WHOLE)], to)
    dx = stage.calls[-1].results[0]
    gates = stage.calls[1].given[1:] if len(stage.calls) > 1 else ()
    axis = 0 if weight.size <= SMALL else 1
    grain = ROWS if axis == 0 else 2 * LANES
    reads = [(ct, 0 if axis == 0 else WHOLE), (weight, WHOLE if axis == 0 else 1), *((one, axis) for one in gates)]
    return _split(dx.shape[axis], grain, [*reads, *((one, WHOLE) for one in first.given[3:])], [(dx, axis)])


def _weight_norm(stage: Stage) -> Split | None:
    (v, g), (w, *others) = stage.calls[0].given, stage.calls[0].results
    return _split(v.shape[0], LANES, [(v, 0), (g, 0)], [(w, 0), *((x, 1) for x in others)]) if others else None


def _weight_norm_pullback(stage: Stage) -> Split | None:
    dw, v, g, *lengths = stage.calls[0].given
    reads = [(dw, 0), (v, 0), (g, 0), *((one, 1) for one in lengths)]
    writes = [(y, 0) for y in stage.calls[0].results]
    more, new = _updated(stage.calls[1:])
    return _split(v.shape[0], LANES, reads + more, writes + new) if lengths else None


def _updated(calls: list[Call]) -> tuple[list[tuple[Any, int]], list[tuple[Any, int]]]:
    """What an update reads and writes along which axes, with what it notes."""
    reads: list[tuple[Any, int]] = []
    writes: list[tuple[Any, int]] = []
    for call in calls:
        if call.op.name in UPDATES:
            scalars = UPDATES[call.op.name][0]
            reads += [*((x, WHOLE) for x in call.given[:scalars]), *((x, 0) for x in call.given[scalars:])]
            writes += [(x, 0) for x in call.results]
        else:
            reads.append((call.given[1], WHOLE))
            writes.append((call.results[0], 2))
    return reads, writes


def _turn(stage: Stage) -> Split | None:
    (x,), (y,) = stage.calls[0].given, stage.calls[0].results
    return _split(x.shape[0], LANES, [(x, 0)], [(y, 0)]) if is_turned(y) else None


def _update(stage: Stage) -> Split | None:
    call, scalars = stage.calls[0], UPDATES[stage.calls[0].op.name][0]
    arrays = [x for x in call.given[scalars:] if isinstance(x, View)]
    shape = arrays[0].shape
    same = all(x.shape == shape and x.dtype == arrays[0].dtype and x.whole for x in arrays)
    if not call.writes or not shape or not same or len(arrays) != UPDATES[call.op.name][1] + 1:
        return None
    return _split(shape[0], LANES, *_updated(stage.calls))


def _note_lengths(stage: Stage) -> Split | None:
    _, place, _, g, *lengths = stage.calls[0].given
    if not lengths:
        return None
    return _split(g.size, LANES, [(place, WHOLE), (g, 0), (lengths[0], 1)], [(stage.calls[0].results[0], 2)])


def _cross_entropy(stage: Stage) -> Split | None:
    if len(stage.calls) != 2:
        return None
    ct, logits, target, _ = stage.calls[1].given
    losses, dx = stage.calls[0].results[0], stage.calls[1].results[0]
    return _split(logits.shape[0], ROWS, [(ct, WHOLE), (logits, 0), (target, 0)], [(losses, 0), (dx, 0)])


SPLITS: dict[str, Callable[[Stage], Split | None]] = {
    "linear": _linear,
    "weight_norm_linear": _weight_norm_linear,
    "linear_pullback": _pullback,
    "weight_norm_linear_pullback": _pullback,
    "weight_norm": _weight_norm,
    "weight_norm_pullback": _weight_norm_pullback,
    "stop_gradient": _turn,
    "sgd_update": _update,
    "momentum_update": _update,
    "adam_update": _update,
    "note_lengths": _note_lengths,
    "cross_entropy": _cross_entropy,
}


def _same(one: Access, first: Split, other: Access, second: Split) -> bool:
    """Whether each thread touches in `other` what it alone touched in `one`."""
    if not first.count and not second.count:
        return True
    if (first.count, first.grain) != (second.count, second.grain) or WHOLE in (one.axis, other.axis):
        return False
    a, b = one.view, other.view
    laid = sorted(zip(a.shape, a.steps, strict=True)) == sorted(zip(b.shape, b.steps, strict=True))
    return laid and a.start == b.start and a.steps[one.axis] == b.steps[other.axis]


def _waits(earlier: Split, later: Split) -> bool:
    """Whether a thread must not begin one stage before all threads are done with another."""
    return any(
        a.view.memory is b.view.memory and (a.writes or b.writes) and not _same(a, earlier, b, later)
        for a in earlier.accesses
        for b in later.accesses
    )


def _touches(earlier: Split, later: Split) -> bool:
    """Whether the order of two stages matters."""
    return any(
        a.view.memory is b.view.memory and (a.writes or b.writes) for a in earlier.accesses for b in later.accesses
    )


MAY_FAIL = ("weight_norm", "exponent", "finite", "index", "scatter", "cross_entropy", "vector_norm")


def may_fail(call: Call) -> bool:
    """Whether a call may leave the step with a status; what replaces old values waits for all that come before it."""
    given = {"weight_norm_pullback": 3, "weight_norm_linear_pullback": 4}.get(call.op.name, math.inf)
    known = len(call.given) > given  # lengths that were found to be above 0
    return call.op.name.startswith(MAY_FAIL) and not known


def in_epochs(stages: list[Stage]) -> list[Stage]:
    """Stages in an order in which threads wait for each other as rarely as can be."""
    left = [(stage, split_of(stage)) for stage in stages]
    found: list[Stage] = []
    epoch = 0
    while left:
        now: list[tuple[Stage, Split]] = []
        later: list[tuple[Stage, Split]] = []
        for stage, split in left:
            blocked = any(_touches(one, split) for _, one in later) or any(_waits(one, split) for _, one in now)
            if stage.outside and not blocked:
                blocked = any(may_fail(call) for one, _ in (*now, *later) for call in one.calls)
            if blocked:
                later.append((stage, split))
            else:
                now.append((stage, split))
                stage.epoch = epoch
        found += [stage for stage, _ in now]
        left, epoch = later, epoch + 1
    return found
