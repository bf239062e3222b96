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

from .exact import floor_divide, left_shift, power, remainder, right_shift, sign
from .exponential import exp as vector_exp, log as vector_log
from .jit import kernel


def _where(condition: Any, a: Any, b: Any) -> Any:
    return a if condition else b


def _asarray(x: Any) -> Any:
    return x


def _exp(x: Any) -> Any:
    return np.exp(x)


def _log(x: Any) -> Any:
    return np.log(x)


def _exp_of(x: Any) -> Any:
    def in_vectors(x: Any) -> Any:
        return vector_exp(x)

    def by_numpy(x: Any) -> Any:
        return np.exp(x)

    return in_vectors if isinstance(x, types.Float) else by_numpy


def _log_of(x: Any) -> Any:
    def in_vectors(x: Any) -> Any:
        return vector_log(x)

    def by_numpy(x: Any) -> Any:
        return np.log(x)

    return in_vectors if isinstance(x, types.Float) else by_numpy


overload(_exp)(_exp_of)
overload(_log)(_log_of)


def _copysign(x: Any, sign: Any) -> Any:
    return np.abs(x) if sign > 0 else -np.abs(x)


NUMBERS = ModuleType("numpy of numbers", "NumPy's functions, for single numbers.")
vars(NUMBERS).update({name: value for name, value in vars(np).items() if not name.startswith("__")})
vars(NUMBERS).update(where=kernel(_where), asarray=kernel(_asarray), copysign=kernel(_copysign))
vars(NUMBERS).update(exp=_exp, log=_log, sign=sign, floor_divide=floor_divide, remainder=remainder)
vars(NUMBERS).update(left_shift=left_shift, right_shift=right_shift, power=power)


@kernel
def _erf(x: Any) -> Any:
    return math.erf(x)


@kernel
def _clip(x: Any, low: Any, high: Any) -> Any:
    y = x if low is None else np.maximum(x, low)
    return y if high is None else np.minimum(y, high)


@kernel
def _relu_pullback(ct: Any, x: Any) -> Any:
    return ct if x > 0 else 0


OWN = {"erf": _erf, "clip": _clip, "relu_pullback": _relu_pullback}
"""Where the definition goes over an array itself, or asks for dtypes."""


@cache
def scalar(definition: Callable[..., Any]) -> Any:
    """The definition of an op for single numbers."""
    name = definition.__name__
    if name in OWN:
        return OWN[name]
    bare = FunctionType(definition.__code__, definition.__globals__ | {"np": NUMBERS}, name, definition.__defaults__)
    bare.__qualname__ = f"scalar_{name}"
    return kernel(bare)
