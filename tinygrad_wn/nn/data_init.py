"""Data-dependent initialization (arXiv 1602.07868, section 3): one batch decides lengths and biases, layer by layer."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..creation import generator
from ..errors import DTypeError, ShapeError, StateError, ValueRangeError
from ..shapes import axes_of
from ..tensor import Tensor
from ..walk import no_grad
from .module import Module, state_of
from .weight_norm import WeightNorm

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..domains import Array

M = TypeVar("M", bound=Module)

ROUNDING = 16
"""A spread of fewer roundings than this is not told apart from none."""


def data_init(
    model: M, x: Any, init_scale: float = 1.0, *, std: float | None = 0.05, rng: int | np.random.Generator | None = None
) -> M:
    """Start `model` so that on the batch `x` every unit has mean 0 and standard deviation `init_scale`.

    Equations 5 and 6 of arXiv 1602.07868. Layers take their turn in the order in which `model(x)` calls them: v is
    drawn from N(0, std²) (`std=None` keeps it), t = v·x/‖v‖ has mean μ and standard deviation σ over all axes but the
    last, then g ← init_scale/σ and b ← -init_scale·μ/σ, before the activation; the next layer sees the result. A layer
    is any module with a `weight` (out, in, …) whose output has `out` units on its last axis. Without weight
    normalization the weight itself is scaled; without a bias only σ is set. The tensors stay the same, so optimizers
    and compiled steps still have them. `rng` is a seed, a Generator, or None for the package's. Dropout and batch
    normalization act as in the mode that the model is in.

    Returns `model`. In float64 each mean is within 1e-10 of 0 and each σ within 1e-10 of `init_scale`, relatively,
    where |μ|/σ ≤ 1e4 and sums of x·w do not cancel more than that. Raises, and changes nothing: ValueRangeError for a
    unit that is the same for every row, or not finite, and for options out of range; StateError for a layer that is
    called twice or never, for layers that share a weight, and for one that is not x·wᵀ + b; ShapeError where units do
    not have one g each.

    >>> net = tg.nn.weight_norm(tg.nn.Sequential(tg.nn.Linear(3, 4), tg.nn.ReLU(), tg.nn.Linear(4, 2)))
    >>> x = tg.randn((100, 3), rng=0) + 5
    >>> y = tg.nn.data_init(net, x, rng=0)(x).detach()
    >>> bool(tg.all(abs(tg.mean(y, axis=0)) < 1e-5)), bool(tg.all(abs(tg.var(y, axis=0) - 1) < 1e-5))
    (True, True)
    """
    if not isinstance(model, Module):
        raise DTypeError("nn.data_init: not a module", {"given": repr(model)}, hint="give the model first, then x")
    for name, value in {"init_scale": init_scale, "std": std}.items():
        if not (name == "std" and value is None) and not (isinstance(value, Real) and 0 < value < math.inf):
            raise ValueRangeError(f"nn.data_init: {name} must be above 0 and finite", {"given": repr(value)})
    layers = _layers(model)
    before = [(t, t.numpy().copy()) for t in state_of(model).values() if t._node is None]
    own = [(layer, "forward" in vars(layer), layer.forward) for _, layer in layers]
    called: list[str] = []
    random = generator(rng)
    try:
        for (path, layer), (_, _, forward) in zip(layers, own, strict=True):
            vars(layer)["forward"] = _starting(path, layer, forward, called, (init_scale, std, random))
        with no_grad(), np.errstate(all="ignore"):
            model(x)
        _check_called([repr(path) for path, _ in layers if path not in called])
    except BaseException:
        for tensor, values in before:
            tensor.data = values
        raise
    finally:
        for layer, had, forward in own:
            vars(layer).pop("forward")
            if had:
                vars(layer)["forward"] = forward
    return model


def _layers(model: Module) -> list[tuple[str, Module]]:
    """Paths and layers to start; what cannot be started is refused."""
    found: list[tuple[str, Module]] = []
    owners: dict[int, str] = {}
    for path, layer in model.named_modules():
        weight, bias = (vars(layer).get(name) for name in ("weight", "bias"))
        v = weight.v if isinstance(weight, WeightNorm) else weight
        if not isinstance(v, Tensor) or v.ndim < 2:
            continue
        where, facts = f"nn.data_init: layer {path!r}", {"weight": f"{v.dtype} {list(v.shape)}"}
        if isinstance(weight, WeightNorm) and (weight.axis is None or axes_of(weight.axis, v.ndim) != (0,)):
            hint = "nn.weight_norm(model, axis=0) gives one g to each unit"
            raise ShapeError(f"{where} does not have one g for each unit", facts | {"axis": weight.axis}, hint=hint)
        if v._node is not None or isinstance(bias, WeightNorm):
            what = "its weight is computed" if v._node is not None else "its bias is weight-normalized"
            raise StateError(f"{where} cannot be started: {what}", facts, hint="start first, then change the layer")
        if isinstance(bias, Tensor) and bias.shape != v.shape[:1]:
            raise ShapeError(f"{where}: bias must have one value for each unit", facts | {"bias": list(bias.shape)})
        for part in (v, bias):
            other = owners.setdefault(id(part), path) if part is not None else path
            if other != path:
                hint = "tie them afterwards, or start one of them by hand: one tensor cannot suit two layers"
                raise StateError(f"nn.data_init: layers {other!r} and {path!r} share a tensor", facts, hint=hint)
        found.append((path, layer))
    if not found:
        what = "nn.data_init: no layer has a weight (out, in, ...)"
        raise StateError(what, {"model": type(model).__name__}, hint="nn.Linear is such a layer")
    return found


def _starting(
    path: str, layer: Any, forward: Callable[..., Any], called: list[str], options: tuple[Any, ...]
) -> Callable[..., Any]:
    """The forward of a layer that starts it, then computes with what it got."""
    init_scale, std, random = options
    where = f"nn.data_init: layer {path!r}"
    weight, bias = vars(layer)["weight"], vars(layer).get("bias")
    v = weight.v if isinstance(weight, WeightNorm) else weight

    def start(*args: Any, **kwargs: Any) -> Any:
        if path in called:
            hint = "one length cannot suit two inputs: give each call a layer of its own, or start this one by hand"
            raise StateError(f"{where} is called twice", hint=hint)
        called.append(path)
        if std is not None:
            v.data = random.normal(0, std, v.shape)
        if isinstance(weight, WeightNorm):
            weight.stretch(np.ones(weight.scale.shape))
        if bias is not None:
            bias.data = np.zeros(bias.shape)
        t = _units(where, forward(*args, **kwargs), v)
        mean, spread = _moments(t)
        noise = _noise(v, weight, args)
        _check_spread(where, t, mean, spread, noise)
        scale = init_scale / spread
        if not np.isfinite(scale.astype(v.dtype)).all():
            raise ValueRangeError(f"{where}: 1/σ is not finite in {v.dtype}", {"smallest σ": spread.min()})
        column = scale.reshape(-1, *[1] * (v.ndim - 1))
        if isinstance(weight, WeightNorm):
            weight.stretch(column)
        else:
            v.data = v.numpy() * column
        if bias is not None:
            bias.data = -mean * scale
        y = forward(*args, **kwargs)
        left, new_spread = _moments(_units(where, y, v))
        off = np.abs(new_spread - init_scale) + (0 if bias is None else np.abs(left))
        _check_follows(where, off, init_scale * (1e-3 + 8 * noise / spread))
        if bias is None:
            return y
        bias.data = bias.numpy() - left  # what rounding left: of terms much larger than σ, summed over many rows
        return forward(*args, **kwargs)

    return start


def _check_follows(where: str, off: Array, most: Array) -> None:
    if np.any(off > most):
        what = f"{where} is not x·wᵀ + b: it does not follow its g and b"
        raise StateError(what, {"off by": off.max()}, hint="put its activation into a layer that follows")


def _check_called(missed: list[str]) -> None:
    if missed:
        hint = "give nn.data_init the part of the model that is called"
        raise StateError("nn.data_init: the model did not call all its layers", {"left": ", ".join(missed)}, hint=hint)


def _units(where: str, y: Any, v: Tensor) -> Array:
    """The outputs of a layer, a row for each case and a column for each unit, in float64."""
    if not isinstance(y, Tensor) or y.ndim < 1 or y.shape[-1] != v.shape[0]:
        facts = {"weight": list(v.shape), "output": list(y.shape) if isinstance(y, Tensor) else repr(y)}
        raise ShapeError(f"{where}: its output must have the units of its weight on the last axis", facts)
    return y.numpy().astype(np.float64).reshape(-1, v.shape[0])


def _moments(t: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of each column: over the batch as it is, so divided by n."""
    if not len(t):
        return np.zeros(t.shape[1]), np.zeros(t.shape[1])
    _, k = np.frexp(np.max(np.abs(t), axis=0))  # powers of two change no bit, and squares neither vanish nor overflow
    scaled = np.ldexp(t, -k)
    mean = scaled.mean(axis=0)
    return np.ldexp(mean, k), np.ldexp(np.sqrt(np.square(scaled - mean).mean(axis=0)), k)


