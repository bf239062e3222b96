"""Where an array's numbers lie in memory, for kernels that take many arrays: Numba takes 70 ns and more to unpack each.

A caller hands over an array of addresses, and the kernel views each of them as an array again::

    at = np.array([address_of(a) for a in arrays])  # the caller keeps the arrays alive

    @counting
    def double(like, at, sizes):
        for i in range(at.size):
            x = carray(pointer_at(like, at[i]), (sizes[i],))
            ...
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np
from numba import types

from ..domains import Array
from .vector import piece

WORD = ctypes.sizeof(ctypes.c_void_p)
AFTER_HEAD = object.__basicsize__
"""The address of its numbers is the first thing that an array object holds, in NumPy's binary interface."""

_memory = (ctypes.c_size_t * (sys.maxsize // WORD)).from_address(0)


def _from_object(array: Array) -> int:
    return _memory[(id(array) + AFTER_HEAD) // WORD]


def _from_numpy(array: Array) -> int:
    return array.ctypes.data


_probe = np.empty(1)
address_of = _from_object if _from_object(_probe) == _from_numpy(_probe) else _from_numpy
"""The address of an array's first number, as `array.ctypes.data`, which takes ten times as long.

It gives a number without meaning for anything but a NumPy array.
"""


def place_in(holder: object, held: object) -> int:
    """The place, in words, where an object with slots holds another one. Raises ValueError where it does not."""
    words = range(id(holder) // WORD, (id(holder) + type(holder).__basicsize__) // WORD)
    return [_memory[i] for i in words].index(id(held))


@piece
def pointer_at(_typing: Any, like: Any, address: Any) -> Any:
    """The pointer that an address stands for, to numbers of the dtype of `like`: an array or a dtype, as `np.float32`.

    For use in kernels. In a `counting` one `numba.carray(pointer, shape)` makes a C-contiguous array of it.
    """

    def build(context: Any, at: Any, signature: Any, arguments: Any) -> Any:
        return at.inttoptr(arguments[1], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(like, types.int64), build
