"""From a record to a plan: dead calls dropped, elementwise runs joined, memory shared by what lives at other times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .calls import Call, Memory, View
from .lower import UPDATES, Lowering, is_turned, matrices, work
from .splits import in_epochs, may_fail, split_of

if TYPE_CHECKING:
    from .calls import Operand

MOVES = ("astype", "stop_gradient")
"""Ops that give each number as it is, in another dtype or place."""

WORTH_TEAM = 2e6
"""Operations of products in a step from which a second thread pays."""

BORDER = 64
"""Memory begins where a line of the cache does."""


@dataclass(eq=False)
class Stage:
    """Calls that run as one: several elementwise ones in one loop, a product and what cuts it, or a single call."""

    calls: list[Call]
    fused: bool
    inner: set[Memory] = field(default_factory=set)
    """Results that nobody outside of the stage needs: they have no memory."""
    epoch: int = 0
    """Stages of one epoch need not wait for each other."""

    def reads(self) -> Iterator[View]:
        """Views from memory that this stage did not write itself."""
        for call in self.calls:
            yield from (x for x in call.operands if isinstance(x, View) and x.memory not in self.inner)

    def writes(self) -> Iterator[View]:
        """Views that are written to memory."""
        for call in self.calls:
            yield from (x for x in call.results if x.memory not in self.inner)

    @property
    def outside(self) -> bool:
        """Whether this replaces what was there before the step."""
        return any(call.writes for call in self.calls)


@dataclass
class Plan:
    """Stages in order, how many bytes the memory that they share has, and whether several threads share the work."""

    stages: list[Stage]
    bytes: int
    team: bool


def plan(calls: list[Call], outputs: Iterable[View]) -> Plan:
    """Plan a step that gives these outputs."""
    kept = {x.memory for x in outputs}
    calls = _live(Lowering(_live(calls, kept)).run(), kept)
    stages = _joined(calls, _readers(calls), kept)
    _find_inner(stages, kept)
    team = work(calls) >= WORTH_TEAM
    if team:
        stages = in_epochs(stages)
    else:
        for i, stage in enumerate(stages):
            stage.epoch = i
    return Plan(stages, _placed(stages, team), team)


def _readers(calls: list[Call]) -> Counter[Memory]:
    """How many calls read each memory."""
    return Counter(memory for call in calls for memory in set(_memories(call.operands)))


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


def _joined(calls: list[Call], readers: Counter[Memory], kept: set[Memory]) -> list[Stage]:
    stages: list[Stage] = []
    own: Stage | None = None
    """Where the call before went."""
    for call, following in zip(calls, [*calls, None][1:], strict=True):
        elementwise = (call.op.elementwise or call.op.name in MOVES) and len(call.results) == 1
        elementwise = elementwise and not is_turned(call.results[0]) and not _may_fail(call)
        last = stages[-1] if stages else None
        if own is not None and _is_note(call):
            own.calls.append(call)
        elif (taker := _taker(call, _is_note(following), stages, readers, kept)) is not None:
            own = taker
            own.calls.append(call)
        elif last is not None and _cuts(call, last, readers, kept):
            own = last
            last.calls.append(call)
            last.inner.update(_memories(call.operands) if last.calls[0].op.name != "cross_entropy" else ())
            last.inner &= {x.memory for x in last.calls[0].results}
        elif last is not None and elementwise and last.fused and _joins(call, last):
            own = last
            last.calls.append(call)
        else:
            own = Stage([call], elementwise)
            stages.append(own)
    return stages


def _is_note(call: Call | None) -> bool:
    """Whether this is what the update before it notes on its way."""
    return call is not None and call.op.name == "note_changes" and call.operands[2] is None


PAIRS = {
    ("linear", "relu"),
    ("weight_norm_linear", "relu"),
    ("linear_pullback", "relu_pullback"),
    ("weight_norm_linear_pullback", "relu_pullback"),
    ("cross_entropy", "cross_entropy_pullback"),
}
"""Calls that run as one, if the second alone reads what the first gives, or both read the same."""


def _cuts(call: Call, stage: Stage, readers: Counter[Memory], kept: set[Memory]) -> bool:
    """Whether a kernel does this call on its way out of the one before."""
    first = stage.calls[0]
    if len(stage.calls) > 1 or (first.op.name, call.op.name) not in PAIRS:
        return False
    if not split_of(Stage([first, call], fused=False)).count:
        return False
    if first.op.name == "cross_entropy":
        same = first.operands[:2] == call.operands[1:3] and matrices(first.operands[0], call.results[0])
        return same and first.params["reduction"] == "none" and call.operands[3] is None
    y, wanted = first.results[0], first.params.get("wanted", (True,))
    alone = readers[y.memory] == 1 and y.memory not in kept and y.memory.kind == "made"
    gates = [x for x in (*call.operands[1:], *call.results) if isinstance(x, View)]
    fits = all(x.shape == y.shape and x.dtype == y.dtype for x in gates) and matrices(y, *gates)
    return (
        alone and call.operands[0] == y and fits and wanted[0] and not any(wanted[1:]) and matrices(first.operands[0])
    )


def _taker(call: Call, noted: bool, stages: list[Stage], readers: Counter[Memory], kept: set[Memory]) -> Stage | None:
    """The stage that makes ∇v, if this updates v and nobody else asks for ∇v; it may move to the end for that.

    An update that takes notes does not come earlier, as it needs those that were taken before.
    """
    if call.op.name not in UPDATES or not call.writes:
        return None
    v, *_, dv = (x for x in call.given[UPDATES[call.op.name][0] :] if isinstance(x, View))
    makers = [stage for stage in stages if stage.calls[0].op.name == "weight_norm_pullback" and len(stage.calls) == 1]
    maker = next((stage for stage in makers if stage.calls[0].results[0] == dv), None)
    if maker is None:
        return None
    pullback, between = maker.calls[0], stages[stages.index(maker) + 1 :]
    own = [x for x in (*pullback.given[:2], *call.results) if isinstance(x, View)]
    alone = readers[dv.memory] == 2 and dv.memory not in kept and dv.memory.kind == "made"
    fits = len(pullback.given) == 4 and pullback.given[1] == v and all(x.whole for x in own) and matrices(*own)
    if not alone or not fits:
        return None
    if noted or any(_disturbs(one, call) or any(may_fail(x) for x in one.calls) for one in between):
        if any(_disturbs(one, pullback) for one in between):
            return None
        stages.remove(maker)
        stages.append(maker)
    return maker


def _disturbs(stage: Stage, call: Call) -> bool:
    """Whether it matters which of the two is first."""
    read, written = set(_memories(call.operands)), set(_memories(call.results))
    touched = any(x.memory in read or x.memory in written for x in stage.writes())
    return touched or any(x.memory in written for x in stage.reads())


def _may_fail(call: Call) -> bool:
    """Whether a call of an elementwise op may fail: integers have no powers below 0."""
    return call.op.name == "power" and call.results[0].dtype.kind in "iu" and isinstance(call.operands[1], View)


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


def _placed(stages: list[Stage], team: bool) -> int:
    """Give each memory that the step makes its place in one block, and return how large the block is.

    Two share bytes only if one is not needed any more in the epoch in which the other is written first; a loop of one
    thread may also write to where it reads, number by number, what it needs for the last time.
    """
    last: dict[Memory, int] = {}
    for stage in stages:
        for x in (*stage.reads(), *stage.writes()):
            last[x.memory] = stage.epoch
    free: list[tuple[int, int]] = []
    end = 0
    placed: set[Memory] = set()
    for stage, following in zip(stages, [*stages, None][1:], strict=True):
        for view in stage.writes():
            memory = view.memory
            if memory.kind != "made" or memory in placed:
                continue
            size = _rounded(memory.owner.nbytes)
            heir = None if team else _heir(stage, view, stage.epoch, last, placed)
            if heir is not None:
                memory.place, last[heir] = heir.place, -1
            else:
                memory.place, end = _taken(free, size, end)
            placed.add(memory)
        if following is not None and following.epoch == stage.epoch:
            continue
        for memory in [m for m in placed if 0 <= last[m] <= stage.epoch and m.kind == "made"]:
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
