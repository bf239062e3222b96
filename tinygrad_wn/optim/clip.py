"""Gradients of bounded length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import GradientError, ValueRangeError
from ..ops.norm import vector_norm
from ..tensor import tensor
from .optimizer import check_gradient, listed

if TYPE_CHECKING:
    from collections.abc import Iterable


def clip_grad_norm(params: Iterable[Any], max_norm: float) -> float:
    """Shrink all gradients by one factor, so that their norm together is at most `max_norm`; return the norm before.

    Norm and factor are computed in float64. Each `.grad` is replaced by a new tensor, without a graph; nothing changes
    where the norm is at most `max_norm` (Pascanu et al. 2013, arXiv 1211.5063, algorithm 1). None counts as zero.

    Raises, before anything is changed: ValueRangeError unless max_norm > 0; GradientError where a gradient is not
    finite; DTypeError or ShapeError for one that does not fit; for parameters, what an optimizer raises.

    >>> w = tg.tensor([0.0, 0.0], requires_grad=True)
    >>> w.grad = tg.tensor([6.0, 8.0])
    >>> tg.optim.clip_grad_norm([w], 5.0), w.grad
    (10.0, Tensor([3., 4.]))
    """
    if not max_norm > 0:
        raise ValueRangeError("clip_grad_norm: max_norm must be above 0", {"given": repr(max_norm)})
    with_gradient = [p for p in listed(params, "clip_grad_norm") if p.grad is not None]
    for i, p in enumerate(with_gradient):
        check_gradient(f"clip_grad_norm: parameter {i} of those with a gradient", p, p.grad)
    wide = [p.grad.numpy().astype(np.float64) for p in with_gradient if p.grad is not None]
    total = vector_norm(np.array([vector_norm(g).item() for g in wide])).item() if wide else 0.0
    if not np.isfinite(total):
        hint = "look for a loss that is NaN or infinite, or take a smaller learning rate"
        raise GradientError("clip_grad_norm: the norm of the gradients is not finite", {"norm": total}, hint=hint)
    if total > max_norm:
        for p, g in zip(with_gradient, wide, strict=True):
            p.grad = tensor(g / total * max_norm, p.dtype)
    return float(total)
