"""How many threads a kernel may use, and when.

Numba runs parallel loops on one threading layer in a process, for good: whichever is launched first. Kernels launch
OpenMP, at the first work that is worth it, or stay on one thread where that cannot be had: `workqueue` ends the process
when two Python threads enter it. A forked child stays on one thread, as OpenMP ends or hangs a child whose parent used
it. Each kernel with a parallel loop therefore has a serial twin, and its caller asks `parts` which one to call.
"""

from __future__ import annotations

import operator
import os
import threading
from collections.abc import Callable

import numba
from numba.core import config

from ..errors import DTypeError, ValueRangeError

on_change: list[Callable[[], object]] = []
"""What is to be done when the number of threads was set."""

MAY_BE_OPENMP = ("default", "threadsafe", "omp")
"""Values of Numba's THREADING_LAYER that do not ask for another layer."""


class _Team:
    """What is known of this process: `parts` is 0 until the first work that is worth threads."""

    def __init__(self) -> None:
        self.parts = 0
        self.limit: int | None = None
        self.forked = False
        self.changing = threading.Lock()


_team = _Team()


def parts(work: float, least: float) -> int:
    """Into how many parts with outputs of their own a kernel splits its work; its serial twin does it if that is 1.

    `work` is in floating-point operations; less than `least` is not worth the threads.
    """
    return 1 if work < least else _team.parts or _decide()


def _decide() -> int:
    with _team.changing:
        count = get_num_threads()
        _team.parts = count if count > 1 and not _team.forked and _openmp() else 1
        return _team.parts


def _openmp() -> bool:
    """Whether Numba runs parallel loops on OpenMP, which this makes so if nothing else was asked for or launched."""
    asked = config.THREADING_LAYER
    if str(asked).lower() in MAY_BE_OPENMP:
        config.THREADING_LAYER = "omp"
        try:
            numba.get_num_threads()  # launches the layer, unless there is one
        except ValueError:
            return False
        finally:
            config.THREADING_LAYER = asked
    try:
        return numba.threading_layer() == "omp"
    except ValueError:  # none is launched
        return False


def _forked() -> None:
    _team.changing = threading.Lock()  # a thread that is not in the child may have held it
    _team.forked, _team.parts = True, 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _cores() -> int:
    """The cores that this process may use; `NUMBA_NUM_THREADS` narrows that."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, config.NUMBA_NUM_THREADS)


def set_num_threads(n: int) -> None:
    """Let kernels use up to `n` threads in this process; more than it has cores means all of them.

    It does not reach NumPy's own threads, nor Numba's in functions that you compile. Results do not depend on it.
    Raises DTypeError for an `n` that is no integer and ValueRangeError for one below 1.

    >>> before = tg.get_num_threads()
    >>> tg.set_num_threads(1)
    >>> tg.get_num_threads()
    1
    >>> tg.set_num_threads(before)
    """
    try:
        count = operator.index(n)
    except TypeError:
        count = None
    if count is None or isinstance(n, bool):
        facts = {"n": repr(n), "type": type(n).__name__}
        raise DTypeError("set_num_threads: n must be an integer", facts, hint="give the number of threads, 1 or more")
    if count < 1:
        raise ValueRangeError("set_num_threads: n must be at least 1", {"n": n}, hint="1 turns threads off")
    with _team.changing:
        _team.limit, _team.parts = count, 0
    for act in on_change:
        act()


def get_num_threads() -> int:
    """The most threads a kernel uses: what `set_num_threads` allows, else the cores that this process may use.

    A kernel stays on one thread where its work is small, in a forked child process, and where Numba has no OpenMP or
    runs another threading layer already. `NUMBA_NUM_THREADS` in the environment narrows the number from outside.

    >>> 1 <= tg.get_num_threads() <= os.cpu_count()
    True
    """
    return min(_team.limit or _cores(), _cores())
