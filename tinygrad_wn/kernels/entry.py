"""Machine code of functions of integers, called without a look at types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types

from .layouts import compiling


def entry(function: Any, count: int) -> Callable[..., int]:
    """A kernel of `count` integers, from one integer to which Python objects are turned in 20 ns each."""
    return _compiled(function, count).entry_point


def native(function: Any, count: int) -> int:
    """The address of a kernel of `count` integers, in Numba's calling convention."""
    found = _compiled(function, count)
    return int(found.library.get_pointer_to_function(found.fndesc.llvm_func_name))


def _compiled(function: Any, count: int) -> Any:
    kinds = (types.int64,) * count
    with compiling:
        function.compile(kinds)
    return function.overloads[kinds]
