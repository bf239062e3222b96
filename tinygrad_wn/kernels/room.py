"""Room for numbers that a kernel needs while it runs: asking for memory takes 60 ns, a frame of the stack nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.np import arrayobj

from .vector import REAL, SIZE, piece, word

NEAR = 1 << 14
"""Bytes of `near`."""


@piece
def near(_typing: Any, like: Any) -> Any:
    """NEAR bytes on the stack, as a vector of the dtype of `like`, gone when the kernel that asks returns.

    For use as `near(x) if count * x.itemsize <= NEAR else np.empty(count, x.dtype)`.
    """
    kind = types.Array(like.dtype, 1, "C")
    size = SIZE[like.dtype]

    def build(context: Any, at: Any, _signature: Any, _arguments: Any) -> Any:
        array = arrayobj.make_array(kind)(context, at)
        whole: Callable[..., Any] = arrayobj.populate_array
        with at.goto_entry_block():
            data = at.alloca(REAL[like.dtype], ir.Constant(ir.IntType(64), NEAR // size))
            data.align = 64
        whole(array, data=data, shape=[word(NEAR // size)], strides=[word(size)], itemsize=word(size), meminfo=None)
        return array._getvalue()

    return kind(like), build
