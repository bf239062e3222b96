"""Update rules of optimizers: one call for all parameters of a group, one pass over the memory of each.

Formulas as in `ops/update.py`, term for term. Results may be the very arrays that they replace.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .address import pointer_at
from .bundle import ARRAY, KNOWN, LIKE, unbundled
from .jit import kernel


@kernel
def _descend(bundle: Any, count: Any, array: Any, like: Any, rate: Any, decay: Any) -> Any:
    table, real = unbundled(bundle, count, array, like, 1, 1, 2), like.dtype.type
    rate, decay = real(rate), real(decay)
    for row in table:
        p, g = pointer_at(like, row[0]), pointer_at(like, row[2])
        for i in range(row[3]):
            p[i] -= rate * (g[i] + decay * p[i] if decay != 0 else g[i])
    return table.shape[0] > 0


@kernel
def _roll(bundle: Any, count: Any, array: Any, like: Any, rate: Any, momentum: Any, nesterov: Any, decay: Any) -> Any:
    table, real = unbundled(bundle, count, array, like, 1, 2, 3), like.dtype.type
    rate, momentum, decay = real(rate), real(momentum), real(decay)
    for row in table:
        p, m, g = pointer_at(like, row[0]), pointer_at(like, row[1]), pointer_at(like, row[4])
        for i in range(row[5]):
            slope = g[i] + decay * p[i] if decay != 0 else g[i]
            m[i] = momentum * m[i] + slope
            p[i] -= rate * (slope + momentum * m[i] if nesterov else m[i])
    return table.shape[0] > 0


@kernel
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
    table, real = unbundled(bundle, count, array, like, 2, 3, 4), like.dtype.type
    pace, rise = real(rate / (1.0 - beta1**step)), real(1.0 / math.sqrt(1.0 - beta2**step))
    new1, new2, beta1, beta2, eps = real(1.0 - beta1), real(1.0 - beta2), real(beta1), real(beta2), real(eps)
    shrink, decay = real(rate * decay if decoupled else 0.0), real(0.0 if decoupled else decay)
    for row in table:
        p, m, s = pointer_at(like, row[0]), pointer_at(like, row[1]), pointer_at(like, row[2])
        g = pointer_at(like, row[6])
        for i in range(row[7]):
            slope = g[i] + decay * p[i] if decay != 0 else g[i]
            m[i] = beta1 * m[i] + new1 * slope
            s[i] = beta2 * s[i] + new2 * slope * slope
            kept = p[i] - shrink * p[i] if shrink != 0 else p[i]
            p[i] = kept - pace * (m[i] / (np.sqrt(s[i]) * rise + eps))
    return table.shape[0] > 0


def _call(step: Callable[..., Any], arrays: tuple[Any, ...], *numbers: Any) -> bool:
    """Hand the arrays over as the tuple that they are in; those with gaps or in Fortran order as copies."""
    like = LIKE.get(arrays[0].dtype.char) if KNOWN else None
    if like is None or step(id(arrays), len(arrays), ARRAY, like, *numbers):
        return like is not None
    packed = tuple(np.ascontiguousarray(x) if np.ndim(x) else x for x in arrays)
    return step(id(packed), len(packed), ARRAY, like, *numbers)


def sgd_update(*arrays: Any, weight_decay: float) -> bool:
    """p ← p - rate (g + weight_decay p): 6 parameters of 16 numbers in the time of one NumPy operation."""
    return _call(_descend, arrays, float(arrays[len(arrays) // 3]), float(weight_decay))


def momentum_update(*arrays: Any, momentum: float, nesterov: bool, weight_decay: float) -> bool:
    """m ← momentum m + g + weight_decay p, p ← p - rate m."""
    rate = float(arrays[len(arrays) // 5 * 2])
    return _call(_roll, arrays, rate, float(momentum), bool(nesterov), float(weight_decay))


def adam_update(*arrays: Any, beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool) -> bool:
    """m and s ← running means of g and g², p ← p - rate m / √s, each mean over what it misses at the start."""
    rate, step = arrays[(at := len(arrays) // 7 * 3) : at + 2]
    numbers = (float(x) for x in (rate, step, beta1, beta2, eps, weight_decay))
    return _call(_adapt, arrays, *numbers, bool(decoupled))
