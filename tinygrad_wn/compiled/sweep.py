"""Loops over the places of arrays, for ops that reduce: kept axes outside, reduced ones inside.

Where numbers of a kept axis lie side by side, that axis is innermost, and what is gathered is a row of numbers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .calls import Call, View
from .writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

KNOWN = "?bBhHiIlLqQfd"
"""Type codes of numbers that emitted loops compute with."""


def contiguous(shape: Sequence[int], dtype: np.dtype[Any]) -> tuple[int, ...]:
    """Steps of numbers that lie side by side."""
    return tuple(math.prod(shape[i + 1 :]) * dtype.itemsize for i in range(len(shape)))


def spread(x: View, shape: Sequence[int]) -> View:
    """The view with all axes of `shape`: numbers are met again where it has none."""
    steps = [0 if n == 1 else step for n, step in zip(x.shape, x.steps, strict=True)]
    return View(x.memory, x.start, tuple(shape), (0,) * (len(shape) - len(steps)) + tuple(steps), x.dtype)


def with_axes(x: View, axes: Iterable[int]) -> View:
    """The view with axes of size 1 put in, at these places of the result."""
    shape, steps = list(x.shape), list(x.steps)
    for axis in sorted(axes):
        shape.insert(axis, 1)
        steps.insert(axis, 0)
    return View(x.memory, x.start, tuple(shape), tuple(steps), x.dtype)


def known(*operands: Any) -> bool:
    """Whether all are arrays of numbers that loops compute with."""
    return all(isinstance(x, View) and x.dtype.char in KNOWN for x in operands)


def _merged(shape: list[int], reduced: list[bool], views: list[View]) -> tuple[list[int], list[bool], list[View]]:
    """Neighbouring axes as one, where that is one step for every view."""
    steps = [list(x.steps) for x in views]
    for i in reversed(range(len(shape) - 1)):
        if reduced[i] == reduced[i + 1] and all(s[i] == s[i + 1] * shape[i + 1] for s in steps):
            shape[i] *= shape.pop(i + 1)
            del reduced[i + 1]
            for s in steps:
                del s[i]
    return (
        shape,
        reduced,
        [View(x.memory, x.start, tuple(shape), tuple(s), x.dtype) for x, s in zip(views, steps, strict=True)],
    )


class Sweep:
    """Loops over `shape` for a call that reduces `axes`; all inputs and outputs broadcast to it."""

    def __init__(
        self, to: Writer, shape: Sequence[int], axes: Iterable[int], inputs: Sequence[View], outputs: Sequence[View]
    ) -> None:
        gone = set(axes)
        views = [spread(x, shape) for x in (*inputs, *outputs)]
        sizes, reduced, views = _merged(list(shape), [i in gone for i in range(len(shape))], views)
        self.to, self.sizes = to, sizes
        self.count = math.prod(n for n, one in zip(sizes, reduced, strict=True) if one)
        order = sorted(range(len(sizes)), key=lambda i: -abs(views[0].steps[i]))
        order = [i for i in order if sizes[i] != 1]
        self.inside = [i for i in order if reduced[i]]
        self.outside = [i for i in order if not reduced[i]]
        self.inner = self.outside[-1:] if self.inside and order[-1:] == self.outside[-1:] else []
        self.views = views
        names = [to.view(x, "reads" if k < len(inputs) else "writes") for k, x in enumerate(views)]
        self.inputs, self.outputs = names[: len(inputs)], names[len(inputs) :]
        self.depth = to.depth
        self._loops(self.outside[: len(self.outside) - len(self.inner)])

    def _loops(self, axes: Iterable[int]) -> None:
        for axis in axes:
            self.to.add(f"for i{axis} in range({self.sizes[axis]}):")
            self.to.depth += 1

    def _place(self, gone: Iterable[int] = ()) -> str:
        places = ["0" if n == 1 or i in gone else f"i{i}" for i, n in enumerate(self.sizes)]
        return ", ".join(places) or "()"

    def x(self, k: int = 0, dtype: np.dtype[Any] | None = None, *, first: bool = False) -> str:
        """A number of input k, in a dtype: at the place where the loops are, or at the first of the reduced ones."""
        value = f"{self.inputs[k]}[{self._place(self.inside if first else ())}]"
        return value if dtype is None or dtype == self.views[k].dtype else f"{self.to.type_of(dtype)}({value})"

    def y(self, k: int = 0) -> str:
        """A number of output k, at the place where the loops are."""
        return f"{self.outputs[k]}[{self._place()}]"

    def index(self) -> str:
        """How many reduced places come before this one."""
        found = "0"
        for axis in sorted(self.inside):
            found = f"({found}) * {self.sizes[axis]} + i{axis}" if found != "0" else f"i{axis}"
        return found

    def fold(self, dtype: Any, first: str, update: str, finish: str = "") -> str:
        """Gather what the reduced places hold, from `first` on; "{0}" in a text is what was gathered so far."""
        to, start = self.to, self.to.depth
        name = f"fold{len(to.lines)}"
        if self.inner:
            size = self.sizes[self.inner[0]]
            name = f"{to.view(to.aside((size,), np.dtype(dtype)), 'writes_c')}[i{self.inner[0]}]"
        self._each((), name, first)
        self._each(self.inside, name, update.format(name))
        if finish:
            self._each((), name, finish.format(name))
        to.depth = start
        return name

    def store(self, expression: str, k: int = 0, *, each: bool = False) -> None:
        """Write a result: one for all reduced places, or `each` of them."""
        output = self.views[len(self.inputs) + k]
        place = self._place(() if each else self.inside)
        self._each(
            self.inside if each else (), f"{self.outputs[k]}[{place}]", f"{self.to.type_of(output.dtype)}({expression})"
        )

    def _each(self, axes: Iterable[int], target: str, expression: str) -> None:
        start = self.to.depth
        self._loops([*axes, *self.inner])
        self.to.add(f"{target} = {expression}")
        self.to.depth = start

    def fails(self, call: Call, expression: str) -> None:
        """Leave the step where this holds for what was gathered."""
        start = self.to.depth
        self._loops(self.inner)
        self.to.fails(call, expression)
        self.to.depth = start

    def end(self) -> bool:
        """Leave the loops; the call is written."""
        self.to.depth = self.depth
        return True


def copy(to: Writer, target: View, source: View) -> None:
    """target ← source, in the dtype of the target."""
    at = Sweep(to, target.shape, (), [source], [target])
    at.store(at.x())
    at.end()
