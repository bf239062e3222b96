"""Ops that reduce along axes, and the softmax family."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..domains import Array, Axis, Distinct, Real, Shape, signed
from ..op import case, op
from ..shapes import axes_of, reduced, reduced_nonempty, same
from .comparison import equal
from .elementwise import exp
from .structural import broadcast_to, concatenate, index, permute_dims, reshape, stop_gradient

if TYPE_CHECKING:
    from ..tensor import Tensor

ALONG = [
    case("(m,n)"),
    case("(m,n)", axis=-1),
    case("(l,m,n)", axis=(0, 2)),
    case("(l,m,n)", axis=1, keepdims=True),
    case("()"),
]


def _spread(ct: Any, x: Tensor, axis: Axis) -> Tensor:
    """Give a reduced tensor its axes of size 1 back, so that it broadcasts against `x`."""
    gone = axes_of(axis, x.ndim)
    return reshape(ct, shape=tuple(1 if i in gone else n for i, n in enumerate(x.shape)))


def _count(shape: Shape, axis: Axis) -> int:
    return math.prod(shape[i] for i in axes_of(axis, len(shape)))


@op(cases=ALONG, shape=reduced)
def sum(x: Real, axis: Axis = None, keepdims: bool = False) -> Array:
    """Σ x along `axis`: one, several, or None for all.

    >>> tg.sum(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0)
    Tensor([4., 6.])
    """
    return np.asarray(np.sum(x, axis=axis, keepdims=keepdims))


@sum.vjp
def sum_vjp(ct: Tensor, _: None, x: Tensor, *, axis: Axis, keepdims: bool) -> Tensor:
    return broadcast_to(_spread(ct, x, axis), shape=x.shape)


@op(cases=ALONG, shape=reduced)
def mean(x: Real, axis: Axis = None, keepdims: bool = False) -> Array:
    """Σ x / n along `axis`. The mean of nothing is NaN.

    >>> tg.mean(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0)
    Tensor([2., 3.])
    """
    return np.asarray(np.true_divide(np.sum(x, axis=axis, keepdims=keepdims), _count(np.shape(x), axis)))


@mean.vjp
def mean_vjp(ct: Tensor, _: None, x: Tensor, *, axis: Axis, keepdims: bool) -> Tensor:
    return broadcast_to(_spread(ct, x, axis) / _count(x.shape, axis), shape=x.shape)


@op(cases=[*ALONG, case("(3,n)", axis=0, correction=1)], shape=reduced)
def var(x: Real, axis: Axis = None, correction: float = 0, keepdims: bool = False) -> Array:
    """Variance Σ(x - mean)² / (n - correction) along `axis`.

    >>> tg.var(tg.tensor([1.0, 2.0, 3.0, 4.0]))
    Tensor(1.25)
    """
    count = _count(np.shape(x), axis)
    away = np.subtract(x, np.true_divide(np.sum(x, axis=axis, keepdims=True), count))
    return np.asarray(np.true_divide(np.sum(away * away, axis=axis, keepdims=keepdims), count - correction))


@var.vjp
def var_vjp(ct: Tensor, _: None, x: Tensor, *, axis: Axis, correction: float, keepdims: bool) -> Tensor:
    away = x - mean(x, axis=axis, keepdims=True)
    return _spread(ct, x, axis) * away * 2 / (_count(x.shape, axis) - correction)


EXTREME = [*ALONG[:-1], case("(n)", axis=0)]


def _extreme_vjp(ct: Tensor, y: Tensor, x: Tensor, axis: Axis) -> Tensor:
    here = equal(x, _spread(y, x, axis))
    return here * (_spread(ct, x, axis) / sum(here, axis=axis, keepdims=True))


@op(cases=EXTREME, shape=reduced_nonempty)
def max(x: Distinct, axis: Axis = None, keepdims: bool = False) -> Array:
    """Largest value along `axis`; NaN wins. Equal largest values share the gradient.

    >>> tg.max(tg.tensor([[1.0, 2.0], [4.0, 3.0]]), axis=1)
    Tensor([2., 4.])
    """
    return np.asarray(np.max(x, axis=axis, keepdims=keepdims))


@max.vjp
def max_vjp(ct: Tensor, y: Tensor, x: Tensor, *, axis: Axis, keepdims: bool) -> Tensor:
    return _extreme_vjp(ct, y, x, axis)


@op(cases=EXTREME, shape=reduced_nonempty)
def min(x: Distinct, axis: Axis = None, keepdims: bool = False) -> Array:
    """Smallest value along `axis`; NaN wins. Equal smallest values share the gradient.

    >>> tg.min(tg.tensor([[1.0, 2.0], [4.0, 3.0]]), axis=1)
    Tensor([1., 3.])
    """
    return np.asarray(np.min(x, axis=axis, keepdims=keepdims))


@min.vjp
def min_vjp(ct: Tensor, y: Tensor, x: Tensor, *, axis: Axis, keepdims: bool) -> Tensor:
    return _extreme_vjp(ct, y, x, axis)


@op(
    cases=[  # of few factors: differences of long products say little about their slopes
        case("(n)"),
        case("(2,n)"),
        case("(m,n)", axis=-1),
        case("(2,m,2)", axis=(0, 2)),
        case("(l,m,n)", axis=1, keepdims=True),
        case("()"),
    ],
    shape=reduced,
)
def prod(x: Real, axis: Axis = None, keepdims: bool = False) -> Array:
    """Product along `axis`. Its gradients are right where entries are zero, too.

    >>> tg.prod(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), axis=1)
    Tensor([ 2., 12.])
    """
    return np.asarray(np.prod(x, axis=axis, keepdims=keepdims))


@prod.vjp
def prod_vjp(ct: Tensor, _: None, x: Tensor, *, axis: Axis, keepdims: bool) -> Tensor:
    gone = axes_of(axis, x.ndim)
    order = (*(i for i in range(x.ndim) if i not in gone), *gone)
    moved = permute_dims(x, axes=order)
    rows = reshape(moved, shape=(math.prod(moved.shape[: x.ndim - len(gone)]), _count(x.shape, axis)))
    others = permute_dims(
        reshape(_product_of_others(rows), shape=moved.shape), axes=tuple(int(i) for i in np.argsort(order))
    )
    return _spread(ct, x, axis) * others


def _product_of_others(rows: Tensor) -> Tensor:
    """For each entry the product of all others in its row: a tree of pairs up, then down with the siblings swapped."""
    width = rows.shape[1]
    levels = [rows]
    while levels[-1].shape[1] > 1:
        level = levels[-1]
        if level.shape[1] % 2:
            level = levels[-1] = concatenate(level, np.ones((level.shape[0], 1), level.dtype), axis=1)
        levels.append(level[:, 0::2] * level[:, 1::2])
    others: Tensor = stop_gradient(levels[-1] * 0 + 1)
    for level in reversed(levels[:-1]):
        pairs = (level.shape[0], level.shape[1] // 2, 2)
        swapped = index(reshape(level, shape=pairs), key=(Ellipsis, slice(None, None, -1)))
        others = reshape(reshape(others[:, : pairs[1]], shape=(*pairs[:2], 1)) * swapped, shape=level.shape)
    return others[:, :width]


@op(
    cases=[case("(n,c)", axis=1), case("(n,c)", axis=0), case("(l,m,n)", axis=(0, 2), keepdims=True), case("(n)")],
    shape=reduced_nonempty,
)
def logsumexp(x: Real, axis: Axis = None, keepdims: bool = False) -> Array:
    """log Σ exp(x) along `axis`, without overflow for large x.

    >>> tg.logsumexp(tg.tensor([1000.0, 1000.0]))
    Tensor(1000.693)
    """
    x = signed(x)
    top = _finite_top(x, axis)
    result = top + np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True))
    return np.asarray(result if keepdims else np.squeeze(result, axes_of(axis, np.ndim(x))))


def _finite_top(x: Array, axis: Axis) -> Array:
    top = np.max(x, axis=axis, keepdims=True)
    return np.where(np.isfinite(top), top, np.zeros_like(top))


@logsumexp.vjp
def logsumexp_vjp(ct: Tensor, y: Tensor, x: Tensor, *, axis: Axis, keepdims: bool) -> Tensor:
    return _spread(ct, x, axis) * exp(x - _spread(y, x, axis))


SOFT = [case("(n,c)"), case("(n,c)", axis=0), case("(l,m,n)", axis=(0, 2)), case("(n)", axis=None)]


def _soft_shape(shape: Shape, *, axis: Axis) -> Shape:
    reduced_nonempty(shape, axis=axis)
    return same(shape)


@op(cases=SOFT, shape=_soft_shape)
def softmax(x: Real, axis: Axis = -1) -> Array:
    """exp(x) / Σ exp(x) along `axis`.

    >>> tg.softmax(tg.tensor([1000.0, 1000.0]))
    Tensor([0.5, 0.5])
    """
    x = signed(x)
    powers = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return np.asarray(powers / np.sum(powers, axis=axis, keepdims=True))


@softmax.vjp
def softmax_vjp(ct: Tensor, y: Tensor, x: Tensor, *, axis: Axis) -> Tensor:
    return y * (ct - sum(ct * y, axis=axis, keepdims=True))


@op(cases=SOFT, shape=_soft_shape)
def log_softmax(x: Real, axis: Axis = -1) -> Array:
    """x - log Σ exp(x) along `axis`, the logarithm of softmax without its underflow.

    >>> tg.log_softmax(tg.tensor([0.0, 1000.0]))
    Tensor([-1000.,     0.])
    """
    x = signed(x)
    below = x - np.max(x, axis=axis, keepdims=True)
    return np.asarray(below - np.log(np.sum(np.exp(below), axis=axis, keepdims=True)))


@log_softmax.vjp
def log_softmax_vjp(ct: Tensor, y: Tensor, x: Tensor, *, axis: Axis) -> Tensor:
    return ct - exp(y) * sum(ct, axis=axis, keepdims=True)
