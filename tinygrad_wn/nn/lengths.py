"""What optimizers want to know of weight-normalized layers: which parameters are v and which g, and how long v is."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DTypeError, StateError, ValueRangeError, ZeroNormError
from ..functions import weight_norm
from ..ops.elementwise import square
from ..ops.reductions import sum as total
from ..ops.structural import stop_gradient
from ..walk import no_grad
from .module import Module
from .weight_norm import WeightNorm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..tensor import Tensor


def parameter_groups(
    model: Module,
    weight_decay: float = 0.0,
    *,
    v: Mapping[str, Any] | None = None,
    g: Mapping[str, Any] | None = None,
    other: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Groups for an optimizer: all v with the options `v`, all g with `g`, and what is left with `other`.

    `weight_decay` is that of the weight that the layers compute with: w has length |g| whatever v is, so decay of w,
    coupled or decoupled, is decay of g alone, and v has none. An option that is given for a group wins. Groups without
    parameters are left out. Raises StateError where no layer is weight-normalized; ValueRangeError for decay where
    s = log g is the parameter; DTypeError for what is not a module.

    >>> net = tg.nn.weight_norm(tg.nn.Sequential(tg.nn.Linear(3, 2), tg.nn.Tanh(), tg.nn.Linear(2, 1)))
    >>> groups = tg.nn.parameter_groups(net, 1e-4, v={"lr": 0.1}, g={"lr": 0.01})
    >>> optimizer = tg.optim.SGD(groups, lr=0.05, momentum=0.9)
    >>> [(len(one["params"]), one["lr"], one["weight_decay"]) for one in optimizer.param_groups]
    [(2, 0.1, 0.0), (2, 0.01, 0.0001), (2, 0.05, 0.0)]
    """
    weights = _weights("parameter_groups", model)
    directions, lengths = ({id(one) for one in them} for them in zip(*((w.v, w.scale) for w in weights), strict=True))
    if weight_decay and any(w.log_scale for w in weights):
        hint = "add λ/2 · nn.squared_norm(model) to the loss: decay of s would draw g to 1, not to 0"
        raise ValueRangeError(
            "nn.parameter_groups: decay of w is no decay of s", {"weight_decay": weight_decay}, hint=hint
        )
    parameters = model.parameters()
    groups = [
        {"params": [p for p in parameters if id(p) in directions], "weight_decay": 0.0, **(v or {})},
        {"params": [p for p in parameters if id(p) in lengths], "weight_decay": weight_decay, **(g or {})},
        {"params": [p for p in parameters if id(p) not in directions | lengths], **(other or {})},
    ]
    return [group for group in groups if group["params"]]


def retract(model: Module, length: float = 1.0) -> None:
    """Give each slice of every v the norm `length`, and leave w as it is, to rounding: v ← length · v/‖v‖.

    Steps make v longer (section 2 of arXiv 1602.07868), and a longer v turns less by the same step. Called after each
    step of the optimizer, in compiled steps as well, this keeps ‖v‖, and with it the effective learning rate. Raises,
    before anything is changed: ZeroNormError for a slice of v that is zero (it stays zero where the layer's `zero` is
    not "raise"), ValueRangeError for a length that is not above 0 and finite, StateError where no layer is
    weight-normalized.

    >>> layer = tg.nn.weight_norm(tg.nn.Linear(2, 1, bias=False))
    >>> layer.weight.v.data = [[3.0, 4.0]]
    >>> tg.nn.retract(layer)
    >>> layer.weight.v
    Tensor([[0.6, 0.8]], requires_grad=True)
    """
    if not (isinstance(length, Real) and 0 < length < math.inf):
        raise ValueRangeError("nn.retract: length must be above 0 and finite", {"given": repr(length)})
    for dtype in {w.v.dtype for w in _weights("retract", model)}:
        if not float(np.finfo(dtype).tiny) <= length <= float(np.finfo(dtype).max):
            facts = {"given": repr(length), "dtype of v": dtype}
            raise ValueRangeError("nn.retract: v cannot have this length in its dtype", facts, hint="1.0 suits all")
    with no_grad():
        new = []
        for w in _weights("retract", model):
            lengths = np.full(w.scale.shape, length, w.v.dtype)
            try:
                new.append((w.v, weight_norm(w.v, lengths, w.axis, zero="raise" if w.zero == "raise" else "zero")))
            except ZeroNormError as error:
                model.locate(error)
                raise
    for v, values in new:
        stop_gradient.into((v,), values)


def squared_norm(model: Module) -> Tensor:
    """Σ g² of all weight-normalized layers, which is Σ‖w‖²: for a penalty λ/2 · squared_norm(model) in the loss.

    A slice of v with norm 0 counts with its g, where `zero` allows it. The gradient is that of weight_decay=λ in
    `parameter_groups`. Raises StateError where no layer is weight-normalized.

    >>> layer = tg.nn.weight_norm(tg.nn.Linear(2, 1, bias=False))
    >>> layer.weight.g.data = [[5.0]]
    >>> tg.nn.squared_norm(layer).detach()
    Tensor(25.)
    """
    first, *more = [total(square(w.g)) for w in _weights("squared_norm", model)]
    for one in more:
        first = first + one
    return first


def _weights(name: str, model: Module) -> list[WeightNorm]:
    if not isinstance(model, Module):
        raise DTypeError(f"nn.{name}: not a module", {"given": repr(model)})
    found = [part for _, part in model.named_modules() if isinstance(part, WeightNorm)]
    if not found:
        raise StateError(f"nn.{name}: no layer is weight-normalized", hint="nn.weight_norm(model), first")
    return found
