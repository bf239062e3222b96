"""What a record is made of: op calls, and where in memory lies what they read and write."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from ..domains import Array
    from ..op import Op
    from ..tensor import Tensor


@dataclass(eq=False)
class Memory:
    """A block of memory: an "argument" of the step, made "outside" of it, "made" by it, or a "result"."""

    kind: str
    owner: Array
    place: int = -1
    """Of an argument or a result: its number. Of others: set by the plan."""


@dataclass(frozen=True)
class View:
    """Numbers in a memory: where they begin, in bytes, and how far apart they lie."""

    memory: Memory
    start: int
    shape: tuple[int, ...]
    steps: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)

    def overlaps(self, other: View) -> bool:
        """Whether the two may have a byte in common."""
        if self.memory is not other.memory:
            return False
        (low, high), (first, last) = self.reach(), other.reach()
        return low < last and first < high

    def reach(self) -> tuple[int, int]:
        """The bytes between which the numbers lie."""
        ways = [(n - 1) * step for n, step in zip(self.shape, self.steps, strict=True)] if self.size else []
        low = self.start + sum(way for way in ways if way < 0)
        high = self.start + sum(way for way in ways if way > 0) + self.dtype.itemsize
        return low, high if self.size else low

    @property
    def whole(self) -> bool:
        """Whether the numbers lie side by side in the order of their places."""
        expected = self.dtype.itemsize
        for n, step in zip(self.shape[::-1], self.steps[::-1], strict=True):
            if n != 1 and step != expected:
                return False
            expected *= n
        return True


@dataclass(frozen=True)
class Number:
    """A number that is found anew in each step."""

    place: int


Operand: TypeAlias = View | Number | float | None


@dataclass(eq=False)
class Call:
    """One op call: `writes` says that its results replace what lay in their memory before the step."""

    op: Op[...]
    operands: tuple[Operand, ...]
    params: dict[str, Any]
    results: tuple[View, ...]
    writes: bool
    line: str

    @property
    def given(self) -> tuple[Any, ...]:
        """The operands, for those who know what they are."""
        return self.operands


@dataclass
class Room:
    """A number in memory, up to where a step may begin, and what makes it smaller where it is larger."""

    count: View
    most: int
    empty: Callable[[], None]


@dataclass
class Record:
    """A step: its calls in order, and what has to be asked in Python before and after each run."""

    calls: list[Call] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)
    before: list[tuple[Callable[[], tuple[float, ...]], int, bool]] = field(default_factory=list)
    after: list[Callable[[], None]] = field(default_factory=list)
    facts: list[Callable[[], Any]] = field(default_factory=list)
    things: dict[int, object] = field(default_factory=dict)
    written: list[Tensor] = field(default_factory=list)
    rooms: dict[Any, Room] = field(default_factory=dict)
