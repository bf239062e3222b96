"""A compiled step: machine code, the memory it works in, and what is asked in Python before and after each run."""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CompileError, ZeroNormError
from ..kernels import called
from ..kernels.address import address_of
from ..kernels.atomic import LINE, WORDS
from ..kernels.emitted import load
from ..kernels.team import BOXES, FULL, NO_ROOM, NOT_YET, SLEEPERS, SYNC, TAKEN_ALREADY, brief_caller, callers, team
from ..op import OPS
from ..slot import changes
from ..tensor import Tensor, as_array, overwritten, overwritten_by_step, wrap
from ..walk import Written, recording
from .brief import DATA, WANTS, Brief
from .calls import Call, Memory, Number, View
from .lower import touched, work
from .lying import Lying
from .outside import Outside
from .pace import Pace
from .plan import BORDER, Plan, plan
from .record import Recorder
from .sweep import contiguous
from .trees import together
from .writer import Text, Writer

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..domains import Array

BRIEF = 2e5
"""Numbers that a step reads and writes in some tens of microseconds, if its products are not worth a second thread."""
FAST = 1e7
"""Operations in the time that a helper takes to wake up, twice over: a longer step waits for it."""


class Step:
    """What was recorded of one signature, as machine code."""

    def __init__(
        self, recorder: Recorder, arguments: list[Array], structure: Any, leaves: list[Any], outside: Outside
    ) -> None:
        self.record, self.structure, self.outside = recorder.record, structure, outside
        self.models = [np.empty_like(x) for x in arguments]
        self.forms = [(x.shape, x.dtype) for x in arguments]
        self.count, self.results = len(arguments), 0
        self.leaves = [self._output(recorder, x) for x in leaves]
        self.outputs = [x for x in self.leaves if isinstance(x, View)]
        self.shapes = [(x.shape, x.dtype) for x in self.outputs]
        self.plan: Plan = plan(recorder.record.calls, self.outputs)
        self.rooms = list(recorder.record.rooms.values())
        self.text: Text = Writer(self.plan, [x.nbytes for x in arguments], self.results, self.rooms).write()
        names = [part.name for part in self.text.parts if part.name]
        addresses = iter(load(self.text.module, names))
        self.parts: list[Any] = [next(addresses) if part.name else part.call for part in self.text.parts]
        calls = recorder.record.calls
        (self.call, self.machine, self.repeat), self.function = callers(), self.parts[0]
        self.room = np.zeros(self.plan.bytes + self.text.scratch + BORDER + 8 * WORDS, np.uint8)
        sync = (address_of(self.room) + BORDER - 1) // BORDER * BORDER
        self.start = sync + 8 * WORDS - LINE
        self.now = np.array(self.record.numbers or [0.0], np.float64)
        self.targets = recorder.targets()
        bounds = [(address_of(x), address_of(x) + x.nbytes) for x in self.targets]
        self.ranges = np.array([len(bounds), *sum(bounds, ())], np.int64)
        held = [address_of(memory.owner) for memory in self.text.held]
        self.pace = Pace() if self.plan.team else None
        self.began = 0.0
        self.boxes = team.ready() if self.plan.team else 0
        head = [
            self.start,
            address_of(self.now),
            sync,
            self.boxes,
            id(Tensor),
            DATA,
            self.function if self.text.parts[0].name else 0,
            WANTS,
            id(True),
            address_of(self.ranges),
        ]
        self.table = np.array([*head, *map(id, self.models), *held], np.int64)
        self.at = address_of(self.table)
        self.brief = not self.plan.team and touched(calls) < BRIEF
        """Whether it is over before another thread would want the GIL."""
        self.quick = brief_caller(self.table) if self.brief else self._timed
        self.wait = 1 if work(calls) < FAST else 1 << 16
        self.moving, self.steady = ([one for one in self.record.before if one[2] == kind] for kind in (False, True))
        self.after = self.record.after
        self.simple = len(self.parts) == 1 and not self.text.fragile
        self.still = self.simple and not self.moving and not self.after
        """Whether nothing has to be asked or done in Python when it runs."""
        self.recording = recording.get()
        self.single = structure == (tuple, ("array",)) and len(self.outputs) == 1
        self.busy = threading.RLock()
        _steps.add(self)
        self.changes = -1
        """What `changes` was when all that the step depends on was looked at."""
        self.same = outside.watched(recorder)
        self.attributes = [(thing, dict(vars(thing))) for thing in self.record.things.values()]
        self.facts = [(fact, fact()) for fact in self.record.facts]
        self.written = Written(list({id(t._writes): t._writes for t in self.record.written}.values()))
        targets = [x for call in self.record.calls if call.writes for x in call.results]
        self.touched = sorted({x.memory.place for x in targets if x.memory.kind == "argument"})
        """Arguments that the step writes to."""
        known = called.KNOWN and self.brief and self.still and self.single
        self.direct = Brief(self.at, self.shapes[0], self.written, self.recording, Step.current) if known else None

    def _output(self, recorder: Recorder, x: Any) -> Any:
        """Where a result that is computed anew in each run will lie; what comes from outside stays as it is."""
        if not isinstance(x, Tensor) or not recorder.computes(x):
            return x
        found, place = recorder.view(x._data), self.results
        self.results += 1
        if (
            found.memory.kind == "made"
            and found.whole
            and found.memory.owner.nbytes == found.size * found.dtype.itemsize
        ):
            found.memory.kind, found.memory.place = "result", place
            return found
        copy = View(Memory("result", x._data, place), 0, found.shape, contiguous(found.shape, found.dtype), found.dtype)
        recorder.record.calls.append(Call(OPS["stop_gradient"], (found,), {}, (copy,), False, ""))
        return copy

    def current(self) -> bool:
        """Whether what the step depends on is as it was recorded."""
        if not (self.same() or self.outside.equal()):
            return False
        seen, same = changes[0], self.outside.same
        if self.changes == seen:
            self._depends_on(same, seen)
            return True
        for thing, held in self.attributes:
            now = vars(thing)
            if now.keys() != held.keys() or not all(now[name] is held[name] for name in held):
                return False
        if not all(fact() == value for fact, value in self.facts):
            return False
        with self.busy:
            self._prepare(self.steady)
        self._depends_on(same, seen)
        return True

    def _depends_on(self, same: Callable[[], bool], seen: int) -> None:
        """What is looked at in each call."""
        self.same, self.changes = same, seen
        if self.direct:
            self.direct.asked[:] = same, seen

    def run(self, given: tuple[Any, ...]) -> Any:
        """Run on tensors or arrays of the recorded signature; None where one does not fit after all."""
        results = tuple([np.empty(*one) for one in self.shapes])
        with self.busy:
            if self.moving:
                self._prepare(self.moving)
            status = self._status(given, results)
            if status:
                return None if status < 0 else self._fail(status, given, results)
            if self.written.writes:
                overwritten_by_step(self.written)
            for act in self.after:
                act()
        if self.single:
            return [wrap(results[0])]
        values = iter(results)
        return together(self.structure, iter([wrap(next(values)) if isinstance(x, View) else x for x in self.leaves]))

    def fits(self, given: tuple[Any, ...]) -> bool:
        """Whether machine code can read all arguments where they lie: asked before anything is drawn or counted."""
        if len(given) != self.count:
            return False
        for x, (shape, dtype) in zip(given, self.forms, strict=True):
            own = x._data if type(x) is Tensor else x
            if type(own) is not np.ndarray or own.shape != shape or own.dtype != dtype or not own.flags.carray:
                return False
            if own is not x and x._wants:
                return False
        return True

    def asked(self, given: tuple[Any, ...], results: tuple[Array, ...]) -> bool:
        """Run with what has to be asked and done in Python; False if an argument does not fit."""
        with self.busy:
            self._prepare(self.moving)
            status = self.quick(given, results)
            if status and not self.again(status, given, results):
                return False
            for act in self.after:
                act()
        return True

    def _timed(self, given: tuple[Any, ...], results: tuple[Array, ...]) -> int:
        """Run the machine code without the GIL, with helpers or alone, and look at how long it takes."""
        self.began = time.perf_counter()
        status = self.machine(id(given), id(results), self.at)
        if status == 0:
            self._ran()
        return status

    def _ran(self) -> None:
        """After a run, whose helpers may have slept before: choose how the next one is done."""
        if self.pace:
            self.pace.ran(time.perf_counter() - self.began)
            self.table[BOXES] = self.boxes if self.pace.helped else 0

    def again(self, status: int, given: tuple[Any, ...], results: tuple[Array, ...]) -> bool:
        """After a run that gave a status: run where it could not, or raise; False if an argument does not fit."""
        if status in NOT_YET:
            status = self._called(self.function, given, results, status)
            if status == 0:
                self._ran()
        if status > 0:
            self._fail(status, given, results)
        return status == 0

    def run_each(self, stacks: list[Array], outputs: list[Array]) -> int:
        """Run on one entry after the other, as long as the step fits, and say how often it did."""
        made = [y.reshape(len(y), math.prod(y.shape[1:])) for y in outputs]  # entries are arrays; only addresses count
        done = 0
        if len(made) != len(self.outputs) or not self.simple or not all(map(self._takes, range(len(stacks)), stacks)):
            return done
        if self.still and not self.touched:
            return self._run_all(stacks, made)
        with self.busy:
            try:
                for given, results in zip(zip(*stacks, strict=True), zip(*made, strict=True), strict=True):
                    if not self.current():
                        break
                    if self.moving:
                        self._prepare(self.moving)
                    if status := self._status(given, results):
                        if status > 0:
                            self._fail(status, given, results)
                        break
                    done += 1
                    for act in self.after:
                        act()
            finally:
                if self.written.writes and done:
                    overwritten_by_step(self.written)
        return done

    def _takes(self, i: int, stack: Array) -> bool:
        """Whether the entries of a stack are arrays, which may be written to where the step does."""
        return stack.ndim > 1 and (i not in self.touched or stack.flags.writeable)

    def _run_all(self, stacks: list[Array], made: list[Array]) -> int:
        """The same with all runs in machine code, where nothing is asked in Python between them."""
        count, done = len(stacks[0]), 0
        moves = np.array([0, len(stacks), len(made), *(x.strides[0] for x in (*stacks, *made))], np.int64)
        try:
            while done < count and self.current():
                given, results = (tuple([x[done] for x in some]) for some in (stacks, made))
                done += self.repeat(id(given), id(results), self.at, count - done, address_of(moves))
                status = int(moves[0])
                if status in NOT_YET:
                    status = self._called(self.function, given, results, status)
                    done += status == 0
                if status > 0:
                    self._fail(status, given, results)
                if status:
                    break
        finally:
            if self.written.writes and done:
                overwritten_by_step(self.written)
        return done

    def written_back(self, leaves: list[Any], arrays: list[Array]) -> None:
        """Give what the step wrote into the copies of arguments back to the arguments."""
        for i in self.touched:
            own = leaves[i]._data if isinstance(leaves[i], Tensor) else leaves[i]
            if own is not arrays[i]:
                np.copyto(own, arrays[i])
            if isinstance(leaves[i], Tensor):
                overwritten(leaves[i])

    def _prepare(self, before: list[Any]) -> None:
        for prepare, place, _ in before:
            for i, number in enumerate(prepare()):
                self.now[place + i] = number

    def _status(self, given: tuple[Any, ...], results: tuple[Array, ...]) -> int:
        return self._called(self.function, given, results) if self.simple else self._saving(given, results)

    def _called(self, function: int, given: Any, results: Any, status: int = TAKEN_ALREADY) -> int:
        """The status of a function that ran in the end, though helpers slept or another thread was in it."""
        wait = 0
        while True:
            if status == FULL:
                for room in self.rooms:
                    room.empty()
            elif status == SLEEPERS:
                team.wake()
                wait = self.wait
            elif wait or status != TAKEN_ALREADY:
                time.sleep(0)
            status = self.call(function, id(given), id(results), self.at, wait)
            if status not in NOT_YET:
                return status

    def _saving(self, given: tuple[Any, ...], results: tuple[Array, ...]) -> int:
        """Run all parts; what they wrote before a failure is put back."""
        touched = (*self.targets, *(as_array(given[i]) for i in self.touched))
        saved = [(x, x.copy()) for x in touched] if self.text.fragile else ()
        try:
            status = self._all_parts(given, results)
            if status > 0:
                self._fail(status, given, results)
        except BaseException:
            for x, old in saved:
                np.copyto(x, old)
            raise
        return status

    def _all_parts(self, given: tuple[Any, ...], results: tuple[Array, ...]) -> int:
        """Run functions and calls of NumPy in turns."""
        for part in self.parts:
            if isinstance(part, Call):
                self._by_definition(part, given, results)
            elif status := self._called(part, given, results):
                return status
        return 0

    def _array(self, x: Any, given: tuple[Any, ...], results: tuple[Array, ...]) -> Any:
        """An operand of a call, as it is now."""
        if isinstance(x, Number):
            return float(self.now[x.place])
        if not isinstance(x, View):
            return x
        kind, place = x.memory.kind, x.memory.place
        if kind == "made":
            base = self.start + place
        else:
            one = x.memory.owner if kind == "outside" else (results if kind == "result" else given)[place]
            base = address_of(one._data if isinstance(one, Tensor) else one)
        return np.asarray(Lying(base + x.start, x.shape, x.steps, x.dtype))

    def _by_definition(self, call: Call, given: tuple[Any, ...], results: tuple[Array, ...]) -> None:
        found = self._compute(call, given, results)
        for value, view in zip(found if call.op.several else (found,), call.results, strict=True):
            np.copyto(self._array(view, given, results), value)

    def _compute(self, call: Call, given: tuple[Any, ...], results: tuple[Array, ...]) -> Any:
        """What a call gives on its operands; an error names the layer, as it does in eager code."""
        try:
            return call.op.compute([self._array(x, given, results) for x in call.operands], call.params)
        except ZeroNormError as error:
            for thing in reversed(self.record.things.values()):  # the outermost module was called first
                if (locate := getattr(thing, "locate", None)) is not None:
                    locate(error)
            raise

    def _fail(self, status: int, given: tuple[Any, ...], results: tuple[Array, ...]) -> None:
        """Raise what the call that failed raises on its operands."""
        if status == NO_ROOM:
            raise MemoryError("a compiled step found no memory to work in: what it writes may be written in part")
        call = self.text.failing[status - 1]
        self._compute(call, given, results)
        what = f"{call.op.name} failed in a compiled step"
        raise CompileError(what, {"line": call.line}, hint="compare it with eager")


def _renew() -> None:
    """In a forked child, no step is running: the thread that ran one is not there."""
    for step in _steps:
        step.busy = threading.RLock()
        step.room[int(step.table[SYNC]) - address_of(step.room) :][: 8 * WORDS] = 0


_steps: weakref.WeakSet[Step] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
