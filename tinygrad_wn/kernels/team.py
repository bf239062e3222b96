"""Threads that run the parts of compiled steps: each waits for work in a loop, so that it begins within 100 ns.

A parallel region of OpenMP takes 1.5 µs to begin. Here a step is posted to each helper that waits; who does not take
it in time is left out, and the step runs in fewer parts. A helper without work for about a millisecond goes to sleep,
and one that sleeps is woken for later steps.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils

from ..domains import Array
from .address import address_of, pointer_at
from .atomic import (
    BUSY,
    LINE,
    NO_STATUS,
    STATUS,
    X86,
    leave,
    pause,
    prepare_meetings,
    read_word,
    swap_word,
    wait_turn,
    write_word,
)
from .bundle import DATA, ITEMS
from .entry import as_object, entry, handed
from .jit import kernel
from .threads import get_num_threads, on_change
from .vector import WORD, piece, word

IDLE, CLAIMED, POSTED, TAKEN, GO, DONE, ASLEEP = range(7)
"""What a helper's state says. A caller claims, posts, lets go; a helper takes, is done, sleeps."""

STATE, FUNCTION, GIVEN, RESULTS, TABLE, PART, PARTS, QUITS = (0, *range(LINE, LINE + 56, 8))
"""Where a helper's mailbox has its words, in bytes."""

BOX = 2 * LINE
PATIENCE = 20_000 if X86 else 400_000
"""Turns of a loop in which a helper waits for work: a millisecond, about."""

HASTE = 100 if X86 else 2000
"""Turns in which a caller waits for a helper to take what was posted: a few microseconds."""

MOST = 31
"""Helpers at most."""

SLEEPERS, TAKEN_ALREADY, FULL = NOT_YET = -2, -3, -4
"""What a call gives that did nothing: helpers sleep, the step is running in another thread, or notes have no room."""

NO_ROOM = 1 << 32
"""What a call gives whose kernels found no memory: more than a step has calls."""

SYNC, BOXES, ENTRY = 2, 3, 6
"""Words of a step's table: where its threads meet, the boxes of helpers, 0 where it needs none, and its function."""


@piece
def _call_at(_typing: Any, function: Any, given: Any, results: Any, table: Any, part: Any, parts: Any) -> Any:
    """Call a function from five integers to one by its address; NO_ROOM where it raises, as for nothing else."""

    def build(context: Any, at: Any, signature: Any, arguments: Any) -> Any:
        form = context.call_conv.get_function_type(types.int64, signature.args[1:])
        result, failure = (cgutils.alloca_once(at, kind.pointee) for kind in form.args[:2])
        code = at.call(at.inttoptr(arguments[0], form.as_pointer()), [result, failure, *arguments[1:]])
        raised = at.icmp_signed("!=", code, code.type(0))
        return at.select(raised, word(NO_ROOM), at.load(result, typ=WORD))

    return types.int64(*[types.int64] * 6), build


@kernel
def _done(function: Any, given: Any, results: Any, table: Any, part: Any, parts: Any) -> Any:
    """The status of one part of a step; where it finds no memory, all parts leave."""
    status = _call_at(function, given, results, table, part, parts)
    if status == NO_ROOM:
        leave(pointer_at(np.int64, table)[SYNC], NO_ROOM)
    return status


@kernel
def _serve(box: Any) -> None:
    """Wake up, and do what is posted, until nothing came for a while."""
    turns = 0
    write_word(box + STATE, IDLE)
    while True:
        turns += 1
        state = read_word(box + STATE)
        if state == POSTED and swap_word(box + STATE, POSTED, TAKEN):
            while read_word(box + STATE) != GO:
                turns = wait_turn(turns)
            function, table = read_word(box + FUNCTION), read_word(box + TABLE)
            given, results = read_word(box + GIVEN), read_word(box + RESULTS)
            _done(function, given, results, table, read_word(box + PART), read_word(box + PARTS))
            write_word(box + STATE, DONE)
            turns = 0
        elif (turns > PATIENCE or read_word(box + QUITS)) and swap_word(box + STATE, IDLE, ASLEEP):
            return
        wait_turn(turns)


