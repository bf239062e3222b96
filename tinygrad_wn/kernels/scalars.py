"""Definitions of elementwise ops, compiled for single numbers: what the loops of emitted steps call.

A definition is the same function as ever, but what it calls `np` takes numbers: `where` is a choice, `asarray` nothing,
and `exp` and `log` can run in vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from .exponential import exp as vector_exp, log as vector_log
from .jit import kernel


def _where(condition: Any, a: Any, b: Any) -> Any:
    return a if condition else b


def _asarray(x: Any) -> Any:
    return x


def _chosen(mine: Any, numpys: Any) -> Any:
    """A function that is `mine` for floats, else NumPy's."""

    def function(x: Any) -> Any:
        return numpys(x)

    def choose(x: Any) -> Any:
        return (lambda x: mine(x)) if isinstance(x, types.Float) else (lambda x: numpys(x))

    overload(function, jit_options={"error_model": "numpy"})(choose)
    return function


NUMBERS = ModuleType("numpy of numbers", "NumPy's functions, for single numbers.")
vars(NUMBERS).update({name: value for name, value in vars(np).items() if not name.startswith("__")})
vars(NUMBERS).update(where=kernel(_where), asarray=kernel(_asarray))
vars(NUMBERS).update(exp=_chosen(vector_exp, np.exp), log=_chosen(vector_log, np.log))


@kernel
def _erf(x: Any) -> Any:
    return math.erf(x)


OWN = {"erf": _erf}
"""Where the definition goes over an array itself."""


@cache
def scalar(definition: Callable[..., Any]) -> Any:
    """The definition of an op for single numbers."""
    name = definition.__name__
    if name in OWN:
        return OWN[name]
    bare = FunctionType(definition.__code__, definition.__globals__ | {"np": NUMBERS}, name, definition.__defaults__)
    bare.__qualname__ = f"scalar_{name}"
    return kernel(bare)
