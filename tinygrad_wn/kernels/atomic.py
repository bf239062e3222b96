"""Words of memory that threads share: read, written and compared in one order for all of them."""

from __future__ import annotations

import os
import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .jit import kernel
from .vector import WORD, piece

X86 = platform.machine().lower() in ("x86_64", "amd64")
YIELDS = hasattr(os, "sched_yield")
LONG = 256 if X86 else 4000
"""Turns after which a thread that waits lets others have its core: some microseconds."""
LINE = 64
"""Bytes of a line of the cache: words of different threads lie on different ones."""


def _pointer(at: Any, address: Any) -> Any:
    return at.inttoptr(address, WORD.as_pointer())


@piece
def read_word(_typing: Any, address: Any) -> Any:
    """The word at an address, and all that was written before it was."""

    def build(_context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        return at.load_atomic(_pointer(at, arguments[0]), "acquire", 8, typ=WORD)

    return types.int64(types.int64), build


@piece
def write_word(_typing: Any, address: Any, value: Any) -> Any:
    """Write a word, after all that this thread wrote before."""

    def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        at.store_atomic(arguments[1], _pointer(at, arguments[0]), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), build


@piece
def add_word(_typing: Any, address: Any, value: Any) -> Any:
    """Add to a word; gives what it was."""

    def build(_context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        return at.atomic_rmw("add", _pointer(at, arguments[0]), arguments[1], "acq_rel")

    return types.int64(types.int64, types.int64), build


@piece
def lower_word(_typing: Any, address: Any, value: Any) -> Any:
    """Make a word as small as a value, if it is larger; gives what it was."""

    def build(_context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        return at.atomic_rmw("min", _pointer(at, arguments[0]), arguments[1], "acq_rel")

    return types.int64(types.int64, types.int64), build


@piece
def swap_word(_typing: Any, address: Any, old: Any, new: Any) -> Any:
    """Write `new` where there is `old`; whether there was."""

    def build(_context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        address, old, new = arguments
        return at.extract_value(at.cmpxchg(_pointer(at, address), old, new, "acq_rel", "acquire"), 1)

    return types.boolean(types.int64, types.int64, types.int64), build


@piece
def pause(_typing: Any) -> Any:
    """Tell the core that this thread waits."""

    def build(context: Any, at: Any, _signature: Any, _arguments: Any) -> Any:
        if X86:
            form = ir.FunctionType(ir.VoidType(), [])
            at.call(cgutils.get_or_insert_function(at.module, form, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), build


@piece
def _let_others(_typing: Any) -> Any:
    """Let another thread have the core, if one wants it."""

    def build(context: Any, at: Any, _signature: Any, _arguments: Any) -> Any:
        if YIELDS:
            form = ir.FunctionType(ir.IntType(32), [])
            at.call(cgutils.get_or_insert_function(at.module, form, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), build


@kernel
def wait_turn(turn: Any) -> Any:
    """One turn of a loop that waits for another thread, which may be waiting for this core; gives the next turn."""
    if turn % LONG == LONG - 1:
        _let_others()
    else:
        pause()
    return turn + 1


NO_STATUS = 1 << 62
COUNT, PHASE, STATUS, BUSY, WORDS = 0, LINE, 2 * LINE, 3 * LINE, 5 * LINE // 8
"""Where a meeting point has its words, in bytes: who is there, how often all were, the least status, and whether it is
in use; and how much room it needs wherever a line begins.
"""


@kernel
def prepare_meetings(sync: Any) -> None:
    """Make a meeting point ready for a run."""
    write_word(sync + COUNT, 0)
    write_word(sync + STATUS, NO_STATUS)


@kernel
def meet(sync: Any, parts: Any) -> Any:
    """Wait until all parts are here, or one has left for good; whether one has."""
    if parts == 1:
        return False
    phase = read_word(sync + PHASE)
    if add_word(sync + COUNT, 1) == parts - 1:
        write_word(sync + COUNT, 0)
        add_word(sync + PHASE, 1)
    turn = 0
    while read_word(sync + PHASE) == phase and read_word(sync + STATUS) == NO_STATUS:
        turn = wait_turn(turn)
    return read_word(sync + STATUS) != NO_STATUS


@kernel
def leave(sync: Any, status: Any) -> Any:
    """Leave for good with a status, as all others will then where they meet. Gives the status."""
    lower_word(sync + STATUS, status)
    return status


@kernel
def share_begin(part: Any, parts: Any, count: Any, grain: Any) -> Any:
    """Where a thread's part of `count` things begins, in whole grains; it ends where the next one begins."""
    share = (count + parts * grain - 1) // (parts * grain) * grain
    return min(part * share, count)
