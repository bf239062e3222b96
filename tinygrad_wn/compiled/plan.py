"""From a record to a plan: dead calls dropped, elementwise runs joined, memory shared by what lives at other times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .record import Call, Memory, View

if TYPE_CHECKING:
    from .record import Operand

MOVES = ("astype", "stop_gradient")
"""Ops that give each number as it is, in another dtype or place."""

BORDER = 64
"""Memory begins where a line of the cache does."""


@dataclass(eq=False)
class Stage:
    """Calls that run as one: several elementwise ones in one loop, or a single one of any kind."""

    calls: list[Call]
    fused: bool
    inner: set[Memory] = field(default_factory=set)
    """Results that nobody outside of the loop needs: they have no memory."""

    def reads(self) -> Iterator[View]:
        """Views from memory that this stage did not write itself."""
        for call in self.calls:
            yield from (x for x in call.operands if isinstance(x, View) and x.memory not in self.inner)

    def writes(self) -> Iterator[View]:
        """Views that are written to memory."""
        for call in self.calls:
            yield from (x for x in call.results if x.memory not in self.inner)


@dataclass
class Plan:
    """Stages in order, and how many bytes the memory that they share has."""

    stages: list[Stage]
    bytes: int


def plan(calls: list[Call], outputs: Iterable[View]) -> Plan:
    """Plan a step that gives these outputs."""
    kept = {x.memory for x in outputs}
    stages = _joined(_live(calls, kept))
    _find_inner(stages, kept)
    return Plan(stages, _placed(stages))


def _memories(operands: Iterable[Operand]) -> Iterator[Memory]:
    return (x.memory for x in operands if isinstance(x, View))


def _live(calls: list[Call], kept: set[Memory]) -> list[Call]:
    """Calls that write to outside memory, or that what is kept depends on."""
    needed = set(kept)
    live = []
    for call in reversed(calls):
        if call.writes or any(x.memory in needed for x in call.results):
            live.append(call)
            needed.update(_memories(call.operands))
    return live[::-1]


def _joined(calls: list[Call]) -> list[Stage]:
    stages: list[Stage] = []
    for call in calls:
        elementwise = (call.op.elementwise or call.op.name in MOVES) and len(call.results) == 1
        last = stages[-1] if stages else None
        if last is not None and elementwise and last.fused and _joins(call, last):
            last.calls.append(call)
        else:
            stages.append(Stage([call], elementwise))
    return stages


def _joins(call: Call, stage: Stage) -> bool:
    """Whether a loop can do this as well: the same places, and what it wrote is read at the place where it was made."""
    if call.results[0].shape != stage.calls[0].results[0].shape:
        return False
    written = {one.results[0].memory: one.results[0] for one in stage.calls}
    own = call.results[0]
    read = (x for one in stage.calls for x in one.operands if isinstance(x, View))
    if own.memory in written or any(x.memory is own.memory and x != own for x in read):
        return False
    return all(written.get(x.memory, x) == x for x in call.operands if isinstance(x, View))


def _find_inner(stages: list[Stage], kept: set[Memory]) -> None:
    used_by: dict[Memory, set[int]] = {}
    for i, stage in enumerate(stages):
        for call in stage.calls:
            for memory in _memories((*call.operands, *call.results)):
                used_by.setdefault(memory, set()).add(i)
    for stage in stages:
        if stage.fused:
            made = {call.results[0].memory for call in stage.calls}
            stage.inner = {m for m in made if m.kind == "made" and len(used_by[m]) == 1 and m not in kept}


def _placed(stages: list[Stage]) -> int:
    """Give each memory that the step makes its place in one block, and return how large the block is.

    Two share bytes only if one is not needed any more when the other is written first; a loop may also write to where
    it reads, number by number, what it needs for the last time.
    """
    last: dict[Memory, int] = {}
    for i, stage in enumerate(stages):
        for x in (*stage.reads(), *stage.writes()):
            last[x.memory] = i
    free: list[tuple[int, int]] = []
    end = 0
    placed: set[Memory] = set()
    for i, stage in enumerate(stages):
        for view in stage.writes():
            memory = view.memory
            if memory.kind != "made" or memory in placed:
                continue
            size = _rounded(memory.owner.nbytes)
            heir = _heir(stage, view, i, last, placed)
            if heir is not None:
                memory.place, last[heir] = heir.place, -1
            else:
                memory.place, end = _taken(free, size, end)
            placed.add(memory)
        for memory in [m for m in placed if last[m] == i and m.kind == "made"]:
            _released(free, memory.place, _rounded(memory.owner.nbytes))
            last[memory] = -1
    return end


def _heir(stage: Stage, view: View, i: int, last: dict[Memory, int], placed: set[Memory]) -> Memory | None:
    """A memory of this size that the loop reads for the last time, in the very order in which it writes `view`."""
    if not stage.fused:
        return None
    reads = list(stage.reads())
    for x in reads:
        same = (x.start, x.shape, x.steps, x.dtype) == (view.start, view.shape, view.steps, view.dtype)
        alone = all(y == x for y in reads if y.memory is x.memory)
        large = _rounded(x.memory.owner.nbytes) == _rounded(view.memory.owner.nbytes)
        if x.memory in placed and last[x.memory] == i and same and alone and large:
            return x.memory
    return None


def _rounded(size: int) -> int:
    return max(size + BORDER - 1, BORDER) // BORDER * BORDER


def _taken(free: list[tuple[int, int]], size: int, end: int) -> tuple[int, int]:
    """The smallest free piece that is large enough, or new bytes at the end."""
    fitting = [piece for piece in free if piece[1] >= size]
    if not fitting:
        return end, end + size
    place, length = piece = min(fitting, key=lambda one: one[1])
    free.remove(piece)
    if length > size:
        free.append((place + size, length - size))
    return place, end


def _released(free: list[tuple[int, int]], place: int, size: int) -> None:
    """Give bytes back, joined with free ones beside them."""
    for piece in list(free):
        if piece[0] + piece[1] == place:
            free.remove(piece)
            place, size = piece[0], piece[1] + size
        elif place + size == piece[0]:
            free.remove(piece)
            size += piece[1]
    free.append((place, size))
