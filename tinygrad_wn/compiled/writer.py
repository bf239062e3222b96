"""Writes a plan as the text of one Python function that Numba compiles; what it has no words for stays with NumPy."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..kernels.team import FULL
from ..op import OPS
from .calls import Call, Memory, Number, Operand, Room, View
from .loops import Loop
from .plan import BORDER, Plan, Stage
from .splits import Split, split_of
from .values import text_of

WORDS = "given, results, table, part, parts"
"""What each emitted function takes."""

NOWHERE = Memory("nowhere", np.empty(0))
"""Where arrays without numbers are."""

RULES: dict[str, Callable[[Writer, Call], bool]] = {}
"""How a call of an op is written, by its name; a rule says False where it has no words for a call."""


def rule(*names: str) -> Callable[[Callable[[Writer, Call], bool]], Callable[[Writer, Call], bool]]:
    """Declare how calls of these ops are written."""

    def declare(write: Callable[[Writer, Call], bool]) -> Callable[[Writer, Call], bool]:
        RULES.update(dict.fromkeys(names, write))
        return write

    return declare


SHARED: dict[str, Callable[[Writer, Stage], None]] = {}
"""How stages are written that can be split, by the name of their first op."""


def shared(*names: str) -> Callable[[Callable[[Writer, Stage], None]], Callable[[Writer, Stage], None]]:
    """Declare how stages are written that begin with these ops."""

    def declare(write: Callable[[Writer, Stage], None]) -> Callable[[Writer, Stage], None]:
        SHARED.update(dict.fromkeys(names, write))
        return write

    return declare


PAGE = 64
"""Stages in one function, where there are more than twice as many: Numba's time grows with the square of its lines."""

LEFT = -3
"""What a page gives where another thread failed."""

TABLE = 10
"""Words of a step's table before the arguments: its memory, its numbers, where its threads meet, where helpers are
asked, the type of tensors and the place of the array in one, its first function, how a tensor says that it requires a
gradient, and between which addresses the step writes.
"""


@dataclass
class Part:
    """A function of the emitted module, or a call that is carried out by its NumPy definition."""

    name: str = ""
    call: Call | None = None


@dataclass
class Text:
    """What was written: the module, its parts in order, and the arrays that its table holds addresses of."""

    module: str
    parts: list[Part]
    held: list[Memory]
    failing: list[Call] = field(default_factory=list)
    scratch: int = 0
    """Bytes that single calls need for themselves, behind those of the plan."""
    fragile: bool = False
    """Whether something may fail when something was written already."""


