"""How steps change v: its length, how far it turns, and the law that its length follows (arXiv 1602.07868, section 2).

A step of plain gradient descent is at a right angle to v, so by Pythagoras ‖v'‖ = √(1 + c²)‖v‖ with c = ‖Δv‖/‖v‖.
Momentum, Adam and decay break that law, and the recorder shows by how much.
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import plots
from .compiled import jit
from .errors import CompileError, DTypeError, StateError, ValueRangeError
from .functions import concat, stack
from .io import put_in_place
from .nn import Module, WeightNorm
from .op import slot
from .ops.arithmetic import where
from .ops.comparison import equal
from .ops.elementwise import exp, sqrt, square
from .ops.norm import vector_norm
from .ops.reductions import sum as total
from .ops.structural import astype, stop_gradient
from .shapes import other_axes
from .tensor import Tensor, tensor

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from typing import IO

    from .domains import Array

FIELDS = ("norm", "g", "effective_lr", "cosine", "predicted", "actual")
"""Of each unit at each step: ‖v‖ before it, g, lr g²/‖v‖², the cosine of Δv and v, √(1 + c²)‖v‖, and ‖v‖ after it."""


class NormRecorder:
    """Records what each step does to every v of a model: call `record()` right after the step.

    Per step and unit, which is a slice of v with a g of its own: `norm` is ‖v‖ before the step and `g` its g;
    `effective_lr` is lr g²/‖v‖², the rate at which a step on w itself would turn it as far, NaN without an optimizer;
    `cosine` is that of Δv and v, 0 where v stood still; `predicted` is √(1 + c²)‖v‖ with c = ‖Δv‖/‖v‖, and `actual` is
    ‖v‖ after the step. With plain gradient descent the cosine is 0 and the last two are equal, to rounding.

    `optimizer` is asked for the learning rate of each v. All is computed in float64, beside the step and not in it.
    `every=k` looks at one step in k, and keeps v before it; `compiled=True` makes machine code of looking. Raises
    StateError where no layer is weight-normalized, DTypeError for what is not a module, ValueRangeError unless `every`
    is an integer above 0; `record` raises CompileError inside of a compiled step.

    >>> layer = tg.nn.weight_norm(tg.nn.Linear(2, 1, bias=False))
    >>> layer.weight.v.data, layer.weight.g.data = [[3.0, 4.0]], [[1.0]]
    >>> optimizer = tg.optim.SGD([layer.weight.v], lr=10.0)
    >>> recorder = tg.NormRecorder(layer, optimizer)
    >>> layer(tg.tensor([1.0, 0.0])).sum().backward()
    >>> optimizer.step()
    >>> recorder.record()
    >>> row = recorder.table()[0]
    >>> row["layer"], row["norm"].round(3), row["actual"].round(3), row["effective_lr"].round(3)
    (np.str_('weight'), np.float64(5.0), np.float64(5.25), np.float64(0.4))
    """

    def __init__(self, model: Module, optimizer: Any = None, every: int = 1, *, compiled: bool = False) -> None:
        if not isinstance(model, Module):
            raise DTypeError("NormRecorder: not a module", {"given": repr(model)}, hint="give the model first")
        if not isinstance(every, int | np.integer) or isinstance(every, bool) or every < 1:
            raise ValueRangeError("NormRecorder: every must be an integer of at least 1", {"given": repr(every)})
        self.parts = {name: part for name, part in model.named_modules() if isinstance(part, WeightNorm)}
        if not self.parts:
            raise StateError("NormRecorder: no layer is weight-normalized", hint="nn.weight_norm(model), first")
        self.optimizer, self.every, self.steps = optimizer, int(every), 0
        self._found: list[tuple[int, list[float], Array]] = []
        self._now = [one.detach() for part in self.parts.values() for one in (part.v, part.scale)]
        self._before = [tensor(one) for one in self._now]
        groups = () if optimizer is None else optimizer.param_groups
        self._groups = [
            next((one for one in groups if any(p is part.v for p in one["params"])), {"lr": math.nan})
            for part in self.parts.values()
        ]
        self._look: Callable[[], Any] = jit(self._compare) if compiled else self._compare
        self._keep: Callable[[], Any] = jit(self._remember) if compiled else self._remember

    def record(self) -> None:
        """Look at the step that was just done."""
        _outside()
        self.steps += 1
        if self.steps % self.every == 0:
            self._found.append((self.steps, [float(one["lr"]) for one in self._groups], self._look().numpy()))
        elif (self.steps + 1) % self.every == 0:
            self._keep()

    def table(self) -> Array:
        """All that was recorded as a structured array of NumPy: step, layer, unit, and the fields named above.

        Units are numbered in the order of g. Steps count from 1. `table["norm"]` is a column.
        """
        longest = max(map(len, self.parts))
        columns: list[Any] = [("step", np.int64), ("layer", f"U{max(longest, 1)}"), ("unit", np.int64)]
        columns += [(name, np.float64) for name in FIELDS]
        sizes = [part.scale.size for part in self.parts.values()]
        found = np.empty((len(self._found), sum(sizes)), columns)
        found["layer"] = np.repeat(list(self.parts), sizes)
        found["unit"] = np.concatenate([np.arange(n) for n in sizes])
        for rows, (step, rates, fields) in zip(found, self._found, strict=True):
            rows["step"] = step
            rows["norm"], rows["g"], rows["cosine"], rows["predicted"], rows["actual"] = fields
            with np.errstate(all="ignore"):  # a slice of norm 0, which has no direction, has no rate either
                rows["effective_lr"] = np.repeat(rates, sizes) * np.square(rows["g"] / rows["norm"])
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

        def write(file: IO[bytes]) -> None:
            file.write(text.getvalue().encode())

        put_in_place(Path(path), write)

    def plot(self, title: str = "Norm dynamics") -> bytes:
        """A PNG of ‖v‖, the effective learning rate, the cosine and the law, mean over the units of each layer.

        Needs the extra `[plots]`: raises ImportError where matplotlib is not installed, StateError without a record.
        """
        if not self._found:
            raise StateError("NormRecorder: nothing was recorded", hint="call record() after each step")
        table = self.table()
        means: dict[str, tuple[Array, Array]] = {}
        for name, part in self.parts.items():
            rows = table[table["layer"] == name].reshape(-1, part.scale.size)
            means[name] = rows["step"][:, 0], np.stack([rows[field].mean(axis=1) for field in FIELDS])
        return plots.norms(means, title)

    def _compare(self) -> Tensor:
        """Five fields of all units, a row for each; what was before becomes what is now."""
        found = []
        pairs = zip(self.parts.values(), self._before[::2], self._before[1::2], self._now[::2], strict=True)
        for part, old, g, new in pairs:
            rest = other_axes(part.axis, old.ndim)
            before, after = astype(old, dtype="float64"), astype(new, dtype="float64")
            move = after - before
            norm, actual, moved = (vector_norm(x, axis=rest, keepdims=True) for x in (before, after, move))
            turn = move / where(equal(moved, 0), 1.0, moved)
            cosine = total(turn * (before / norm), axis=rest, keepdims=True)
            predicted = norm * sqrt(1 + square(moved / norm))
            length = astype(g, dtype="float64")
            fields = (norm, exp(length) if part.log_scale else length, cosine, predicted, actual)
            found.append(stack([one.reshape(-1) for one in fields]))
        rows = concat(found, axis=1)
        self._remember()
        return rows

    def _remember(self) -> None:
        for old, new in zip(self._before, self._now, strict=True):
            stop_gradient.into((old,), new)


def _outside() -> None:
    """Refuse to count in a step that is being recorded: it would count once."""
    if slot.over.get() is not None:
        raise CompileError("NormRecorder: record() cannot be part of a compiled step", hint="call it after the step")
