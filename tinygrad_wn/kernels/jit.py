"""The only place that calls numba.njit: flags and cache in one place."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numba
from numba.core import config

from .cache import keep_on_disk

if TYPE_CHECKING:
    from collections.abc import Iterator

F = TypeVar("F", bound=Callable[..., Any])

COMPILED = not config.DISABLE_JIT
"""Whether there is machine code at all: pieces of LLVM code mean nothing to Python, so kernels are off without it."""

prange = numba.prange
"""`range` for the loop of a parallel kernel."""

OTHER_LOOPS = ("comprehension", "reduction", "inplace_binop", "setitem", "numpy", "stencil", "fusion")
"""What Numba would make parallel beside `prange`."""

_on: ContextVar[bool] = ContextVar("kernels_are_on", default=os.environ.get("TINYGRAD_WN_KERNELS", "1") != "0")


def kernel(function: F) -> F:
    """Compile a function with Numba when it is first called: no fast-math, division as in NumPy, without the GIL.

    It may call kernels and pieces of other files. Machine code is kept on disk where there is room, and any edit of a
    file in this folder makes it anew. Its arrays are those of its caller, or lie on the stack: nothing is counted.
    """
    return _compiled(function, _nrt=False)


def counting(function: F) -> F:
    """As `kernel`, for what asks Numba for memory, or gives an array back: Numba counts who holds each array.

    Counting takes two calls for each name that is bound to an array, and what vectors hold is put aside for each call.
    """
    return _compiled(function, _nrt=True)


def inlined(function: F) -> F:
    """As `kernel`, for what is to become a part of the kernels that call it, however large it is.

    A call with several arrays takes 50 to 100 cycles, as it passes nine words of each: as long as a small layer's work.
    """
    return _compiled(function, forceinline=True, _nrt=False)


def parallel_kernel(function: F) -> F:
    """Compile a function whose `prange` loop runs on several threads; else as `kernel`.

    Each turn of the loop writes to memory of its own: Numba tells the compiler that arguments do not overlap. Nothing
    else in the function becomes parallel, so that no sum is split. Only call or compile it where `parts` says more than
    1: compiling it launches Numba's threads.
    """
    return _compiled(function, parallel=dict.fromkeys(OTHER_LOOPS, False), _nrt=True)


def _compiled(function: F, **more: Any) -> F:
    if not COMPILED:
        return function
    compiled = numba.njit(**{"error_model": "numpy", "nogil": True, "boundscheck": False} | more)(function)
    keep_on_disk(compiled)
    return cast("F", compiled)


def kernels_are_on() -> bool:
    """Whether ops run their kernels: not inside `kernels(False)`, nor in a process with `TINYGRAD_WN_KERNELS=0`.

    With `NUMBA_DISABLE_JIT=1` they never do.
    """
    return COMPILED and _on.get()


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
