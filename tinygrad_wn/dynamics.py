"""How steps change v: its length, how far it turns, and the law that its length follows (arXiv 1602.07868, section 2).

A step of plain gradient descent is at a right angle to v, so by Pythagoras ‖v'‖ = √(1 + c²)‖v‖ with c = ‖Δv‖/‖v‖.
Momentum, Adam and decay break that law, and the recorder shows by how much.
"""

from __future__ import annotations

import csv
import io
import math
import threading
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import plots
from .creation import tensor
from .errors import DTypeError, StateError, ValueRangeError
from .io import put_in_place
from .nn import Module, WeightNorm
from .ops.arithmetic import add
from .ops.elementwise import positive
from .ops.notes import KINDS, note_changes, note_lengths
from .optim import Optimizer
from .slot import each_step, room_for
from .tensor import Tensor

if TYPE_CHECKING:
    import os

    from .domains import Array

ROOM = 128
"""Steps that are noted before the notes are emptied: few, so that they stay near the processor."""

BLOCK = 1 << 26
"""Bytes of a block of the record, which it takes as it needs them: NumPy asks Linux for large pages for a large one."""

FIELDS = ("norm", "g", "effective_lr", "cosine", "predicted", "actual")
"""Of each unit at each step: ‖v‖ before it, g, lr g²/‖v‖², the cosine of Δv and v, √(1 + c²)‖v‖, and ‖v‖ after it."""


