"""The only place that calls numba.njit: flags and cache in one place."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numba
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

F = TypeVar("F", bound=Callable[..., Any])

prange = numba.prange
"""`range` for the loop of a parallel kernel."""

OTHER_LOOPS = ("comprehension", "reduction", "inplace_binop", "setitem", "numpy", "stencil", "fusion")
"""What Numba would make parallel beside `prange`."""

_on: ContextVar[bool] = ContextVar("kernels_are_on", default=os.environ.get("TINYGRAD_WN_KERNELS", "1") != "0")


def kernel(function: F) -> F:
    """Compile a loop with Numba: no fast-math, division as in NumPy, machine code kept on disk where there is room.

    A kernel file calls no compiled function of another file: Numba's disk cache would not see that one change.
    """
    return _compiled(function)


def _compiled(function: F, **more: Any) -> F:
    if os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":  # plain loops, as quiet about overflow as machine code is
        return np.errstate(all="ignore")(function)
    options: dict[str, Any] = {"error_model": "numpy", "nogil": True, "boundscheck": False} | more
    try:
        return cast("F", numba.njit(cache=True, **options)(function))
    except RuntimeError:  # no folder for the cache can be written to: compile anew in each process
        return cast("F", numba.njit(**options)(function))


def parallel_kernel(function: F) -> F:
    """Compile a function whose `prange` loop runs on several threads; else as `kernel`.

    Each turn of the loop writes to memory of its own: Numba tells the compiler that arguments do not overlap. Nothing
    else in the function becomes parallel, so that no sum is split. Only call or compile it where `parts` says more than
    1: compiling it launches Numba's threads.
    """
    return _compiled(function, parallel=dict.fromkeys(OTHER_LOOPS, False))


def kernels_are_on() -> bool:
    """Whether ops run their kernels; `TINYGRAD_WN_KERNELS=0` in the environment turns them off for a process."""
    return _on.get()


@contextmanager
def kernels(on: bool) -> Iterator[None]:
    """Turn kernels on or off inside a `with` block, for this thread or task; off, every op runs its NumPy definition.

    >>> with tg.kernels(False):
    ...     tg.weight_norm(tg.tensor([[3.0, 4.0]]), tg.tensor([[10.0]]))
    Tensor([[6., 8.]])
    """
    token = _on.set(on)
    try:
        yield
    finally:
        _on.reset(token)