@kernel
def _taken(box: Any) -> Any:
    """Whether a helper takes what was posted to it, in time."""
    for _ in range(HASTE):
        if read_word(box + STATE) == TAKEN:
            return True
        pause()
    return not swap_word(box + STATE, POSTED, IDLE)


@kernel
def _posted(function: Any, given: Any, results: Any, table: Any, boxes: Any, count: Any) -> Any:
    """Post a step to all helpers that wait; a bit for each that takes it."""
    posted, parts = 0, 1
    for i in range(count):
        box = boxes + i * BOX
        if swap_word(box + STATE, IDLE, CLAIMED):
            write_word(box + FUNCTION, function)
            write_word(box + GIVEN, given)
            write_word(box + RESULTS, results)
            write_word(box + TABLE, table)
            write_word(box + STATE, POSTED)
            posted |= 1 << i
    for i in range(count):
        if posted >> i & 1:
            if _taken(boxes + i * BOX):
                write_word(boxes + i * BOX + PART, parts)
                parts += 1
            else:
                posted ^= 1 << i
    for i in range(count):
        if posted >> i & 1:
            write_word(boxes + i * BOX + PARTS, parts)
    return posted


@kernel
def _in_parts(function: Any, given: Any, results: Any, table: Any, boxes: Any, count: Any) -> Any:
    """The status of a step that the caller runs together with the helpers that take it."""
    sync, parts = pointer_at(np.int64, table)[SYNC], 1
    posted = _posted(function, given, results, table, boxes, count)
    prepare_meetings(sync)
    for i in range(count):
        if posted >> i & 1:
            parts += 1
            write_word(boxes + i * BOX + STATE, GO)
    status, turn = _done(function, given, results, table, 0, parts), 0
    for i in range(count):
        if posted >> i & 1:
            while read_word(boxes + i * BOX + STATE) != DONE:
                turn = wait_turn(turn)
            write_word(boxes + i * BOX + STATE, IDLE)
    found = read_word(sync + STATUS)
    return status if found == NO_STATUS else found


@kernel
def _run(function: Any, given: Any, results: Any, table: Any, wait: Any) -> Any:
    """The status of a step that runs in as many parts as there are helpers with time, and one.

    `wait` is for how many turns of a loop to wait for helpers that sleep; 0: tell, and do nothing. Nor is anything done
    where the step is running already.
    """
    words = pointer_at(np.int64, table)
    boxes = words[BOXES]
    count = read_word(boxes - LINE) if boxes else 0
    for turn in range(wait):
        asleep = 0
        for i in range(count):
            asleep += read_word(boxes + i * BOX + STATE) == ASLEEP
        if asleep == 0:
            break
        wait_turn(turn)
    for i in range(count):
        if wait == 0 and read_word(boxes + i * BOX + STATE) == ASLEEP:
            return SLEEPERS
    if not swap_word(words[SYNC] + BUSY, 0, 1):
        return TAKEN_ALREADY
    status = _in_parts(function, given, results, table, boxes, count) if count else NO_STATUS
    if count == 0:
        status = _done(function, given, results, table, 0, 1)
    write_word(words[SYNC] + BUSY, 0)
    return status


