"""Random programs drawn from the registry of ops: legal calls one after the other, whose operands are earlier results.

A result is made to fit the next case by views, reshapes, broadcasts and indices, which are op calls as well, and moved
into the domain of an input by calls that do so for any values: a program stays legal when its arguments change.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

import tinygrad_wn as tg
from tinygrad_wn.op import OPS
from tinygrad_wn.tensor import Tensor, wrap

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Slot:
    """The place of a value: tensors from outside, then the results of all lines."""

    place: int

    def __repr__(self) -> str:
        return f"t{self.place}"


@dataclass(repr=False)
class Line:
    """One op call; with targets, it writes there and has no result. "argument" takes the one of that number."""

    name: str
    operands: tuple[Any, ...]
    params: dict[str, Any]
    targets: tuple[Slot, ...] = ()

    def __repr__(self) -> str:
        shown = [*map(repr, self.operands), *(f"{name}={x!r}" for name, x in self.params.items())]
        return f"{self.name}({', '.join(shown)})" + (f" into {self.targets!r}" if self.targets else "")

    def run(self, values: list[Any], arguments: list[Tensor]) -> None:
        """Carry the call out, and append what it gives."""
        if self.name == "argument":
            values.append(arguments[self.operands[0]])
            return
        operands = [values[x.place] if isinstance(x, Slot) else x for x in self.operands]
        if self.targets:
            OPS[self.name].into(tuple(values[x.place] for x in self.targets), *operands, **self.params)
            return
        found: Any = OPS[self.name](*operands, **self.params)
        values += found if isinstance(found, tuple) else (found,)


@dataclass(repr=False)
class Program:
    """Lines, then a walk back, then lines that write; results in containers, with the gradients of all leaves."""

    arguments: list[Tensor] = field(default_factory=list)
    below: list[int | None] = field(default_factory=list)
    """Of each argument of integers: they count up to this."""
    outside: list[Tensor] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    after: list[Line] = field(default_factory=list)
    results: Any = None
    backward: bool = False

    def __repr__(self) -> str:
        lines = [f"t{i} = outside {_shown(x)}" for i, x in enumerate(self.outside)]
        values: list[Any] = [*self.outside]
        for line in self.lines:
            shown = f"argument {_shown(self.arguments[line.operands[0]])}" if line.name == "argument" else repr(line)
            lines.append(f"t{len(values)} = {shown}")
            line.run(values, self.arguments)
        lines += ["backward" if self.backward else "gradient", *map(repr, self.after), f"return {self.results!r}"]
        return "\n".join(["", *lines])

    def __call__(self, *given: Tensor) -> Any:
        """Results, and gradients of Σ y·cos(1, 2, …) over all y that have one."""
        arguments, seed = list(given[:-1]), given[-1]
        values: list[Any] = [*self.outside]
        for line in self.lines:
            line.run(values, arguments)
        places = sorted({x.place for x in _slots(self.results)})
        parts = [
            (y * (seed.astype(y.dtype) * (1 + k) + 1) * np.cos(np.arange(y.size, dtype=y.dtype)).reshape(y.shape)).sum()
            for k, y in enumerate(values[i] for i in places)
            if y.requires_grad
        ]
        leaves = [x for x in (*arguments, *self.outside) if x.requires_grad]
        slopes = self._slopes(parts, leaves)
        for line in self.after:
            line.run(values, arguments)
        return _filled(self.results, values), slopes

    def _slopes(self, parts: list[Tensor], leaves: list[Tensor]) -> Any:
        if not parts:
            return ()
        total = sum(parts[1:], parts[0])
        if not self.backward:
            return total.gradient(*leaves)
        for x in leaves:
            x.grad = None
        total.backward()
        found = [x.grad for x in leaves]
        for x in leaves:
            x.grad = None
        return found

    def fresh(self, rng: np.random.Generator | None) -> list[Tensor]:
        """The arguments that were drawn, or others; in the same layout, and with the seed of the cotangents."""
        made = []
        for x, below in zip(self.arguments, self.below, strict=True):
            array = x._data
            if rng is not None:
                array = np.empty_like(array)
                array[...] = rng.integers(0, below, x.shape) if below else np.round(rng.normal(0, 1.5, x.shape), 1)
            made.append(wrap(array.copy("K") if rng is None else array, requires_grad=x.requires_grad))
        return [*made, tg.tensor(0.25 if rng is None else rng.uniform(-1, 1), dtype="float64")]


def _shown(x: Tensor) -> str:
    wanted = ", wanted" if x.requires_grad else ""
    return f"{x.dtype} {list(x.shape)} steps {list(x._data.strides)}{wanted}: {x._data.tolist()}"


def _slots(tree: Any) -> list[Slot]:
    if isinstance(tree, Slot):
        return [tree]
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list | tuple) else ()
    return list(itertools.chain.from_iterable(map(_slots, parts)))


def _filled(tree: Any, values: list[Any]) -> Any:
    if isinstance(tree, Slot):
        return values[tree.place]
    if isinstance(tree, dict):
        return {key: _filled(value, values) for key, value in tree.items()}
    return type(tree)(_filled(x, values) for x in tree) if isinstance(tree, list | tuple) else tree
