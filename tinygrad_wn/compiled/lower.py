"""Calls as the machine wants them: layers in pieces that several threads can share, and what is cut on the way.

Every rewriting here gives calls of declared ops again, on views: a layer becomes its weight, the weight turned, and a
product; the pullback of a layer becomes the part that the layers before wait for, and the part that only updates need.
What was measured of v, its lengths, is one more result of the first call and one more operand of the later ones.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from ..kernels.loss_rows import MOST_CLASSES
from ..op import OPS
from .calls import Call, Memory, View

SMALL = 1 << 15
"""Numbers of a weight up to which it is built and turned once; a larger one is read in panels by each product."""

FEW_ROWS = 4
"""Rows of a batch up to which dot products are as fast as the turning of a weight."""

LANES = 16
"""A turned weight has rows of whole vectors, however wide those are."""

UPDATES = {"sgd_update": (1, 1), "momentum_update": (1, 2), "adam_update": (2, 3)}
"""Scalars of an update, and arrays of a parameter that get new values."""

NOTES = ("note_lengths", "note_changes")
"""Ops that write one row of many."""


def made(shape: tuple[int, ...], dtype: Any, row: int = 0) -> View:
    """New memory of the step; rows of a matrix are `row` numbers apart, if that is given."""
    whole = np.empty((*shape[:-1], row or shape[-1]) if shape else shape, dtype)
    return View(Memory("made", whole), 0, shape, whole.strides, whole.dtype)


def turned(x: View) -> View:
    """The transpose of a matrix."""
    return View(x.memory, x.start, x.shape[::-1], x.steps[::-1], x.dtype)


def matrices(*operands: Any) -> bool:
    """Whether all are matrices of one float dtype with contiguous rows, and none is empty."""
    return all(
        isinstance(x, View)
        and len(x.shape) == 2
        and x.dtype.char in "fd"
        and x.dtype == operands[0].dtype
        and x.size > 0
        and (x.steps[1] == x.dtype.itemsize or x.shape[1] == 1)
        for x in operands
    )


def vectors(*operands: Any, dtype: Any) -> bool:
    """Whether all are None or contiguous arrays of this dtype."""
    return all(x is None or (isinstance(x, View) and x.whole and x.dtype == dtype) for x in operands)


def is_turned(x: Any) -> bool:
    """Whether columns lie side by side in memory that `Lowering` made for them, with room to the end of a vector."""
    if not isinstance(x, View) or len(x.shape) != 2 or x.memory.kind != "made" or x.start:
        return False
    row = -(-x.shape[0] // LANES) * LANES * x.dtype.itemsize
    return x.steps == (x.dtype.itemsize, row) and x.memory.owner.nbytes == row * x.shape[1] and x.dtype.char in "fd"


class Lowering:
    """One pass over the calls of a step."""

    def __init__(self, calls: list[Call]) -> None:
        self.calls = calls
        self.out: list[Call] = []
        self.later: list[Call] = []
        self.weights: dict[tuple[View, View], tuple[View, ...]] = {}
        self.turns: dict[View, View] = {}
        self.relus: dict[View, View] = {}
        self.losses: dict[Any, Call] = {}

    def run(self) -> list[Call]:
        """The calls that do the same."""
        for call in self.calls:
            rewrite = getattr(self, f"lower_{call.op.name}", None)
            if call.op.name != "relu_pullback":
                self._catch_up()
            if rewrite is None or not rewrite(call):
                self.out.append(call)
            if call.writes:
                self._forget(call.results)
        self._catch_up()
        return self.out

    def _forget(self, written: tuple[View, ...]) -> None:
        """What was made of a parameter does not belong to its new values."""

        def stays(*views: View) -> bool:
            return not any(x.overlaps(y) for x in views for y in written)

        self.weights = {pair: found for pair, found in self.weights.items() if stays(*pair)}
        self.turns = {weight: found for weight, found in self.turns.items() if stays(weight)}

    def _catch_up(self) -> None:
        """What only updates wait for comes after the relu whose pullback cuts the cotangent of a batch."""
        self.out += self.later
        self.later.clear()

    def _add(
        self,
        name: str,
        operands: tuple[Any, ...],
        results: tuple[View, ...],
        like: Call,
        later: bool = False,
        **params: Any,
    ) -> None:
        (self.later if later else self.out).append(Call(OPS[name], operands, params, results, False, like.line))

    def lower_relu(self, call: Call) -> bool:
        x, y = call.given[0], call.results[0]
        if isinstance(x, View) and x.dtype == y.dtype and x.memory.kind == "made":
            self.relus[x] = y
        return False

    def lower_relu_pullback(self, call: Call) -> bool:
        """relu(x) is above 0 where x is: so x is not needed any more."""
        ct, x = call.given
        y = self.relus.get(x) if isinstance(x, View) else None
        if y is None:
            return False
        self._add("relu_pullback", (ct, y), call.results, call)
        return True

    def _turned(self, weight: View, call: Call) -> View:
        """The weight as columns that lie side by side; seen as before."""
        if weight not in self.turns:
            o, k = weight.shape
            columns = made((k, o), weight.dtype, -(-o // LANES) * LANES)
            self.turns[weight] = turned(columns)
            self._add("stop_gradient", (weight,), (turned(columns),), call)
        return self.turns[weight]

    def lower_linear(self, call: Call) -> bool:
        x, weight, bias = call.given
        if not matrices(x, weight, *call.results) or not vectors(bias, dtype=call.results[0].dtype):
            return False
        if weight.size > SMALL or x.shape[0] <= FEW_ROWS or weight.shape[0] == 1:
            return False
        self._add("linear", (x, self._turned(weight, call), bias), call.results, call)
        return True

    def lower_weight_norm_linear(self, call: Call) -> bool:
        x, v, g, bias = call.given
        if not matrices(x, v, g, *call.results) or not vectors(bias, dtype=call.results[0].dtype):
            return False
        y = call.results[0]
        if v.size <= SMALL and x.shape[0] <= FEW_ROWS:
            return False
        if v.size > SMALL:
            lengths, scales = self._measured(v, g, made((2, v.shape[0]), v.dtype))
            self._add("weight_norm_linear", (x, v, g, bias), (y, lengths, scales), call)
            return True
        if (v, g) not in self.weights:
            o, k = v.shape
            columns = turned(made((k, o), v.dtype, -(-o // LANES) * LANES))
            lengths, _, factors = self._measured(v, g, columns, made((4, o), v.dtype))
            self._add("weight_norm", (v, g), (columns, lengths, factors), call, axis=0)
        _, columns, factors = self.weights[v, g]
        self._add("linear", (x, columns, bias, factors), (y,), call)
        return True

    def _measured(self, v: View, g: View, *others: View) -> tuple[View, ...]:
        """The lengths of v, and what else was made of v and g for later calls."""
        return self.weights.setdefault((v, g), (made((2, v.shape[0]), np.float64), *others))

    def lower_linear_pullback(self, call: Call) -> bool:
        ct, x, weight = call.given
        wanted = call.params["wanted"]
        dx, dw, db = self._results(call, wanted)
        if not matrices(ct, x, weight, *[y for y in (dx, dw) if y is not None]):
            return False
        if dx is not None:
            self._add("linear_pullback", (ct, x, weight), (dx,), call, wanted=(True, False, False))
        self._slopes(ct, x, weight, dw, db, call)
        return True

    def _slopes(self, ct: View, x: View, weight: View, dw: View | None, db: View | None, call: Call) -> None:
        results = tuple([y for y in (dw, db) if y is not None])
        if results:
            wanted = (False, dw is not None, db is not None)
            self._add("linear_pullback", (ct, x, weight), results, call, wanted=wanted, later=True)

    @staticmethod
    def _results(call: Call, wanted: tuple[bool, ...]) -> list[View | None]:
        given = iter(call.results)
        return [next(given) if one else None for one in wanted]

    def lower_weight_norm_linear_pullback(self, call: Call) -> bool:
        ct, x, v, g = call.given
        wanted = call.params["wanted"]
        dx, dv, dg, db = self._results(call, wanted)
        if not matrices(ct, x, v, g, *[y for y in (dx, dv, dg) if y is not None]) or (v, g) not in self.weights:
            return False
        lengths, *_, other = self.weights[v, g]
        if dx is not None:
            only = (True, False, False, False)
            self._add("weight_norm_linear_pullback", (ct, x, v, g, other), (dx,), call, wanted=only)
        slopes = dv is not None or dg is not None
        dv = made(v.shape, v.dtype) if dv is None and slopes else dv
        dg = made(g.shape, g.dtype) if dg is None and slopes else dg
        self._slopes(ct, x, v, dv, db, call)
        if dv is not None and dg is not None:
            self._add("weight_norm_pullback", (dv, v, g, lengths), (dv, dg), call, axis=0, later=True)
        return True

    def lower_cross_entropy(self, call: Call) -> bool:
        logits, target, weight = call.given
        if weight is None and call.params["reduction"] != "none" and matrices(logits):
            self.losses[logits, target, call.params["reduction"]] = call
        return False

    def lower_cross_entropy_pullback(self, call: Call) -> bool:
        """The loss is made along with the gradient, if nobody asks for it before."""
        ct, logits, target, weight = call.given
        reduction = call.params["reduction"]
        loss = self.losses.get((logits, target, reduction)) if weight is None else None
        if loss is None or not isinstance(target, View) or target.dtype != np.int64 or not target.whole:
            return False
        dx = call.results[0]
        if not matrices(logits, dx) or logits.shape[1] > MOST_CLASSES or ct.dtype != dx.dtype or ct.size != 1:
            return False
        since = self.out[self.out.index(loss) + 1 :]
        own = loss.results[0]
        if own.dtype != dx.dtype or any(x.memory is own.memory for one in since for x in reads(one)):
            return False
        self.out.remove(loss)
        losses = made(logits.shape[:1], dx.dtype)
        self._add("cross_entropy", (logits, target, None), (losses,), loss, reduction="none")
        self.out.append(call)
        del self.losses[logits, target, reduction]
        self._add("mean" if reduction == "mean" else "sum", (losses,), (own,), loss, axis=None, keepdims=False)
        return True

    def _updated(self, call: Call) -> bool:
        """One call for each parameter."""
        scalars, news = UPDATES[call.op.name]
        each = news + 1
        arrays, first = call.given[scalars:], call.given[:scalars]
        if not call.writes or not all(isinstance(x, View) and x.whole and x.dtype.char in "fd" for x in arrays):
            return False
        for i in range(len(arrays) // each):
            own, results = arrays[i * each : (i + 1) * each], call.results[i * news : (i + 1) * news]
            if own[:-1] != results or len({x.dtype for x in own if isinstance(x, View)}) > 1:
                return False
        for i in range(len(arrays) // each):
            own, results = arrays[i * each : (i + 1) * each], call.results[i * news : (i + 1) * news]
            self.out.append(Call(call.op, (*first, *own), call.params, results, True, call.line))
        return True

    def lower_note_lengths(self, call: Call) -> bool:
        """Lengths that a layer has measured are not measured again."""
        notes, place, v, g = call.given
        kept = next((found[0] for pair, found in self.weights.items() if pair[0] == v), None)
        if kept is None or not call.writes or not isinstance(g, View) or not g.whole:
            return False
        self.out.append(replace(call, operands=(notes, place, v, g, kept)))
        return True

    def lower_note_changes(self, call: Call) -> bool:
        """The update of v notes how it changes v, and v needs not be kept for that."""
        notes, place, old, new = call.given
        i = next((i for i, one in enumerate(self.out) if old in one.results), -1)
        since = self.out[i:]
        writers = [one for one in since if any(x.overlaps(new) for x in one.results)]
        if i < 0 or since[0].op.name != "positive" or since[0].operands != (new,) or len(writers) != 1:
            return False
        at = self.out.index(writers[0]) + 1
        if writers[0].op.name not in UPDATES or not call.writes or call.params["axis"] != 0 or not matrices(new):
            return False
        if any(one.op.name == call.op.name for one in self.out[at : at + 1]):  # of another recorder
            return False
        if any(x.memory in (notes.memory, place.memory) for one in self.out[at:] for x in (*reads(one), *one.results)):
            return False
        self.out.insert(at, replace(call, operands=(notes, place, None, new)))
        return True

    lower_sgd_update = lower_momentum_update = lower_adam_update = _updated


def reads(call: Call) -> list[View]:
    """The arrays that a call reads."""
    return [x for x in call.given if isinstance(x, View)]


def work(calls: list[Call]) -> float:
    """Operations of matrix products, about."""
    products = {"linear", "linear_pullback", "weight_norm_linear", "weight_norm_linear_pullback", "matmul"}
    return sum(
        2.0 * math.prod(call.given[1].shape) * call.given[0].shape[0]
        for call in calls
        if call.op.name in products
        and isinstance(call.given[0], View)
        and isinstance(call.given[1], View)
        and call.given[0].shape
    )


def touched(calls: list[Call]) -> int:
    """Numbers that calls read and write; one row of the many that are kept for notes does not count."""
    found = (x for call in calls if call.op.name not in NOTES for x in (*call.given, *call.results))
    return sum(x.size for x in found if isinstance(x, View))
