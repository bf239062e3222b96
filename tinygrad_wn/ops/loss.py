"""Losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import kernels
from ..domains import Array, Integer, Positive, Real, Shape, signed
from ..errors import ValueRangeError
from ..op import case, op
from ..shapes import Misfit
from .comparison import equal
from .reductions import log_softmax, softmax, sum as total
from .structural import HERE, index, reshape, scatter, stop_gradient

if TYPE_CHECKING:
    from ..tensor import Tensor


def _reduced(rows: Shape, reduction: str) -> Shape:
    if reduction not in ("mean", "sum", "none"):
        raise Misfit(f"reduction must be 'mean', 'sum' or 'none', not {reduction!r}")
    return rows if reduction == "none" else ()


def _loss_shape(logits: Shape, target: Shape, weight: Shape | None, *, reduction: str) -> Shape:
    if len(logits) not in (1, 2) or not logits[-1]:
        raise Misfit("logits must be (n, classes) or (classes,)")
    if target != logits[:-1]:
        raise Misfit("target must have one class for each row of logits")
    if weight is not None and weight != logits[-1:]:
        raise Misfit("weight must have one value for each class")
    return _reduced(target, reduction)


@op(
    cases=[
        case("(n,c),(n):c"),
        case("(n,c),(n):c,(c)", reduction="mean"),
        case("(n,c),(n):c,(c)", reduction="sum"),
        case("(n,c),(n):c,(c)", reduction="none"),
        case("(c),():c", reduction="sum"),
    ],
    shape=_loss_shape,
    kernel=kernels.cross_entropy,
)
def cross_entropy(logits: Real, target: Integer, weight: Positive = None, reduction: str = "mean") -> Array:
    """-log softmax(logits)[target] for each row: logits (n, classes), integer target (n,); rows are weighted by class.

    The mean divides by the sum of the rows' weights, as in PyTorch. Raises ValueRangeError for a class not there.

    >>> tg.cross_entropy(tg.tensor([[0.0, 0.0], [0.0, 1000.0]]), tg.tensor([0, 1]), reduction="none")
    Tensor([0.69315, 0.     ])
    """
    _check_classes(target, np.shape(logits)[-1])
    dtype = _dtype(logits, weight)
    powers, below = _below(logits)
    picked = np.take_along_axis(below, np.expand_dims(target, -1), axis=-1)[..., 0]
    top = np.argmax(below, axis=-1, keepdims=True)
    np.put_along_axis(powers, top, np.take_along_axis(below, top, axis=-1), axis=-1)  # 0, or NaN
    losses = np.log1p(np.sum(powers, axis=-1)) - picked
    shares = np.ones_like(losses) if weight is None else np.asarray(weight, np.float64)[target]
    found = losses * shares if reduction == "none" else np.sum(losses * shares)
    return np.asarray(np.true_divide(found, np.sum(shares)) if reduction == "mean" else found, dtype)


def _dtype(*given: Any) -> Any:
    return np.result_type(*(x for x in given if x is not None), np.float32)


def _check_classes(target: Array, classes: int) -> None:
    wrong = (target < 0) | (target >= classes)
    if np.any(wrong):
        row = int(np.argmax(wrong))
        facts = {"row": row, "class": int(np.ravel(target)[row]), "classes": f"0 to {classes - 1}"}
        raise ValueRangeError("cross_entropy: target names a class that logits do not have", facts)


def _below(logits: Array) -> tuple[Array, Array]:
    """exp(x - top) and x - top, with the largest of each row for its top."""
    x = np.asarray(logits, _dtype(logits))
    below = (x - np.max(x, axis=-1, keepdims=True)).astype(np.float64)
    return np.exp(below), below


@cross_entropy.vjp
def cross_entropy_vjp(
    ct: Tensor, y: Tensor, logits: Tensor, target: Tensor, weight: Tensor | None, *, reduction: str
) -> Any:
    target = stop_gradient(target)

    def to_weight() -> Tensor:
        losses = -total(log_softmax(logits, axis=-1) * _here(target, logits), axis=-1)
        return _to_weight(ct, losses, y, weight, target, reduction)

    return lambda: cross_entropy_pullback(ct, logits, target, weight, reduction=reduction), None, to_weight


def _here(target: Tensor, logits: Tensor) -> Tensor:
    """Whether a class is the target."""
    return equal(reshape(target, shape=(*target.shape, 1)), np.arange(logits.shape[-1]))


def _to_weight(ct: Tensor, each: Tensor, mean: Tensor, weight: Any, target: Tensor, reduction: str) -> Tensor:
    """The cotangent of class weights from that of the sum, the mean, or each of the weighted numbers of the rows."""
    if reduction == "mean":
        ct, each = ct / total(index(weight, target, key=(HERE,))), each - mean
    return scatter(ct * each, target, key=(HERE,), shape=weight.shape)


def _pullback_shape(ct: Shape, logits: Shape, target: Shape, weight: Shape | None = None, *, reduction: str) -> Shape:
    if ct != (loss := _loss_shape(logits, target, weight, reduction=reduction)):
        raise Misfit(f"the cotangent must have the shape of the loss, {list(loss)}")
    return logits


@op(
    cases=[
        case("(),(n,c),(n):c"),
        case("(),(n,c),(n):c,(c)", reduction="mean"),
        case("(),(n,c),(n):c,(c)", reduction="sum"),
        case("(n),(n,c),(n):c,(c)", reduction="none"),
        case("(),(c),():c", reduction="sum"),
    ],
    shape=_pullback_shape,
    kernel=kernels.cross_entropy_pullback,
)
def cross_entropy_pullback(
    ct: Real, logits: Real, target: Integer, weight: Positive = None, reduction: str = "mean"
) -> Array:
    """The cotangent of `cross_entropy`'s logits: for each row, softmax(logits) less 1 at the target, times its share.

    >>> from tinygrad_wn.ops.loss import cross_entropy_pullback
    >>> cross_entropy_pullback(np.float32(1), tg.tensor([[0.0, 0.0], [0.0, 1000.0]]), tg.tensor([0, 1]))
    Tensor([[-0.25,  0.25],
            [ 0.  ,  0.  ]])
    """
    _check_classes(target, np.shape(logits)[-1])
    dtype = _dtype(logits, weight, ct)
    powers, _ = _below(logits)
    place = np.expand_dims(target, -1)
    own = np.take_along_axis(powers, place, axis=-1)
    np.put_along_axis(powers, place, 0, axis=-1)
    others = np.sum(powers, axis=-1, keepdims=True)
    np.put_along_axis(powers, place, -others, axis=-1)
    shares = np.ones(np.shape(target)) if weight is None else np.asarray(weight, np.float64)[target]
    parts = np.sum(shares) if reduction == "mean" else 1.0
    return np.asarray(np.expand_dims(np.true_divide(ct, parts) * shares, -1) / (own + others) * powers, dtype)


@cross_entropy_pullback.vjp
def cross_entropy_pullback_vjp(
    a: Tensor, _: None, ct: Tensor, logits: Tensor, target: Tensor, weight: Tensor | None, *, reduction: str
) -> Any:
    """With p = softmax(logits), differentiate Σ share·slope, where slope = Σ a·(p - [class is target]) in each row."""
    target = stop_gradient(target)
    p = softmax(logits, axis=-1)
    slope = total(a * (p - _here(target, logits)), axis=-1)
    ones = np.ones(target.shape, logits.dtype)
    each = stop_gradient(ones) if weight is None else index(weight, target, key=(HERE,))
    share = each / total(each) if reduction == "mean" else each

    def to_logits() -> Tensor:
        return reshape(ct * share, shape=(*target.shape, 1)) * p * (a - total(a * p, axis=-1, keepdims=True))

    return (
        lambda: share * slope,
        to_logits,
        None,
        lambda: _to_weight(ct, slope, total(share * slope), weight, target, reduction),
    )


def _mse_shape(x: Shape, target: Shape, *, reduction: str) -> Shape:
    if x != target:
        raise Misfit("x and target must have the same shape", "broadcast on purpose with tg.broadcast_to")
    return _reduced(x, reduction)


@op(
    cases=[case("(m,n),(m,n)"), case("(m,n),(m,n)", reduction="sum"), case("(n),(n)", reduction="none")],
    shape=_mse_shape,
)
def mse(x: Real, target: Real, reduction: str = "mean") -> Array:
    """(x - target)², as mean, sum, or for each entry.

    >>> tg.mse(tg.tensor([1.0, 2.0]), tg.tensor([1.0, 4.0]))
    Tensor(2.)
    """
    squares = np.square(np.subtract(signed(x), signed(target)))
    if reduction == "none":
        return np.asarray(squares)
    return np.asarray(np.sum(squares) if reduction == "sum" else np.true_divide(np.sum(squares), np.size(x)))


@mse.vjp
def mse_vjp(ct: Tensor, _: None, x: Tensor, target: Tensor, *, reduction: str) -> Any:
    slope = ct * (x - target) * 2
    if reduction == "mean":
        slope = slope / slope.size
    return slope, lambda: -slope
