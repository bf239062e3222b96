"""How ops that move numbers are written: copies between views, and indices that are read at run time."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops.structural import HERE
from .calls import Call, View
from .sweep import Sweep, contiguous, copy, known, spread
from .writer import Writer, rule


@rule("reshape")
def reshape(to: Writer, call: Call) -> bool:
    """The numbers in the order of their places, side by side."""
    (x,), (y,) = call.operands, call.results
    if not known(x, y) or not isinstance(x, View) or not y.whole:
        return False
    copy(to, View(y.memory, y.start, x.shape, contiguous(x.shape, y.dtype), y.dtype), x)
    return True


@rule("concatenate")
def concatenate(to: Writer, call: Call) -> bool:
    """Each array into its part of the result."""
    (y,) = call.results
    if not known(*call.operands, y):
        return False
    axis, start = call.params["axis"] % len(y.shape), y.start
    for x in call.operands:
        if isinstance(x, View):
            copy(to, View(y.memory, start, x.shape, y.steps, y.dtype), x)
            start += x.shape[axis] * y.steps[axis]
    return True


class Selection:
    """`x[key]`: a view of x with the axes that stay first and those that integer arrays run over last.

    `full` is the shape of the result. The axes of the arrays come together at `first`, as NumPy places them.
    """

    def __init__(self, x: View, key: tuple[Any, ...], arrays: list[View]) -> None:
        rest = iter(arrays)
        parts = [next(rest) if part is HERE else part for part in key]
        named = len([part for part in parts if part is not None and part is not Ellipsis])
        gap = next((i for i, part in enumerate(parts) if part is Ellipsis), len(parts))
        parts[gap : gap + 1] = [slice(None)] * (len(x.shape) - named) or [Ellipsis][: gap < len(parts)]
        self.common = np.broadcast_shapes(*(one.shape for one in arrays))
        self.picked = list(arrays)
        kept: list[tuple[int, int]] = []
        run: list[tuple[int, int]] = []
        places: list[int] = []
        start, source, first = x.start, 0, len(x.shape)
        for i, part in enumerate(parts):
            if part is Ellipsis or part is None:
                kept += [(1, 0)] if part is None else []
                continue
            size, step = x.shape[source], x.steps[source]
            source += 1
            if isinstance(part, slice):
                taken = range(size)[part]
                start += taken.start * step if taken else 0
                kept.append((len(taken), taken.step * step))
                continue
            first, places = min(first, len(kept)), [*places, i]
            if isinstance(part, View):
                run.append((size, step))
            else:
                start += part % size * step
        self.first = first if not places or len(places) == places[-1] - places[0] + 1 else 0
        self.first = min(self.first, len(kept))
        shape, steps = zip(*kept, *run, strict=True) if kept or run else ((), ())
        self.view = View(x.memory, start, shape, steps, x.dtype)
        sizes = [n for n, _ in kept]
        self.full = (*sizes[: self.first], *self.common, *sizes[self.first :])
        self.sizes = [n for n, _ in run]

    def check(self, to: Writer, call: Call) -> None:
        """Leave the step where an array names a place that is not there."""
        for one, size in zip(self.picked, self.sizes, strict=True):
            at = Sweep(to, one.shape, range(len(one.shape)), [one], [])
            at.fails(call, at.fold(np.int64, "0", f"{{0}} | {to.use('reduce', 'outside')}({at.x()}, {size})"))
            at.end()

    def loops(self, to: Writer) -> tuple[str, str]:
        """Write loops over the result, and give the places there and in the view."""
        arrays = [to.view(spread(one, self.common), "reads") for one in self.picked]
        names = [f"i{axis}" for axis in range(len(self.full))]
        for name, size in zip(names, self.full, strict=True):
            to.add(f"for {name} in range({size}):")
            to.depth += 1
        last = self.first + len(self.common)
        place = ", ".join(names[self.first : last]) or "()"
        wrapped = to.use("reduce", "wrapped") if arrays else ""
        found = [f"{wrapped}({one}[{place}], {size})" for one, size in zip(arrays, self.sizes, strict=True)]
        return ", ".join(names) or "()", ", ".join([*names[: self.first], *names[last:], *found]) or "()"


def _views(call: Call) -> list[View]:
    return [x for x in call.operands if isinstance(x, View)]


@rule("index")
def index(to: Writer, call: Call) -> bool:
    """y ← x[key]."""
    if not known(*call.operands, *call.results):
        return False
    (x, *arrays), (y,), depth = _views(call), call.results, to.depth
    chosen = Selection(x, call.params["key"], arrays)
    chosen.check(to, call)
    source, target = to.view(chosen.view, "reads"), to.view(y, "writes")
    here, there = chosen.loops(to)
    to.add(f"{target}[{here}] = {source}[{there}]")
    to.depth = depth
    return True


@rule("scatter")
def scatter(to: Writer, call: Call) -> bool:
    """y ← 0, then x is added at y[key]."""
    if not known(*call.operands, *call.results):
        return False
    (x, *arrays), (y,), depth = _views(call), call.results, to.depth
    chosen = Selection(y, call.params["key"], arrays)
    chosen.check(to, call)
    at = Sweep(to, y.shape, (), [], [y])
    at.store("0")
    at.end()
    source, target = to.view(spread(x, chosen.full), "reads"), to.view(chosen.view, "writes")
    here, there = chosen.loops(to)
    kind, plus = to.type_of(y.dtype), "|" if y.dtype.kind == "b" else "+"
    to.add(f"{target}[{there}] = {kind}({target}[{there}] {plus} {source}[{here}])")
    to.depth = depth
    return True
