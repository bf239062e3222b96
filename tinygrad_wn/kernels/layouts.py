"""Kernels that read arrays in any layout: one machine code for each float dtype, not one for each mix of layouts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from numba import types
from numba.core.registry import CPUDispatcher

SCALARS = {"flag": types.boolean, "count": types.int64, "real": types.float64}

compiling = threading.RLock()
"""Held by who compiles."""


class AnyLayout(dict[int, Callable[..., Any]]):
    """A kernel by the item size of its dtype: 4 for float32, 8 for float64; compiled when it is first asked for.

    `arguments` says what it takes: "out 2, in 2, in 1 C, in 1 C int64, flag, count" writes to a matrix, reads a matrix,
    a contiguous vector, and one of integers; "(out 2 + real)" is a tuple. Numba itself refuses all other types, and
    arrays that must not be written. Who calls has a dispatcher of its own, which never compiles: Numba would do so for
    types that have to be converted, if another thread is just compiling.
    """

    def __init__(self, kernel: Any, arguments: str) -> None:
        super().__init__()
        self.kernel, self.arguments = kernel, arguments.split(", ")

    def __missing__(self, size: int) -> Callable[..., Any]:
        kinds = self.types(size)
        with compiling:
            self.kernel.compile(kinds)
        closed: Any = CPUDispatcher(self.kernel.py_func)
        closed.add_overload(self.kernel.overloads[kinds])
        closed.disable_compile()
        self[size] = closed
        return closed

    def types(self, size: int) -> tuple[Any, ...]:
        """Numba's types of the arguments, for floats of `size` bytes."""
        return tuple(self._type(one, size) for one in self.arguments)

    def _type(self, text: str, size: int) -> Any:
        if text.startswith("("):
            return types.Tuple([self._type(one, size) for one in text[1:-1].split(" + ")])
        words = text.split()
        if words[0] in SCALARS:
            return SCALARS[words[0]]
        dtype = getattr(types, words[3]) if len(words) > 3 else types.float32 if size == 4 else types.float64
        return types.Array(dtype, int(words[1]), words[2] if len(words) > 2 else "A", readonly=words[0] == "in")
