"""Update rules of optimizers: one call for all parameters of a group, one pass over the memory of each.

Formulas are those of `rules.py`. Results may be the very arrays that they replace.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray

from .address import pointer_at
from .bundle import ARRAY, KNOWN, LIKE, unbundled
from .jit import counting
from .rules import adam_numbers, update


@counting
def _vector(like: Any, row: Any, place: Any) -> Any:
    """The array whose address stands at this place of a row of the table, and its size at the end."""
    return carray(pointer_at(like, row[place]), (row[-1],))


@counting
def _descend(bundle: Any, count: Any, array: Any, like: Any, rate: Any, decay: Any) -> Any:
    table = unbundled(bundle, count, array, like, 1, 1, 2)
    for row in table:
        arrays = (_vector(like, row, 0), _vector(like, row, 2))
        if decay == 0:
            update(arrays, (rate,))
        else:
            update(arrays, (rate, decay))
    return table.shape[0] > 0


@counting
def _roll(bundle: Any, count: Any, array: Any, like: Any, rate: Any, momentum: Any, nesterov: Any, decay: Any) -> Any:
    table = unbundled(bundle, count, array, like, 1, 2, 3)
    for row in table:
        arrays = (_vector(like, row, 0), _vector(like, row, 1), _vector(like, row, 4))
        if decay == 0 and nesterov == 0:
            update(arrays, (rate, momentum))
        else:
            update(arrays, (rate, momentum, nesterov, decay))
    return table.shape[0] > 0


@counting
def _adapt(
    bundle: Any,
    count: Any,
    array: Any,
    like: Any,
    rate: Any,
    step: Any,
    beta1: Any,
    beta2: Any,
    eps: Any,
    decay: Any,
    decoupled: Any,
) -> Any:
    table = unbundled(bundle, count, array, like, 2, 3, 4)
    numbers = adam_numbers(rate, step, beta1, beta2, eps)
    for row in table:
        arrays = (_vector(like, row, 0), _vector(like, row, 1), _vector(like, row, 2), _vector(like, row, 6))
        if decay == 0:
            update(arrays, numbers)
        elif decoupled:
            update(arrays, (*numbers, rate * decay, 0.0))
        else:
            update(arrays, (*numbers, 0.0, decay))
    return table.shape[0] > 0


def _call(step: Callable[..., Any], arrays: tuple[Any, ...], outs: int, ins: int, scalars: int, *options: Any) -> bool:
    """Hand the arrays over as the tuple that they are in; inputs with gaps or in Fortran order as copies."""
    first = (len(arrays) - scalars) // (outs + ins) * outs
    numbers = arrays[first : first + scalars]
    like = LIKE.get(arrays[0].dtype.char) if KNOWN and type(arrays[0]) is np.ndarray else None
    if like is None or any(type(x) is not float and np.ndim(x) for x in numbers):
        return False
    given = [float(x) for x in numbers]
    if step(id(arrays), len(arrays), ARRAY, like, *given, *options):
        return True
    inputs = tuple(np.ascontiguousarray(x) if np.ndim(x) else x for x in arrays[first:])
    packed = (*arrays[:first], *inputs)
    return step(id(packed), len(packed), ARRAY, like, *given, *options)


def sgd_update(*arrays: Any, weight_decay: float) -> bool:
    """p ← p - rate (g + weight_decay p): 6 parameters of 16 numbers in the time of one NumPy operation."""
    return _call(_descend, arrays, 1, 2, 1, float(weight_decay))


def momentum_update(*arrays: Any, momentum: float, nesterov: bool, weight_decay: float) -> bool:
    """m ← momentum m + g + weight_decay p, p ← p - rate m."""
    return _call(_roll, arrays, 2, 3, 1, float(momentum), float(nesterov), float(weight_decay))


def adam_update(*arrays: Any, beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool) -> bool:
    """m and s ← running means of g and g², p ← p - rate m / √s, each mean over what it misses at the start."""
    options = (float(beta1), float(beta2), float(eps), float(weight_decay), bool(decoupled))
    return _call(_adapt, arrays, 3, 4, 2, *options)
