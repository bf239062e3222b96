"""Machine code of functions of integers, called without a look at types."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .layouts import compiling
from .vector import WORD, piece


class _Method(ctypes.Structure):
    """What CPython wants to know of a function in C: PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("code", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


OBJECTS = 0x1 | 0x2
"""Flags of a function that gets a tuple of arguments, and a dict of those with names: METH_VARARGS, METH_KEYWORDS."""

_made = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)(
    ("PyCFunction_NewEx", ctypes.pythonapi)
)


def entry(function: Any, count: int) -> Callable[..., int]:
    """A kernel of `count` integers, from one integer to which Python objects are turned in 20 ns each."""
    return _compiled(function, count).entry_point


def handed(function: Any, state: object) -> Callable[..., Any]:
    """A kernel of three integers, to which Python objects are handed as they are, with the GIL.

    It gets addresses: of `state`, which lives as long as what this returns, of the tuple of arguments, and of the dict
    of those with names, or 0; and gives that of an object which the caller then holds, as `as_object` does. A call
    takes 10 to 20 ns.
    """
    return _made(ctypes.addressof(_method(function)), state, None)


@cache
def _method(function: Any) -> _Method:
    found = _compiled(function, 3)
    code = found.library.get_pointer_to_function(found.fndesc.llvm_cfunc_wrapper_name)
    made = _Method(b"step", code, OBJECTS, None)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(made))  # for ever: it may be called while the interpreter ends
    return made


@piece
def as_object(_typing: Any, number: Any) -> Any:
    """The address of a new Python integer."""

    def build(_context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        form = ir.FunctionType(cgutils.voidptr_t, [WORD])
        made = at.call(cgutils.get_or_insert_function(at.module, form, "PyLong_FromLongLong"), arguments)
        return at.ptrtoint(made, WORD)

    return types.int64(types.int64), build


def native(function: Any, count: int) -> int:
    """The address of a kernel of `count` integers, in Numba's calling convention."""
    found = _compiled(function, count)
    return int(found.library.get_pointer_to_function(found.fndesc.llvm_func_name))


def _compiled(function: Any, count: int) -> Any:
    kinds = (types.int64,) * count
    with compiling:
        function.compile(kinds)
    return function.overloads[kinds]