class Team:
    """The helpers of this process; they are made when a step first asks for them."""

    def __init__(self) -> None:
        self.changing = threading.Lock()
        self.asked = self.forked = False
        self.events: list[threading.Event] = []
        self.threads: list[threading.Thread] = []
        room = np.zeros((MOST + 2) * BOX // 8, np.int64)
        self.room, self.boxes = room, (address_of(room) + LINE - 1) // LINE * LINE + LINE
        """Mailboxes, and on the line before them how many helpers may be asked."""

    def ready(self) -> int:
        """Where the mailboxes are of one helper less than `get_num_threads` says; none in a process that was forked."""
        with self.changing:
            self.asked = True
            wanted = 0 if self.forked else min(get_num_threads() - 1, MOST)
            while len(self.events) < wanted and self._begun():
                pass
            self._word(self.boxes - LINE)[0] = min(wanted, len(self.events))
        return self.boxes

    def _begun(self) -> bool:
        """Whether the system gives one more helper."""
        event, box = threading.Event(), self.boxes + len(self.events) * BOX
        thread = threading.Thread(target=self._work, args=(box, event, entry(_serve, 1)), daemon=True)
        self._word(box)[0] = ASLEEP
        try:
            thread.start()
        except RuntimeError:
            return False
        self.events.append(event)
        self.threads.append(thread)
        return True

    def _word(self, address: int) -> Any:
        return self.room[(address - address_of(self.room)) // 8 :]

    def adjust(self) -> None:
        """Take the number of threads over, if a step has asked for helpers."""
        if self.asked:
            self.ready()

    def wake(self) -> None:
        """Let helpers that sleep wait for work again."""
        for event in self.events:
            if not event.is_set():
                event.set()

    def renew(self) -> None:
        """Begin anew, without helpers: threads of a parent process are not in its child."""
        self.changing, self.events, self.threads, self.room[:] = threading.Lock(), [], [], 0
        self.forked = True

    def dismiss(self) -> None:
        """End all helpers, before the interpreter takes away the code that they run."""
        for i, (event, thread) in enumerate(zip(self.events, self.threads, strict=True)):
            self._word(self.boxes + i * BOX + QUITS)[0] = 1
            event.set()
            thread.join()

    def _work(self, box: int, event: threading.Event, serve: Callable[[int], int]) -> None:
        while True:
            event.wait()
            event.clear()
            if self._word(box + QUITS)[0]:
                return
            serve(box)


@kernel
def run_first(given: Any, results: Any, table: Any) -> Any:
    """The same for the first function of a step, which does not wait."""
    return _run(pointer_at(np.int64, table)[ENTRY], given, results, table, 0)


@kernel
def _handed(table: Any, arguments: Any, named: Any) -> Any:
    """The same, where Python hands a tuple of two tuples over, and `table` is an array object."""
    items = pointer_at(np.int64, arguments)
    if items[ITEMS - 1] != 2 or named:
        return as_object(-1)
    return as_object(run_first(items[ITEMS], items[ITEMS + 1], pointer_at(np.int64, table)[DATA]))


@kernel
def _repeat(given: Any, results: Any, table: Any, count: Any, moves: Any) -> Any:
    """Run a step `count` times, or until it gives a status, and say how often it ran without one.

    `given` and `results` hold arrays that nobody else has: after each run they are moved on, by as many bytes as
    `moves` says. Before those numbers it says how many arrays each holds; its first word becomes the status.
    """
    words = pointer_at(np.int64, moves)
    for k in range(count):
        words[0] = run_first(given, results, table)
        if words[0]:
            return k
        place = 3
        for i in range(words[1]):
            _move(pointer_at(np.int64, given)[ITEMS + i], words[place])
            place += 1
        for i in range(words[2]):
            _move(pointer_at(np.int64, results)[ITEMS + i], words[place])
            place += 1
    return count


@kernel
def _move(array: Any, step: Any) -> None:
    """Let an array begin some bytes later."""
    words = pointer_at(np.int64, array)
    words[DATA] += step


def callers() -> tuple[Callable[..., int], Callable[..., int], Callable[..., int]]:
    """Machine code that runs any function of a step, the first one, and that several times, without the GIL."""
    return entry(_run, 5), entry(run_first, 3), entry(_repeat, 5)


def brief_caller(table: Array) -> Callable[..., int]:
    """Machine code that runs a step of some microseconds, and no helpers, who may want the GIL, on two tuples."""
    return handed(_handed, table)


team = Team()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=team.renew)
atexit.register(team.dismiss)
on_change.append(team.adjust)