class Writer:
    """Lines of the function that is being written, and the names of what they use."""

    def __init__(self, stages: Plan, arguments: list[int], results: int, rooms: Iterable[Room] = ()) -> None:
        """Write a plan for arguments of so many bytes."""
        self.plan, self.rooms = stages, rooms
        self.arguments, self.results, self.bytes = len(arguments), results, arguments
        self.lines: list[str] = []
        self.arrays: list[str] = []
        self.parts: list[Part] = []
        self.functions: list[str] = []
        self.names: dict[tuple[str, View], str] = {}
        self.ranges: dict[tuple[int, int], tuple[str, str]] = {}
        self.kinds: dict[str, str | tuple[str, int, bool, np.dtype[Any]]] = {"True": "flag", "False": "flag"}
        self.linked: dict[tuple[str, str, int], str] = {}
        self.imports: dict[str, set[str]] = {}
        self.types = {"float64", "int64"}
        self.scalars: set[str] = set()
        self.held: list[Memory] = []
        self.failing: list[Call] = []
        self.depth, self.scratch, self.taken = 1, 0, 0
        self.paged = len(stages.stages) > 2 * PAGE
        self.pages: list[str] = []
        self.split = Split(0, 1, ())
        self.written = self.fragile = False
        self.epoch = self.checked = -1
        """The epoch that is being written, and the last one in which something may fail."""

    def use(self, module: str, name: str) -> str:
        """Import a name of a module of kernels."""
        self.imports.setdefault(module, set()).add(name)
        return name

    def linked_call(self, module: str, name: str, arguments: list[str], dtype: np.dtype[Any]) -> str:
        """A call of a kernel's machine code, for floats of one dtype. Arrays are named by `view` or `nothing`."""
        kinds = ", ".join(self._kind(x, dtype) for x in arguments)
        self.use(module, name)
        own = self.linked.setdefault((name, kinds, dtype.itemsize), f"{name.lstrip('_')}_{len(self.linked)}")
        return f"{own}({', '.join(arguments)})"

    def _kind(self, name: str, dtype: np.dtype[Any]) -> str:
        """What a kernel takes in this place, in the words of `AnyLayout`."""
        kind = self.kinds.get(name, "count")
        if isinstance(kind, str):
            return kind
        way, ndim, whole, own = kind
        layout = "C" if whole else "A"
        return f"{way} {ndim}" + (f" {layout} {own.name}" if own != dtype else " C" if whole else "")

    def group(self, items: list[str], dtype: np.dtype[Any]) -> str:
        """A tuple of what kernels take."""
        text = _tuple(items)
        self.kinds[text] = f"({' + '.join(self._kind(x, dtype) for x in items)})"
        return text

    def type_of(self, dtype: np.dtype[Any]) -> str:
        """The name of a dtype in emitted text."""
        name = "bool_" if dtype.char == "?" else dtype.name
        self.types.add(name)
        return name

    def add(self, line: str) -> None:
        """Write a line at the present depth."""
        self.lines.append("    " * self.depth + line)

    def fails(self, call: Call, expression: str) -> None:
        """Write a kernel call that gives a status, and leave the step where that is not 0."""
        self.failing.append(call)
        self.fragile, self.checked = self.fragile or self.written, self.epoch
        self.add(f"if {expression}:")
        number = len(self.failing)
        self.add(
            f"    return {self.use('atomic', 'leave')}(at[2], {number})" if self.plan.team else f"    return {number}"
        )

    def address(self, x: View) -> str:
        """An expression for where a view begins."""
        memory, start = x.memory, x.start
        if memory is NOWHERE:
            return "0"
        if memory.kind in ("argument", "result"):
            base = f"{self.use('memory', 'numbers_of')}({memory.kind}_{memory.place})"
        elif memory.kind == "made":
            base, start = "base", start + memory.place
        else:
            if memory not in self.held:
                self.held.append(memory)
            base = f"at[{TABLE + self.arguments + self.held.index(memory)}]"
        return f"{base} + {start}" if start else base

    def view(self, x: View, how: str) -> str:
        """The name of an array over a view, made by `how`: reads, writes, reads_c or writes_c."""
        if (how, x) not in self.names:
            name = f"{how[0]}{len(self.names)}"
            self.kinds[name] = ("in" if how[0] == "r" else "out", len(x.shape), how.endswith("_c"), x.dtype)
            self.use("memory", how)
            self.arrays.append(
                f"    {name} = {how}({self.type_of(x.dtype)}, {self.address(x)}, {_tuple(x.shape)}, {_tuple(x.steps)})"
            )
            self.names[how, x] = name
        return self.names[how, x]

    def range(self) -> tuple[str, str]:
        """Names of the first thing of a thread's part of the stage, and of the one behind its last."""
        count, grain = self.split.count, self.split.grain
        if not self.plan.team:
            return "0", str(count)
        if (count, grain) not in self.ranges:
            names = (f"first_{count}_{grain}", f"last_{count}_{grain}")
            begin = self.use("atomic", "share_begin")
            self.arrays += [
                f"    {name} = {begin}({part}, parts, {count}, {grain})"
                for name, part in zip(names, ("part", "part + 1"), strict=True)
            ]
            self.ranges[count, grain] = names
        return self.ranges[count, grain]

    def part(self, x: View, how: str, axis: int) -> str:
        """The array over a view, as far as it lies in a thread's part along an axis."""
        name = self.view(x, how)
        if not self.plan.team:
            return name
        first, last = self.range()
        own = f"{name}[{':, ' * axis}{first}:{last}]"
        self.kinds[own] = self.kinds[name]
        return own

    def flat_part(self, x: View, how: str) -> str:
        """The same along the first axis, of all numbers in one row."""
        name = self.view(View(x.memory, x.start, (x.size,), (x.dtype.itemsize,), x.dtype), how)
        if not self.plan.team:
            return name
        (first, last), each = self.range(), x.size // x.shape[0]
        own = f"{name}[{first} * {each}:{last} * {each}]" if each > 1 else f"{name}[{first}:{last}]"
        self.kinds[own] = self.kinds[name]
        return own

    def nothing(self, dtype: np.dtype[Any], how: str = "reads_c") -> str:
        """The name of an array without numbers: a vector for *_c, else a matrix of two rows."""
        shape = (0,) if how.endswith("_c") else (2, 0)
        return self.view(View(NOWHERE, 0, shape, (dtype.itemsize,) * len(shape), dtype), how)

    def aside(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> View:
        """Memory for one call alone, beside what the call took already."""
        like, start = np.empty(shape, dtype), self.taken
        self.taken += -(-like.nbytes // BORDER) * BORDER
        self.scratch = max(self.scratch, self.taken)
        return View(Memory("made", like, self.plan.bytes + start), 0, shape, like.strides, dtype)

    def number(self, x: Operand) -> str:
        """A Python number, the one of an array, or one that is found anew in each step."""
        if isinstance(x, View):
            return f"{self.view(x, 'reads')}[()]"
        if isinstance(x, float) and not math.isfinite(x):
            self.types.add("nan" if math.isnan(x) else "inf")
        return f"now[{x.place}]" if isinstance(x, Number) else repr(x)

    def write(self) -> Text:
        """Write all stages."""
        self._begin()
        self._check_arguments()
        self._check_rooms()
        self.epoch = 0
        for i, stage in enumerate(self.plan.stages):
            if self.paged and i and i % PAGE == 0:
                self._turn()
            if self.plan.team and stage.epoch != self.epoch:
                self.add(f"if {self.use('atomic', 'meet')}(at[2], parts):")
                self.add(f"    return {LEFT if self.paged else 0}")
            self.epoch, self.taken = stage.epoch, 0
            self._stage(i, stage)
            self.written = self.written or stage.outside
            # in one epoch, a thread may write what another one's failure is to leave as it was
            self.fragile = self.fragile or (self.plan.team and stage.outside and self.checked == self.epoch)
        self._end()
        return Text(self._module(), self.parts, self.held, self.failing, self.scratch, self.fragile)

    def _stage(self, i: int, stage: Stage) -> None:
        call, before = stage.calls[0], self.lines
        self.split, self.lines, self.arrays = split_of(stage), [], []
        alone = self.plan.team and not self.split.count
        self.depth = 2 if alone else 1
        written = True
        if stage.fused:
            Loop(self, stage).write()
        elif self.split.count:
            SHARED[call.op.name](self, stage)
        else:
            written = call.op.name in RULES and RULES[call.op.name](self, call)
        self.depth = 1
        lines = ["    if part == 0:", *self.lines] if alone and self.lines else self.lines
        self.lines = before
        if not written:
            self._leave(call)
            return
        name = f"    # {i}: {' '.join(one.op.name for one in stage.calls)} {list(stage.calls[-1].results[0].shape)}"
        self.lines += [name, *self.arrays, *lines]

    def _begin(self) -> None:
        self.lines, self.names, self.ranges = [], {}, {}
        self.use("address", "pointer_at")  # what it gives is read in a third of the time that Numba takes for an array
        self.add("at = pointer_at(int64, table)")
        self.add("now = pointer_at(float64, at[1])")
        self.add("base = at[0]")
        for name, items, size in (("argument_", "given", self.arguments), ("result_", "results", self.results)):
            if size or items == "given":
                self.add(f"if {self.use('memory', 'length')}({items}) != {size}:")
                self.add("    return -1")
            item = self.use("memory", "item") if size else ""
            self.lines += [f"    {name}{i} = {item}({items}, {i}, at[4], at[5], at[7], at[8])" for i in range(size)]

    def _check_arguments(self) -> None:
        writes = any(stage.outside for stage in self.plan.stages)
        for i in range(self.arguments):
            self.add(f"if not {self.use('memory', 'fits')}(argument_{i}, at[{TABLE + i}]):")
            self.add("    return -1")
            if writes:
                self.add(f"if not {self.use('memory', 'apart')}(argument_{i}, {self.bytes[i]}, at[{TABLE - 1}]):")
                self.add("    return -1")

    def _check_rooms(self) -> None:
        for room in self.rooms:
            self.arrays = []
            count = self.view(room.count, "reads")
            self.lines += self.arrays
            self.add(f"if {count}[()] > {room.most}:")
            self.add(f"    return {FULL}")

    def _turn(self) -> None:
        """Go on in another function, which the one of the part calls."""
        self.add("return 0")
        name = f"page_{len(self.functions)}"
        self.functions.append("\n".join([f"@{self.use('jit', 'kernel')}", f"def {name}({WORDS}):", *self.lines]))
        self.pages.append(name)
        self._begin()

    def _end(self) -> None:
        if self.pages:
            self._turn()
            self.lines = []
            for page in self.pages:
                self.add(f"status = {page}({WORDS})")
                self.add("if status:")
                self.add(f"    return 0 if status == {LEFT} else status")
            self.pages = []
        self.add("return 0")
        name = f"part_{len(self.parts)}"
        self.functions.append("\n".join([f"def {name}({WORDS}):", *self.lines]))
        self.parts.append(Part(name=name))

    def _leave(self, call: Call) -> None:
        """Leave the function for a call of NumPy, and begin another function after it."""
        self.fragile = self.fragile or self.written
        self._end()
        self.parts.append(Part(call=call))
        self._begin()

    def _module(self) -> str:
        known = "\n".join(
            f"from tinygrad_wn.kernels.{module} import {', '.join(sorted(names))}"
            for module, names in sorted(self.imports.items())
        )
        texts = {name: text_of(OPS[name].__wrapped__) for name in sorted(self.scalars)}
        scalars = "".join(
            f'scalar_{name} = scalar(OPS["{name}"].__wrapped__)  # {_hash(text)}\n' for name, text in texts.items()
        )
        more = "from tinygrad_wn.kernels.scalars import scalar\nfrom tinygrad_wn.op import OPS\n" if scalars else ""
        links = "".join(
            f'{own} = linked({name}, "{kinds}", {size})\n' for (name, kinds, size), own in self.linked.items()
        )
        more += "from tinygrad_wn.kernels.linked import linked\n" if links else ""
        head = f"from numpy import {', '.join(sorted(self.types))}\n\n{known}\n{more}"
        return "\n\n".join([f"{head}\n{scalars}{links}".rstrip() + "\n", *self.functions]) + "\n"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _tuple(sizes: Sequence[int | str]) -> str:
    return f"({', '.join(map(str, sizes))}{',' if len(sizes) == 1 else ''})"
