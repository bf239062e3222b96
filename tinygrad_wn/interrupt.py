"""Ctrl-C: what is done is kept, and machine code that is being made turns nothing into an error."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@contextmanager
def ctrl_c_wins() -> Iterator[None]:
    """Take an error after Ctrl-C for Ctrl-C: LLVM drops the exception where it calls Python, and fails later."""
    asked: list[int] = []

    def note(signum: int, _frame: object) -> None:
        asked.append(signum)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is threading.main_thread() and before is signal.default_int_handler:
        signal.signal(signal.SIGINT, note)
    try:
        yield
    except Exception:
        if asked:
            raise KeyboardInterrupt from None
        raise
    finally:
        if signal.getsignal(signal.SIGINT) is note:
            signal.signal(signal.SIGINT, before)


@contextmanager
def ctrl_c_ends(done: Sequence[object]) -> Iterator[None]:
    """Let Ctrl-C end what is inside, and no more, once something is done."""
    try:
        yield
    except KeyboardInterrupt:
        if not done:
            raise