class NormRecorder:
    """Records what steps of an optimizer do to every v of a model, from now on: there is nothing to call.

    Per step and unit, which is a slice of v with a g of its own: `norm` is ‖v‖ before the step and `g` its g;
    `effective_lr` is lr g²/‖v‖², the rate at which a step on w itself would turn it as far, NaN where v is not a
    parameter of the optimizer; `cosine` is that of Δv and v, 0 where v stood still; `predicted` is √(1 + c²)‖v‖ with
    c = ‖Δv‖/‖v‖, and `actual` is ‖v‖ after the step, the root of ‖v‖² + 2 v·Δv + ‖Δv‖². With plain gradient descent
    the cosine is 0 and the last two are equal, to rounding (arXiv 1602.07868, section 2.1).

    One step in `every` is recorded. Sums run in the dtype of v, those of float32 in pieces: c and the cosine are right
    to 1e-6 there, `norm` to 1e-14. A recorded step takes five numbers of that dtype for each unit.

    Raises StateError where no layer is weight-normalized, DTypeError for what is not a module or an optimizer, and
    ValueRangeError unless `every` is an integer above 0.

    >>> layer = tg.nn.weight_norm(tg.nn.Linear(2, 1, bias=False))
    >>> layer.weight.v.data, layer.weight.g.data = [[3.0, 4.0]], [[1.0]]
    >>> optimizer = tg.optim.SGD([layer.weight.v], lr=10.0)
    >>> recorder = tg.NormRecorder(layer, optimizer, every=1)
    >>> layer(tg.tensor([1.0, 0.0])).sum().backward()
    >>> optimizer.step()
    >>> row = recorder.table()[0]
    >>> row["layer"], row["norm"].round(3), row["actual"].round(3), row["effective_lr"].round(3)
    (np.str_('weight'), np.float64(5.0), np.float64(5.25), np.float64(0.4))
    """

    def __init__(self, model: Module, optimizer: Optimizer, every: int = 10) -> None:
        if not isinstance(model, Module):
            raise DTypeError("NormRecorder: not a module", {"given": repr(model)}, hint="give the model first")
        if not isinstance(optimizer, Optimizer):
            raise DTypeError("NormRecorder: not an optimizer", {"given": repr(optimizer)}, hint="it is what steps")
        if not isinstance(every, int | np.integer) or isinstance(every, bool) or every < 1:
            raise ValueRangeError("NormRecorder: every must be an integer of at least 1", {"given": repr(every)})
        self.parts = {name: part for name, part in model.named_modules() if isinstance(part, WeightNorm)}
        if not self.parts:
            raise StateError("NormRecorder: no layer is weight-normalized", hint="nn.weight_norm(model), first")
        self.optimizer, self.every = optimizer, int(every)
        self._sizes = [part.scale.size for part in self.parts.values()]
        self._notes = [tensor(np.zeros((ROOM, KINDS, part.scale.size), part.v.dtype)) for part in self.parts.values()]
        self._count, self._steps, self._lock = tensor(np.array(0)), 0, threading.Lock()
        self._old: list[Tensor] = []
        self._rates: dict[int, tuple[float, ...]] = {}
        """The rate of each v, by how many steps had been done when it came to be so."""
        self._record: list[Array] = []
        self._filled: list[int] = []
        optimizer.watch(self)

    @property
    def steps(self) -> int:
        """Steps that were done since recording began."""
        return self._steps + int(self._count._data)

    def stop(self) -> None:
        """Record no more steps; what was recorded stays."""
        self.optimizer.watch(self, on=False)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy is made of, as it is now; it records the steps of a copy of the optimizer."""
        with self._lock:
            record = [block[:count].copy() for block, count in zip(self._record, self._filled, strict=True)]
            own: dict[str, Any] = {"_record": record, "_filled": [*self._filled], "_rates": {**self._rates}}
            own["_notes"] = [tensor(notes._data) for notes in self._notes]
            return {**vars(self), **own, "_count": tensor(self._count._data), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    def before_step(self) -> None:
        """Note lengths, g and rates; called by the optimizer."""
        room_for(self._count, ROOM * self.every, self._empty)
        each_step(self._note_rates, steady=True)
        self._old = [positive(part.v.detach()) for part in self.parts.values()]
        for part, notes in zip(self.parts.values(), self._notes, strict=True):
            note_lengths.into((notes,), notes, self._count, part.v, part.scale, axis=part.axis, every=self.every)

    def after_step(self) -> None:
        """Note what has changed; called by the optimizer."""
        for part, notes, old in zip(self.parts.values(), self._notes, self._old, strict=True):
            note_changes.into((notes,), notes, self._count, old, part.v, axis=part.axis, every=self.every)
        add.into((self._count,), self._count, 1)
        self._old = []

    def _note_rates(self) -> tuple[float, ...]:
        lr = {id(p): float(group["lr"]) for group in self.optimizer.param_groups for p in group["params"]}
        now = tuple(lr.get(id(part.v), math.nan) for part in self.parts.values())
        if not self._rates or next(reversed(self._rates.values())) != now:
            self._rates[self.steps] = now
        return ()

    def _empty(self) -> None:
        """Take the notes over into the record."""
        with self._lock:
            count, left = divmod(int(self._count._data), self.every)
            if not self._record or self._filled[-1] + count > len(self._record[-1]):
                like = np.result_type(*(notes.dtype for notes in self._notes))
                units = sum(self._sizes)
                self._record.append(np.empty((ROOM + BLOCK // (like.itemsize * KINDS * units), KINDS, units), like))
                self._filled.append(0)
            block = self._record[-1][self._filled[-1] : self._filled[-1] + count]
            for notes, end, size in zip(self._notes, accumulate(self._sizes), self._sizes, strict=True):
                block[:, :, end - size : end] = notes._data[:count]
            self._filled[-1] += count
            self._steps += count * self.every
            self._count._data[...] = left

    def table(self) -> Array:
        """All that was recorded as a structured array of NumPy: step, layer, unit, and the fields named above.

        Units are numbered in the order of g. Steps count from 1. `table["norm"]` is a column.
        """
        self._empty()
        columns: list[Any] = [
            ("step", np.int64),
            ("layer", f"U{max(map(len, (*self.parts, '-')))}"),
            ("unit", np.int64),
        ]
        noted = np.concatenate([block[:count] for block, count in zip(self._record, self._filled, strict=True)])
        norm, rest, g, change, along = noted.astype(np.float64).transpose(1, 0, 2)
        norm += rest
        steps = self.every * np.arange(1, len(noted) + 1)
        found = np.empty(norm.shape, [*columns, *((name, np.float64) for name in FIELDS)])
        found["step"], found["layer"] = steps[:, None], np.repeat(list(self.parts), self._sizes)
        found["unit"] = np.concatenate([np.arange(n) for n in self._sizes])
        logs = np.repeat([part.log_scale for part in self.parts.values()], self._sizes)
        found["norm"], found["g"] = norm, np.where(logs, np.exp(np.where(logs, g, 0)), g)
        if len(steps):
            since = np.searchsorted(list(self._rates), steps - 1, side="right") - 1
            found["effective_lr"] = np.repeat(np.array(list(self._rates.values())), self._sizes, axis=1)[since]
        with np.errstate(all="ignore"):  # a slice of norm 0, which has no direction, has no rate either
            found["effective_lr"] *= np.square(found["g"] / norm)
            found["cosine"] = np.where(change == 0, 0, along / np.sqrt(change))
            found["predicted"] = norm * np.sqrt(1 + change)
            found["actual"] = norm * np.sqrt(np.maximum(1 + 2 * along + change, 0))
        return found.reshape(-1)

    def save_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the table as CSV, with a header, and numbers that read back the same.

        A file that is there is replaced at once. Raises OSError, of its kind, when the file cannot be written.
        """
        text = io.StringIO()
        table = self.table()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(table.dtype.names or ())
        rows.writerows(table.tolist())
        put_in_place(Path(path), lambda file: file.write(text.getvalue().encode()))

    def plot(self, title: str = "Norm dynamics") -> bytes:
        """A PNG of ‖v‖, the effective learning rate, the cosine and the law, mean over the units of each layer.

        Needs the extra `[plots]`: raises ImportError where matplotlib is not installed, StateError without a record.
        """
        table = self.table()
        if not table.size:
            raise StateError(
                "NormRecorder: nothing was recorded", hint=f"take {self.every} steps of its optimizer, or every=1"
            )
        means: dict[str, tuple[Array, Array]] = {}
        for name, part in self.parts.items():
            rows = table[table["layer"] == name].reshape(-1, part.scale.size)
            means[name] = rows["step"][:, 0], np.stack([rows[field].mean(axis=1) for field in FIELDS])
        return plots.norms(means, title)
