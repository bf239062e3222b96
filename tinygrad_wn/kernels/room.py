"""Room for numbers that a kernel needs while it runs: asking for memory takes 60 ns, a frame of the stack nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.np import arrayobj

from .vector import REAL, SIZE, piece, word

NEAR = 1 << 14
"""Bytes of `near`."""


def _array(context: Any, at: Any, like: Any, data: Any, count: Any) -> Any:
    """A vector of `count` numbers of the dtype of `like`, which nobody counts."""
    whole: Callable[..., Any] = arrayobj.populate_array
    array, size = arrayobj.make_array(_kind(like))(context, at), word(SIZE[like.dtype])
    whole(array, data=data, shape=[count], strides=[size], itemsize=size, meminfo=None)
    return array._getvalue()


def _kind(like: Any) -> Any:
    return types.Array(like.dtype, 1, "C")


def _on_the_stack(at: Any, like: Any) -> Any:
    with at.goto_entry_block():
        data = at.alloca(REAL[like.dtype], ir.Constant(ir.IntType(64), NEAR // SIZE[like.dtype]))
        data.align = 64
    return data


@piece
def near(_typing: Any, like: Any) -> Any:
    """NEAR bytes on the stack, as a vector of the dtype of `like`, gone when the kernel that asks returns."""

    def build(context: Any, at: Any, _signature: Any, _arguments: Any) -> Any:
        return _array(context, at, like, _on_the_stack(at, like), word(NEAR // SIZE[like.dtype]))

    return _kind(like)(like), build


@piece
def room_for(_typing: Any, like: Any, count: Any) -> Any:
    """Room for `count` numbers of the dtype of `like`: `near`, or where they are too many, until `leave` is told.

    Raises MemoryError where there is none.
    """

    def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        count, close = arguments[1], _on_the_stack(at, like)
        size = at.mul(count, word(SIZE[like.dtype]))
        before, far, after = at.block, at.append_basic_block("far"), at.append_basic_block("after")
        at.cbranch(at.icmp_signed(">", size, word(NEAR)), far, after)
        at.position_at_end(far)
        form = ir.FunctionType(cgutils.voidptr_t, [size.type])
        found = at.call(cgutils.get_or_insert_function(at.module, form, "NRT_Allocate"), [size])
        with cgutils.if_unlikely(at, cgutils.is_null(at, found)):
            context.call_conv.return_user_exc(at, MemoryError, ("no room for a kernel",))
        found = at.bitcast(found, close.type)
        given = at.block
        at.branch(after)
        at.position_at_end(after)
        data = at.phi(close.type)
        data.add_incoming(close, before)
        data.add_incoming(found, given)
        return _array(context, at, like, data, count)

    return _kind(like)(like, types.int64), build


@piece
def leave(_typing: Any, room: Any) -> Any:
    """Give back what `room_for` gave."""

    def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        array = arrayobj.make_array(room)(context, at, arguments[0])
        size = at.mul(array.nitems, word(SIZE[room.dtype]))
        with at.if_then(at.icmp_signed(">", size, word(NEAR))):
            form = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t])
            at.call(
                cgutils.get_or_insert_function(at.module, form, "NRT_Free"), [at.bitcast(array.data, cgutils.voidptr_t)]
            )
        return context.get_dummy_value()

    return types.void(room), build
