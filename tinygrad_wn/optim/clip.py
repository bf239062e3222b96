"""Gradients of bounded length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..creation import zeros
from ..errors import ValueRangeError
from ..functions import stack
from ..ops.arithmetic import where
from ..ops.comparison import greater
from ..ops.norm import vector_norm
from ..ops.structural import astype
from ..ops.update import finite
from ..slot import slot, takes_gradient
from .optimizer import check_gradient, listed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..tensor import Tensor


def clip_grad_norm(params: Iterable[Any], max_norm: float) -> Tensor:
    """Shrink all gradients by one factor, so that their norm together is at most `max_norm`; return the norm before.

    Norm and factor are computed in float64. Each `.grad` is replaced by a new tensor, without a graph; nothing changes
    where the norm is at most `max_norm` (Pascanu et al. 2013, arXiv 1211.5063, algorithm 1). None counts as zero.

    Raises, before anything is changed: ValueRangeError unless max_norm > 0; GradientError where a gradient is not
    finite; DTypeError or ShapeError for one that does not fit; for parameters, what an optimizer raises.

    >>> w = tg.tensor([0.0, 0.0], requires_grad=True)
    >>> w.grad = tg.tensor([6.0, 8.0])
    >>> tg.optim.clip_grad_norm([w], 5.0), w.grad
    (Tensor(10., dtype=float64), Tensor([3., 4.]))
    """
    if not max_norm > 0:
        raise ValueRangeError("clip_grad_norm: max_norm must be above 0", {"given": repr(max_norm)})
    with_gradient = [p for p in listed(params, "clip_grad_norm") if p.grad is not None]
    for i, p in enumerate(with_gradient):
        check_gradient(f"clip_grad_norm: parameter {i} of those with a gradient", p, p.grad)
        takes_gradient(p.grad)
    wide = [astype(p.grad.detach(), "float64") for p in with_gradient if p.grad is not None]
    total = finite(vector_norm(stack([vector_norm(g) for g in wide]))) if wide else zeros((), "float64")
    if slot.over.get() is None and total.item() <= max_norm:
        return total
    for p, g in zip(with_gradient, wide, strict=True):
        p.grad = astype(where(greater(total, max_norm), g / total * max_norm, g), p.dtype)
    return total
