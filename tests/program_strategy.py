"""Draws programs: each call is run as it is written, and what comes next is made to fit what is there."""

from __future__ import annotations

import itertools
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from programs import Line, Program, Slot

from tinygrad_wn.op import OPS
from tinygrad_wn.tensor import Tensor, wrap
from tinygrad_wn.testing.strategies import INPUT, layouts

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn

    from tinygrad_wn.domains import Domain, Shape

SIZES = [1, 2, 3, 4, 5, 9, 17]
FULL = 128
"""Programs have no result with more numbers than this, or of a larger size."""

AT_ZERO = ("abs", "relu", "relu_pullback", "vector_norm")
"""Ops that say what they do at zero, although they have a kink there."""


class Author:
    """Writes a program, and runs it meanwhile: what comes next is made to fit what is there."""

    def __init__(self, draw: DrawFn, dtype: Any, *, writes: bool) -> None:
        self.draw, self.dtype = draw, np.dtype(dtype)
        self.program = Program()
        self.program.outside = [self._leaf() for _ in range(draw(st.integers(0, 2)))]
        self.values: list[Tensor] = [*self.program.outside]
        self.leaves = [Slot(i) for i in range(len(self.values))]
        for _ in range(draw(st.integers(1, 3))):
            self.leaves.append(self.argument(self._leaf(plain=writes), None))

    def _leaf(self, *, plain: bool = False) -> Tensor:
        """A tensor in any layout; a `plain` one is contiguous, so that it is seen which of its reshapes are views."""
        draw = self.draw
        shape = tuple(draw(st.lists(st.sampled_from(SIZES), max_size=3).filter(lambda s: math.prod(s) <= FULL)))
        other = np.dtype(np.float32 if self.dtype == np.float64 else np.float64)
        dtype = other if draw(st.integers(0, 9)) == 0 else self.dtype
        array = draw(hnp.arrays(dtype, shape, elements=st.integers(-24, 24).map(lambda n: n / 8)))
        return wrap(array if plain else draw(layouts(array)), requires_grad=draw(st.integers(0, 3)) > 0)

    def whole_numbers(self, shape: Shape, below: int) -> Slot:
        """Integers below a bound: an earlier result that is brought there, or a new argument."""
        old = [Slot(i) for i, x in enumerate(self.values) if x.dtype.kind == "i" and x.size]
        if old and self.draw(st.booleans()):
            return self.call("remainder", self.shaped(self.draw(st.sampled_from(old)), shape), below)
        array = self.draw(hnp.arrays(np.int64, shape, elements=st.integers(0, below - 1)))
        return self.argument(wrap(array), below)

    def argument(self, x: Tensor, below: int | None) -> Slot:
        """One more argument, taken here."""
        line = Line("argument", (len(self.program.arguments),), {})
        self.program.arguments.append(x)
        self.program.below.append(below)
        return self._written(line)

    def _written(self, line: Line) -> Slot:
        first = Slot(len(self.values))
        line.run(self.values, self.program.arguments)
        self.program.lines.append(line)
        return first

    def call(self, name: str, *operands: Any, **params: Any) -> Slot:
        """Write a call; the slot of its first result."""
        return self._written(Line(name, operands, {**OPS[name].defaults, **params}))

    def value(self, slot: Slot) -> Tensor:
        """What a slot holds for the arguments that were drawn."""
        return self.values[slot.place]

    def shaped(self, x: Slot, shape: Shape) -> Slot:
        """The numbers of x, or some of them, or repeated, under a shape."""
        own, size = self.value(x).shape, math.prod(shape)
        if own == shape:
            return x
        orders = [axes for axes in itertools.permutations(range(len(own))) if tuple(own[i] for i in axes) == shape]
        if orders:
            return self.call("permute_dims", x, axes=orders[-1])
        pairs = zip(own[::-1], shape[::-1], strict=False)
        if len(own) <= len(shape) and all(a in (1, b) for a, b in pairs):
            return self.call("broadcast_to", x, shape=shape)
        count = math.prod(own)
        if count < size:
            times = -(-size // count)
            x = self.call("broadcast_to", self.call("reshape", x, shape=(1, count)), shape=(times, count))
            count *= times
        if count > size:
            x = self.call("reshape", x, shape=(-1,))
            backwards = self.draw(st.booleans())
            step, spare = -1 if backwards else 1, count - size
            start = count - 1 - self.draw(st.integers(0, spare)) if backwards else self.draw(st.integers(0, spare))
            end = start + step * size
            x = self.call("index", x, key=(slice(start, None if end < 0 else end, step),))
        return x if self.value(x).shape == shape else self.call("reshape", x, shape=shape)

    def moved_into(self, x: Slot, domain: Domain, name: str) -> Slot:
        """x inside of the domain of a real input, whatever its values are."""
        if domain.low > -math.inf:
            return self.call("add", self.call("square", x), 0.25)
        if domain.away and name not in AT_ZERO:
            below = self.call("less", x, 0.0)
            return self.call("where", below, self.call("subtract", x, 0.25), self.call("add", x, 0.25))
        return x

    def operand(self, domain: Domain, shape: Shape, below: int, name: str, favourite: Slot | None) -> Slot:
        """A value for one input of a call."""
        draw = self.draw
        if domain.kind == "integer" or (domain.kind == "bits" and draw(st.booleans())):
            return self.whole_numbers(shape, max(below, 1) if below else 4)
        kinds = "b" if domain.kind in ("boolean", "bits") else "f"
        known = [Slot(i) for i, x in enumerate(self.values) if x.dtype.kind in kinds and x.size and self.usable(x)]
        if kinds == "b" and not known:
            return self.call("greater", self.operand(OPS["add"].domains["a"], shape, 0, "greater", None), 0.0)
        x = favourite if favourite is not None else draw(st.sampled_from(known[::-1]))
        x = self.shaped(x, shape)
        return self.moved_into(x, domain, name) if domain.kind == "real" else x

    @staticmethod
    def usable(x: Tensor) -> bool:
        """Whether the numbers are of moderate size; others are a branch that goes nowhere."""
        return x.size <= FULL and (x.dtype.kind != "f" or bool(np.all(np.abs(x._data) <= FULL)))

    def add_call(self) -> None:
        """One more call of any op, in one of its cases."""
        draw = self.draw
        name = draw(st.sampled_from(sorted(OPS)))
        op = OPS[name]
        case = draw(st.sampled_from(op.cases))
        inputs = INPUT.findall(case.shapes)
        sizes: dict[str, int] = {}
        last = len(op.input_names) - 1
        domains = [op.domains[op.input_names[min(i, last)]] for i in range(len(inputs))]
        favourites: list[Slot | None] = []
        for (names, _), domain in zip(inputs, domains, strict=True):
            found = self._fitting(names, sizes) if domain.kind == "real" else []
            favourites.append(draw(st.sampled_from(found[::-1])) if found and draw(st.integers(0, 3)) else None)
            if favourites[-1] is not None:
                sizes |= _bound(names, self.value(favourites[-1]).shape, sizes) or {}
        for letter in sorted(set(re.findall("[a-z]", case.shapes))):
            sizes.setdefault(letter, draw(st.integers(1, 4)))
        shapes = [tuple(_size(n, sizes) for n in names.split(",") if n) for names, _ in inputs]
        if max(map(math.prod, shapes), default=0) > FULL:
            return
        operands: list[Any] = []
        for domain, shape, (_, below), one in zip(domains, shapes, inputs, favourites, strict=True):
            operands.append(self.operand(domain, shape, _size(below, sizes) if below else 0, name, one))
        if op.elementwise and len(operands) > 1 and draw(st.integers(0, 7)) == 0:
            operands[-1] = draw(st.sampled_from([1.5, -0.5, 2])) if domains[-1].kind == "real" else operands[-1]
        if not op.variadic:
            operands += [None] * (len(op.input_names) - len(operands))
        self.call(name, *operands, **case.params)

    def _fitting(self, names: str, sizes: dict[str, int]) -> list[Slot]:
        return [
            Slot(i)
            for i, x in enumerate(self.values)
            if x.dtype.kind == "f" and self.usable(x) and _bound(names, x.shape, sizes) is not None
        ]

    def add_write(self) -> None:
        """A write to an argument or to a tensor from outside, after the walk back; and a call that reads it then."""
        draw, program = self.draw, self.program
        target = draw(st.sampled_from(self.leaves))
        like = self.value(target)
        known = [Slot(i) for i, x in enumerate(self.values) if x.dtype.kind == "f" and x.size and self.usable(x)]
        x = self.shaped(draw(st.sampled_from(known[::-1])), like.shape)
        if self.value(x).dtype != like.dtype:
            x = self.call("astype", x, dtype=like.dtype)
        name = draw(st.sampled_from(["add", "multiply", "subtract", "sgd_update"]))
        operands: tuple[Any, ...] = (0.5, target, x) if name == "sgd_update" else (target, x)
        program.after.append(Line(name, operands, dict(OPS[name].defaults), (target,)))

    def finish(self) -> Program:
        """Choose what is returned."""
        draw, program = self.draw, self.program
        places = st.integers(0, len(self.values) - 1).map(lambda i: Slot(len(self.values) - 1 - i))
        chosen = draw(st.lists(places, min_size=1, max_size=4))
        shown = [x for x in chosen if self.usable(self.value(x))] or [Slot(0)]
        shown.append(Slot(len(self.values) - 1)) if self.usable(self.values[-1]) else None
        kind = draw(st.sampled_from(["list", "dict", "tuple", "deep"]))
        forms = {"list": shown, "dict": {str(i): x for i, x in enumerate(shown)}, "tuple": tuple(shown)}
        program.results = {"a": [shown[0], 3, None], "b": (tuple(shown[1:]), "c")} if kind == "deep" else forms[kind]
        program.backward = draw(st.booleans())
        return program


def _size(name: str, sizes: dict[str, int]) -> int:
    return int(name) if name.isdigit() else sizes[name]


def _bound(names: str, shape: Shape, sizes: dict[str, int]) -> dict[str, int] | None:
    """The letters of a case for an array of this shape, or None where it does not fit."""
    wanted = [n for n in names.split(",") if n]
    if len(wanted) != len(shape):
        return None
    found = dict(sizes)
    for name, size in zip(wanted, shape, strict=True):
        if (int(name) if name.isdigit() else found.setdefault(name, size)) != size:
            return None
    return found


@st.composite
def programs(draw: DrawFn, dtype: Any, *, writes: bool = False) -> Program:
    """Draw a program of two to six calls, besides those that make values fit; with `writes` it overwrites leaves."""
    author = Author(draw, dtype, writes=writes)
    for _ in range(draw(st.integers(2, 6))):
        author.add_call()
    if writes:
        for _ in range(draw(st.integers(1, 2))):
            author.add_write()
    return author.finish()
