"""Batch normalization as ops: what a batch says of itself is taken away, over all axes but those that `axis` keeps.

Sums and differences run in float64 and are rounded once, so that a large mean takes nothing from what stands out of it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..domains import Array, Axis, Integer, Positive, Real, Shape, float_of
from ..op import case, op
from ..shapes import Misfit, other_axes
from .elementwise import sqrt
from .reductions import sum as total, var
from .structural import astype

if TYPE_CHECKING:
    from ..tensor import Tensor

FLOAT64 = np.float64
ALONG = [
    case("(m,n)", axis=1),
    case("(m,n)", axis=0),
    case("(l,m,n)", axis=1),
    case("(l,m,n)", axis=(0, -1)),
    case("(n)", axis=None),
]


def _count(shape: Shape, axis: Axis) -> int:
    return math.prod(shape[i] for i in other_axes(axis, len(shape)))


def _mean(x: Array, axis: Axis) -> Array:
    """The mean in float64; axes stay with size 1."""
    return np.asarray(np.sum(x, axis=other_axes(axis, x.ndim), keepdims=True) / np.float64(_count(x.shape, axis)))


def _like(x: Shape, *, axis: Axis, **_: Any) -> Shape:
    other_axes(axis, len(x))
    return x


@op(cases=ALONG, shape=_like)
def center(x: Real, axis: Axis = 1) -> Array:
    """x - mean(x): t - μ[t], the heart of equation 7 of arXiv 1602.07868. `axis` keeps its own mean.

    >>> from tinygrad_wn.ops.batch import center
    >>> center(tg.tensor([[1.0, 10.0], [3.0, 30.0]]))
    Tensor([[ -1., -10.],
            [  1.,  10.]])
    """
    wide = np.asarray(x, FLOAT64)
    return np.asarray(wide - _mean(wide, axis), float_of(x))


@center.vjp
def center_vjp(ct: Tensor, _: None, x: Tensor, *, axis: Axis) -> Tensor:
    """Equation 8: ∇t - μ[∇t], the same map, since it is symmetric."""
    return center(ct, axis=axis)


def _standard(x: Any, axis: Axis, eps: float) -> tuple[Array, Array]:
    """The standardized values, and 1/√(σ² + eps), in float64."""
    away = np.asarray(x, FLOAT64)
    away = away - _mean(away, axis)
    rate = 1 / np.sqrt(_mean(away * away, axis) + eps)
    return away * rate, rate


@op(cases=[case(one.shapes, **one.params, eps=0.1) for one in ALONG], shape=_like)
def standardize(x: Real, axis: Axis = 1, eps: float = 1e-5) -> Array:
    """(x - mean(x)) / √(var(x) + eps), the heart of batch normalization (arXiv 1502.03167, algorithm 1).

    `axis` keeps its own mean and variance, which is that of the batch as it is, divided by n.

    >>> from tinygrad_wn.ops.batch import standardize
    >>> standardize(tg.tensor([[1.0, 10.0], [3.0, 30.0]]), eps=0.0)
    Tensor([[-1., -1.],
            [ 1.,  1.]])
    """
    return np.asarray(_standard(x, axis, eps)[0], float_of(x))


@standardize.vjp
def standardize_vjp(ct: Tensor, _: None, x: Tensor, *, axis: Axis, eps: float) -> Tensor:
    return standardize_pullback(ct, x, axis=axis, eps=eps)


def _pullback_shape(ct: Shape, x: Shape, *, axis: Axis, eps: float) -> Shape:
    if ct != x:
        raise Misfit("the cotangent must have the shape of x")
    return _like(x, axis=axis)


@op(
    cases=[case(f"{one.shapes},{one.shapes}", **one.params, eps=0.1) for one in ALONG],
    shape=_pullback_shape,
)
def standardize_pullback(ct: Real, x: Real, axis: Axis = 1, eps: float = 1e-5) -> Array:
    """The cotangent of x in `standardize`: (ct - μ[ct] - x̂ μ[ct x̂]) / √(var + eps), with x̂ the result.

    Derived by hand: x̂ depends on x directly, by the mean, and by the variance, and each takes its part of ct away. Its
    sum over the batch is 0, and so is that of its product with x̂ where eps is 0. It is linear in ct and symmetric.

    >>> from tinygrad_wn.ops.batch import standardize_pullback
    >>> standardize_pullback(tg.tensor([[1.0], [0.0], [0.0]]), tg.tensor([[-3.0], [0.0], [3.0]]), eps=0.0)
    Tensor([[ 0.068],
            [-0.136],
            [ 0.068]])
    """
    unit, rate = _standard(x, axis, eps)
    wide = np.asarray(ct, FLOAT64)
    return np.asarray(rate * (wide - _mean(wide, axis) - unit * _mean(wide * unit, axis)), float_of(ct, x))


@standardize_pullback.vjp
def standardize_pullback_vjp(a: Tensor, _: None, ct: Tensor, x: Tensor, *, axis: Axis, eps: float) -> Any:
    """Differentiate S = ⟨a, ∇x⟩, by each kept entry, with J the pullback: J a, J ct, and σ = √(var + eps).

    σ S = ⟨a, ct⟩ - n μ[a] μ[ct] - ⟨a, x̂⟩⟨ct, x̂⟩/n, where dσ = ⟨x̂, dx⟩/n and dx̂ = J dx.
    """
    a, ct, x = (astype(t, dtype=FLOAT64) for t in (a, ct, x))
    rest, count = other_axes(axis, x.ndim), _count(x.shape, axis)
    options: dict[str, Any] = {"axis": axis, "eps": eps}

    def along(p: Tensor, q: Tensor) -> Tensor:
        return total(p * q, axis=rest, keepdims=True)

    def to_x() -> Tensor:
        unit = standardize(x, **options)
        ja, jct = standardize_pullback(a, x, **options), standardize_pullback(ct, x, **options)
        length = sqrt(var(x, axis=rest, keepdims=True) + eps) * -count
        return (along(a, jct) * unit + along(ct, unit) * ja + along(a, unit) * jct) / length

    return lambda: standardize_pullback(a, x, **options), to_x


def _running(
    count: Shape, x: Shape, mean: Shape, var: Shape | None = None, *, axis: int, momentum: float | None
) -> tuple[Shape, ...]:
    if count:
        raise Misfit("count must be one number")
    other_axes(axis, len(x))
    if mean != (x[axis],) or var not in (None, mean):
        raise Misfit(f"running values must have shape {[x[axis]]}, one for each entry of x along the axis")
    return (count, mean) if var is None else (count, mean, var)


@op(
    cases=[
        case("():4,(3,n),(n),(n)", axis=1, momentum=0.1),
        case("():4,(3,n),(n)", axis=1, momentum=None),
        case("():m,(2,n,m),(n),(n)", axis=1, momentum=None),
    ],
    shape=_running,
    gradient=False,
    inplace=True,
)
def running_update(
    count: Integer, x: Real, mean: Real, var: Positive = None, axis: int = 1, momentum: float | None = 0.1
) -> tuple[Array, ...]:
    """The running mean and variance after one more batch x: r ← (1 - momentum) r + momentum (that of the batch).

    As in PyTorch, the variance is the unbiased one, divided by n - 1, and `momentum=None` gives the mean over all
    batches, of which there were `count`. Gives count + 1, the mean, and the variance where there is one.

    >>> from tinygrad_wn.ops.batch import running_update
    >>> running_update(0, tg.tensor([[1.0], [3.0]]), tg.zeros(1), tg.ones(1), momentum=0.5)
    (Tensor(1), Tensor([1.]), Tensor([1.5]))
    """
    wide = np.asarray(x, FLOAT64)
    found = [_mean(wide, axis)]
    if var is not None:
        away, n = wide - found[0], _count(wide.shape, axis)
        found.append(_mean(away * away, axis) * (n / np.float64(n - 1)))
    number = np.asarray(count) + 1
    share = 1 / number if momentum is None else momentum
    new = [
        np.asarray((1 - share) * old + share * one.reshape(-1), float_of(old))
        for old, one in zip((mean, var), found, strict=False)
    ]
    return (np.asarray(number), *new)