def _noise(v: Tensor, weight: Any, args: tuple[Any, ...]) -> Array:
    """What rounding may do to each unit: ε‖w‖‖x‖, with the largest entry of x for all."""
    values = [a.numpy() if isinstance(a, Tensor) else np.asarray(a) for a in args[:1]]
    top = max((float(np.max(np.abs(a), initial=0)) for a in values), default=0.0)
    rows = v.numpy().reshape(v.shape[0], -1).astype(np.float64)
    length = np.ones(len(rows)) if isinstance(weight, WeightNorm) else np.linalg.norm(rows, axis=1)
    return float(np.finfo(v.dtype).eps) * length * top * math.sqrt(rows.shape[1])


def _check_spread(where: str, t: Array, mean: Array, spread: Array, noise: Array) -> None:
    facts: dict[str, object] = {"rows": len(t)}
    if not (np.isfinite(mean) & np.isfinite(spread)).all():
        raise ValueRangeError(f"{where} gives what is not finite", facts, hint="look for NaN and huge values in x")
    same = np.flatnonzero(spread <= ROUNDING * noise)
    if same.size:
        facts["units"] = ", ".join(map(str, same[:8])) + (f" and {same.size - 8} more" if same.size > 8 else "")
        hint = "give a batch of rows that differ, centred if they differ little; or draw again with another rng"
        raise ValueRangeError(f"{where}: σ = 0, a unit is the same for every row", facts, hint=hint)
