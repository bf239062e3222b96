"""Update rules of optimizers, as ops: old values and gradients in, new values out; `.into` writes in place.

Each takes any number of parameters, one after the other with its state and its gradient: a group is one call. Where
nothing comes in any more, state becomes 0 as soon as it is below the smallest normal number. Adam takes slopes for 0
whose squares would be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .. import kernels
from ..domains import Array, Positive, Real, Shape
from ..errors import GradientError
from ..op import case, op
from ..shapes import Misfit, same


def _shapes(scalars: int, each: int) -> Callable[..., tuple[Shape, ...]]:
    """The rule for `scalars`, then `each` arrays a parameter, all but the last of which get new values."""

    def rule(*shapes: Shape, **_: Any) -> tuple[Shape, ...]:
        if any(shapes[:scalars]):
            raise Misfit("rate and step must be numbers, or arrays of shape []")
        arrays = shapes[scalars:]
        if not arrays or len(arrays) % each:
            raise Misfit(f"each parameter needs {each} arrays: its values, its state and its gradient")
        news = tuple(shape for i, shape in enumerate(arrays, 1) if i % each)
        if any(arrays[i::each] != arrays[::each] for i in range(1, each)):
            raise Misfit("parameter, gradient and state must have one shape")
        return news

    return rule


def _rows(values: tuple[Any, ...], each: int) -> Iterable[tuple[Any, ...]]:
    return (values[i : i + each] for i in range(0, len(values), each))


def _slope(p: Any, g: Any, weight_decay: float) -> Any:
    return g + weight_decay * p if weight_decay else g


def _smallest(x: Any) -> Any:
    return np.finfo(np.result_type(x, np.float32)).smallest_normal


def _settled(x: Any) -> Any:
    """x, and 0 where it is below the smallest normal number.

    A mean that decays would never leave that range: 0.9 x rounds to x there. And some processors compute with such
    numbers 100 times as slowly.
    """
    return np.where(np.abs(x) < _smallest(x), 0, x)


def _counted(slope: Any, beta2: float) -> Any:
    """A slope, and 0 where (1 - β₂) slope², which is what Adam adds to s, is below the smallest normal number."""
    return np.where(np.abs(slope) < _number(np.sqrt(1 / (1 - beta2)), slope) * np.sqrt(_smallest(slope)), 0, slope)


def _number(value: Any, like: Any) -> Any:
    """A number in the dtype of the floats that it meets."""
    return np.asarray(value, np.result_type(like, np.float32))


@op(cases=[case("()"), case("(m)")], shape=same, gradient=False)
def finite(x: Real) -> Array:
    """x, the norm of gradients. Raises GradientError where it is NaN or infinite.

    >>> from tinygrad_wn.ops.update import finite
    >>> finite(2.0)
    Tensor(2.)
    """
    if not np.all(np.isfinite(x)):
        hint = "look for a loss that is NaN or infinite, or take a smaller learning rate"
        raise GradientError("the norm of the gradients is not finite", {"norm": x}, hint=hint)
    return np.array(x)


@op(
    cases=[case("(),(m,n),(m,n),(n),(n)", weight_decay=0.1), case("(),(n),(n)")],
    shape=_shapes(1, 2),
    kernel=kernels.sgd_update,
    gradient=False,
    inplace=True,
)
def sgd_update(rate: Positive, *tensors: Real, weight_decay: float = 0.0) -> tuple[Array, ...]:
    """p ← p - rate (g + weight_decay p), for tensors p, g, p, g, …

    >>> from tinygrad_wn.ops.update import sgd_update
    >>> sgd_update(0.25, tg.tensor([1.0]), tg.tensor([2.0]))
    (Tensor([0.5]),)
    """
    results = []
    for p, g in _rows(tensors, 2):
        slope = _slope(p, g, weight_decay)
        results.append(np.asarray(p - _number(rate, slope) * slope))
    return tuple(results)


@op(
    cases=[
        case("(),(m,n),(m,n),(m,n)", momentum=0.9, nesterov=True),
        case("(),(n),(n),(n),(m,n),(m,n),(m,n)", weight_decay=0.1),
    ],
    shape=_shapes(1, 3),
    kernel=kernels.momentum_update,
    gradient=False,
    inplace=True,
)
def momentum_update(
    rate: Positive, *tensors: Real, momentum: float = 0.9, nesterov: bool = False, weight_decay: float = 0.0
) -> tuple[Array, ...]:
    """m ← momentum m + g + weight_decay p, then p ← p - rate m, for tensors p, m, g, p, m, g, …; gives p, m, p, m, …

    Nesterov looks one step ahead, as in PyTorch.

    >>> from tinygrad_wn.ops.update import momentum_update
    >>> momentum_update(0.25, tg.tensor([1.0]), tg.tensor([2.0]), tg.tensor([1.0]), momentum=0.5)
    (Tensor([0.5]), Tensor([2.]))
    """
    results = []
    for p, m, g in _rows(tensors, 3):
        slope = _slope(p, g, weight_decay)
        new = _settled(momentum * m + slope)
        results += [p - _number(rate, new) * (slope + momentum * new if nesterov else new), new]
    return tuple(np.asarray(x) for x in results)


@op(
    cases=[
        case("(),(),(m,n),(m,n),(m,n),(m,n)", weight_decay=0.1),
        case("(),(),(n),(n),(n),(n),(m),(m),(m),(m)", weight_decay=0.1, decoupled=True),
    ],
    shape=_shapes(2, 4),
    kernel=kernels.adam_update,
    gradient=False,
    inplace=True,
)
def adam_update(
    rate: Positive,
    step: Positive,
    *tensors: Positive,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> tuple[Array, ...]:
    """Adam (Kingma & Ba 2015) for tensors p, m, s, g, p, m, s, g, …; gives p, m, s, p, m, s, …

    m and s are running means of g and g²; `step` counts from 1 and weighs what they miss at the start, in float64.
    `decoupled` decay is AdamW's. A slope is 0 where (1 - β₂) slope², which it adds to s, is below the smallest normal
    number (by default, slopes below 3.4e-18; float64: 4.7e-153): it would move p by less than rate · 3.4e-18 / eps.

    >>> from tinygrad_wn.ops.update import adam_update
    >>> zero = tg.tensor([0.0])
    >>> adam_update(0.5, 1, tg.tensor([1.0]), zero, zero, tg.tensor([3.0]))[0]
    Tensor([0.5])
    """
    rate = np.float64(rate)
    pace = rate / np.subtract(1, np.power(beta1, step, dtype=np.float64))
    rise = 1 / np.sqrt(np.subtract(1, np.power(beta2, step, dtype=np.float64)))
    results = []
    for p, m, s, g in _rows(tensors, 4):
        slope = _counted(g if decoupled else _slope(p, g, weight_decay), beta2)
        first = _settled(beta1 * m + (1 - beta1) * slope)
        second = _settled(beta2 * s + (1 - beta2) * slope * slope)
        kept = p - _number(rate * weight_decay, first) * p if decoupled and weight_decay else p
        move = _number(pace, first) * (first / (np.sqrt(second) * _number(rise, second) + eps))
        results += [kept - move, first, second]
    return tuple(np.asarray(x) for x in results)
