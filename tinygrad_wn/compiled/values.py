"""Values that a name may hold: which of them change, how they are read again, and what of them is kept to compare."""

from __future__ import annotations

import inspect
import os
import sys
import sysconfig
from collections import deque
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from ..tensor import Tensor
from .code import codes, read_names
from .record import PACKAGE

FOREIGN = (PACKAGE, *{sysconfig.get_path(one) + os.sep for one in ("stdlib", "platstdlib", "purelib", "platlib")})
STILL = (ModuleType, FunctionType, BuiltinFunctionType, MethodType, type, np.ufunc)
"""What a name may hold that nobody is expected to replace between two steps, unless it is of the user's own code."""
PLAIN = (bool, int, float, complex, str, bytes, np.generic, type(None))

SEVERAL = (dict, list, set, deque)
HELD = (*SEVERAL, Tensor, np.ndarray)
"""Attributes of classes that are looked at, beside plain ones."""
CONTAINERS = tuple(kind.__name__ for kind in SEVERAL)
EMPTY = object()
"""What is read where there is nothing any more."""


def plain(value: Any) -> bool:
    """Whether a value is a number, a text, or a tuple of such."""
    return all(map(plain, value)) if isinstance(value, tuple) else isinstance(value, PLAIN)


def own(value: Any) -> bool:
    """Whether a function or a class is of the user's own code."""
    if isinstance(value, FunctionType):
        return not value.__code__.co_filename.startswith(FOREIGN)
    if not isinstance(value, type) or value.__module__ == "__main__":
        return isinstance(value, type)
    return own_module(sys.modules.get(value.__module__))


def own_module(module: Any) -> bool:
    """Whether a module is of the user's own code: a file, or a folder without one, that is not of installed code."""
    where = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    return not next((str(one) for one in where if one), PACKAGE).startswith(FOREIGN)


def read(how: str, holder: Any, key: Any) -> Any:
    if how in ("name", "unset"):
        return holder.get(key, EMPTY)
    if how == "dict":
        return list(holder.values())
    if how == "slot":
        return getattr(holder, key, None)
    if how == "cell":
        try:
            return holder.cell_contents
        except ValueError:
            return EMPTY
    return holder


def copied(how: str, value: Any) -> Any:
    return list(value) if how in CONTAINERS else value.copy() if how == "numbers" else value


def text_of(function: Any, known: tuple[Any, ...] = ()) -> str:
    """The source of a function and of kernels that it names, and the numbers that it finds: what it computes."""
    found = [inspect.getsource(function)]
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    values = function.__globals__ | {name: read("cell", cell, name) for name, cell in cells}
    for name in sorted({*function.__code__.co_freevars, *(n for c in codes(function.__code__) for n in read_names(c))}):
        value = values.get(name)
        inner = getattr(value, "py_func", None)
        if isinstance(value, ModuleType) and own_module(value):
            asked = sorted({n for code in codes(function.__code__) for n in code.co_names} & vars(value).keys())
            found += [f"{name}.{one} = {_written(vars(value)[one])}" for one in asked]
        elif value is not None and not isinstance(inner, FunctionType):
            found.append(f"{name} = {_written(value)}")
        elif isinstance(inner, FunctionType) and inner not in known:
            found.append(text_of(inner, (*known, function)))
    return "\n".join(found)


def _written(value: Any) -> str:
    """A number, a text or an array as text, to the last bit; nothing of others."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {value.tobytes().hex()}"
    return repr(value) if plain(value) else ""
