"""Losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..domains import Array, Integer, Positive, Real, Shape
from ..errors import ValueRangeError
from ..op import case, op
from ..shapes import Misfit
from .comparison import equal
from .reductions import log_softmax, softmax, sum as total
from .structural import broadcast_to, index, reshape, scatter, stop_gradient

if TYPE_CHECKING:
    from ..tensor import Tensor

HERE = "array"


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
)
def cross_entropy(logits: Real, target: Integer, weight: Positive = None, reduction: str = "mean") -> Array:
    """-log softmax(logits)[target] for each row: logits (n, classes), integer target (n,); rows are weighted by class.

    The mean divides by the sum of the rows' weights, as in PyTorch. Raises ValueRangeError for a class not there.

    >>> tg.cross_entropy(tg.tensor([[0.0, 0.0], [0.0, 1000.0]]), tg.tensor([0, 1]), reduction="none")
    Tensor([0.69315, 0.     ])
    """
    classes = np.shape(logits)[-1]
    wrong = (target < 0) | (target >= classes)
    if np.any(wrong):
        row = int(np.argmax(wrong))
        facts = {"row": row, "class": int(np.ravel(target)[row]), "classes": f"0 to {classes - 1}"}
        raise ValueRangeError("cross_entropy: target names a class that logits do not have", facts)
    below = logits - np.max(logits, axis=-1, keepdims=True)
    picked = np.take_along_axis(below, np.expand_dims(target, -1), axis=-1)[..., 0]
    losses = np.log(np.sum(np.exp(below), axis=-1)) - picked
    weighted = losses if weight is None else losses * weight[target]
    if reduction == "none":
        return np.asarray(weighted)
    parts = np.size(target) if weight is None else np.sum(weight[target])
    return np.asarray(np.sum(weighted) if reduction == "sum" else np.true_divide(np.sum(weighted), parts))


@cross_entropy.vjp
def cross_entropy_vjp(
    ct: Tensor, y: Tensor, logits: Tensor, target: Tensor, weight: Tensor | None, *, reduction: str
) -> Any:
    classes, target = logits.shape[-1], stop_gradient(target)
    each = None if weight is None else index(weight, target, key=(HERE,))
    if reduction == "mean":
        ct = ct / (target.size if each is None else total(each))
    share = ct if each is None else ct * each
    here = equal(reshape(target, shape=(*target.shape, 1)), np.arange(classes))

    def to_logits() -> Tensor:
        rows = share if share.shape == target.shape else broadcast_to(share, shape=target.shape)
        return (softmax(logits, axis=-1) - here) * reshape(rows, shape=(*target.shape, 1))

    def to_weight() -> Tensor:
        losses = -total(log_softmax(logits, axis=-1) * here, axis=-1)
        return scatter(ct * (losses - y if reduction == "mean" else losses), target, key=(HERE,), shape=(classes,))

    return to_logits, None, to_weight


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
    squares = np.square(np.subtract(x, target))
    if reduction == "none":
        return np.asarray(squares)
    return np.asarray(np.sum(squares) if reduction == "sum" else np.true_divide(np.sum(squares), np.size(x)))


@mse.vjp
def mse_vjp(ct: Tensor, _: None, x: Tensor, target: Tensor, *, reduction: str) -> Any:
    slope = ct * (x - target) * 2
    if reduction == "mean":
        slope = slope / slope.size
    return slope, lambda: -slope
