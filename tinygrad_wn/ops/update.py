"""Update rules of optimizers, as ops: old values and a gradient in, new values out; `.into` writes in place."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..domains import Array, Positive, Real, Shape
from ..op import case, op
from ..shapes import Misfit


def _rule(*shapes: Shape, scalars: int, results: int) -> Any:
    arrays = shapes[: len(shapes) - scalars]
    if any(s != arrays[0] for s in arrays):
        raise Misfit("parameter, gradient and state must have one shape")
    return (arrays[0],) * results if results > 1 else arrays[0]


@op(
    cases=[case("(m,n),(m,n),()", weight_decay=0.1), case("(n),(n),()")],
    shape=lambda p, g, rate, *, weight_decay: _rule(p, g, rate, scalars=1, results=1),
    gradient=False,
)
def sgd_update(p: Real, g: Real, rate: Positive, weight_decay: float = 0.0) -> Array:
    """p ← p - rate (g + weight_decay p).

    >>> from tinygrad_wn.ops.update import sgd_update
    >>> sgd_update(tg.tensor([1.0]), tg.tensor([2.0]), 0.25)
    Tensor([0.5])
    """
    slope = g + weight_decay * p if weight_decay else g
    return np.asarray(p - rate * slope)


@op(
    cases=[case("(m,n),(m,n),(m,n),()", momentum=0.9, nesterov=True), case("(n),(n),(n),()", weight_decay=0.1)],
    shape=lambda p, m, g, rate, **_: _rule(p, m, g, rate, scalars=1, results=2),
    gradient=False,
)
def momentum_update(
    p: Real, m: Real, g: Real, rate: Positive, momentum: float = 0.9, nesterov: bool = False, weight_decay: float = 0.0
) -> tuple[Array, Array]:
    """m ← momentum m + g + weight_decay p, then p ← p - rate m; Nesterov looks one step ahead, as in PyTorch.

    >>> from tinygrad_wn.ops.update import momentum_update
    >>> momentum_update(tg.tensor([1.0]), tg.tensor([2.0]), tg.tensor([1.0]), 0.25, momentum=0.5)
    (Tensor([0.5]), Tensor([2.]))
    """
    slope = g + weight_decay * p if weight_decay else g
    new = momentum * m + slope
    return np.asarray(p - rate * (slope + momentum * new if nesterov else new)), np.asarray(new)


def _warmth(beta: float, step: Any, dtype: Any) -> Array:
    """1 - betaᵗ, the share of a running mean that is not its zero start; in float64, whatever kind of number t is."""
    return np.subtract(1, np.power(beta, step, dtype=np.float64)).astype(dtype)


@op(
    cases=[
        case("(m,n),(m,n),(m,n),(m,n),(),()", weight_decay=0.1),
        case("(n),(n),(n),(n),(),()", weight_decay=0.1, decoupled=True),
    ],
    shape=lambda p, m, s, g, rate, step, **_: _rule(p, m, s, g, rate, step, scalars=2, results=3),
    gradient=False,
)
def adam_update(
    p: Real,
    m: Real,
    s: Positive,
    g: Real,
    rate: Positive,
    step: Positive,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> tuple[Array, Array, Array]:
    """Adam (Kingma & Ba 2015): m and s are running means of g and g². `decoupled` decay is AdamW's; `step` counts.

    >>> from tinygrad_wn.ops.update import adam_update
    >>> zero = tg.tensor([0.0])
    >>> adam_update(tg.tensor([1.0]), zero, zero, tg.tensor([3.0]), 0.5, 1)[0]
    Tensor([0.5])
    """
    slope = g + weight_decay * p if weight_decay and not decoupled else g
    first = beta1 * m + (1 - beta1) * slope
    second = beta2 * s + (1 - beta2) * slope * slope
    mean, size = first / _warmth(beta1, step, first.dtype), np.sqrt(second / _warmth(beta2, step, second.dtype))
    kept = p - rate * weight_decay * p if decoupled else p
    return np.asarray(kept - rate * mean / (size + eps)), np.asarray(first), np.asarray(second)
