"""Update rules of optimizers for one parameter: p and its state in place, one pass over memory.

Formulas as in `ops/update.py`, term for term.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .jit import kernel


@kernel
def descend(p: Any, g: Any, rate: Any, decay: Any) -> None:
    """p ← p - rate (g + decay p)."""
    real = p.dtype.type
    rate, decay = real(rate), real(decay)
    for i in range(p.size):
        p[i] -= rate * (g[i] + decay * p[i] if decay != 0 else g[i])


@kernel
def roll(p: Any, m: Any, g: Any, rate: Any, momentum: Any, nesterov: Any, decay: Any) -> None:
    """m ← momentum m + g + decay p, p ← p - rate m."""
    real = p.dtype.type
    rate, momentum, decay = real(rate), real(momentum), real(decay)
    for i in range(p.size):
        slope = g[i] + decay * p[i] if decay != 0 else g[i]
        m[i] = momentum * m[i] + slope
        p[i] -= rate * (slope + momentum * m[i] if nesterov else m[i])


@kernel
def adam_numbers(p: Any, rate: Any, step: Any, beta1: Any, beta2: Any, eps: Any, decay: Any, decoupled: Any) -> Any:
    """What all numbers of a parameter are updated with, in its dtype."""
    real = p.dtype.type
    pace, rise = real(rate / (1.0 - beta1**step)), real(1.0 / math.sqrt(1.0 - beta2**step))
    new1, new2, shrink = real(1.0 - beta1), real(1.0 - beta2), real(rate * decay if decoupled else 0.0)
    return pace, rise, real(beta1), real(beta2), new1, new2, real(eps), shrink, real(0.0 if decoupled else decay)


@kernel
def adapt(
    p: Any,
    m: Any,
    s: Any,
    g: Any,
    rate: Any,
    step: Any,
    beta1: Any,
    beta2: Any,
    eps: Any,
    decay: Any,
    decoupled: Any,
) -> None:
    """m and s ← running means of g and g², p ← p - rate m / √s, each mean over what it misses at the start."""
    numbers = adam_numbers(p, rate, step, beta1, beta2, eps, decay, decoupled)
    pace, rise, beta1, beta2, new1, new2, eps, shrink, decay = numbers
    for i in range(p.size):
        slope = g[i] + decay * p[i] if decay != 0 else g[i]
        m[i] = beta1 * m[i] + new1 * slope
        s[i] = beta2 * s[i] + new2 * slope * slope
        kept = p[i] - shrink * p[i] if shrink != 0 else p[i]
        p[i] = kept - pace * (m[i] / (np.sqrt(s[i]) * rise + eps))
