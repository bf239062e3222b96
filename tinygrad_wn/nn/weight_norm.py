"""Weight normalization of layers (arXiv 1602.07868): a parameter becomes a module that computes w = g v / ‖v‖."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..creation import tensor
from ..errors import DTypeError, GradientError, ShapeError, StateError, TinygradWNError, ValueRangeError, zero_norm
from ..functions import check_zero, weight_norm as normalized
from ..ops import norm
from ..ops.elementwise import exp
from ..shapes import Misfit, other_axes
from ..slot import replaced
from ..tensor import Tensor
from ..walk import no_grad
from .module import Module

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..domains import Array, Axis

M = TypeVar("M", bound=Module)


class WeightNorm(Module):
    """A weight of direction `v` and length `g`: calling it gives `tg.weight_norm(v, g, axis)`.

    `v` and `g` are tensors, or arrays that become parameters; `axis` keeps its own g, so for v (out, in) and axis=0
    g is (out, 1). With `log_scale` the parameter is s = log g, and g = e^s is computed from it, which keeps g above 0
    (section 2 of arXiv 1602.07868); `scale` is the one that there is. `zero` is what the call does where a slice of v
    is zero: "raise" a ZeroNormError, or take "zero" or "nan" for w and all derivatives there. Raises ShapeError for
    another shape of g, ValueRangeError for another `zero`, and with `log_scale` for a g that is not above 0.

    >>> weight = tg.nn.WeightNorm([[3.0, 4.0]], [[10.0]])
    >>> weight().detach()
    Tensor([[6., 8.]])
    >>> tg.nn.WeightNorm([[0.0, 0.0]], [[10.0]], zero="zero")().detach()
    Tensor([[0., 0.]])
    """

    has_weights = False

    def __init__(self, v: Any, g: Any, axis: Axis = 0, *, log_scale: bool = False, zero: str = "raise") -> None:
        check_zero("WeightNorm", zero)
        self.v, self.scale = (x if isinstance(x, Tensor) else tensor(x, requires_grad=True) for x in (v, g))
        norm.weight_norm.result_shape([self.v.shape, self.scale.shape], {"axis": axis})
        self.axis = tuple(map(int, axis)) if isinstance(axis, tuple) else axis if axis is None else int(axis)
        self.log_scale, self.zero = bool(log_scale), str(zero)
        if self.log_scale:
            self.scale = tensor(_log(self.scale.numpy()), requires_grad=self.scale.requires_grad)

    @property
    def g(self) -> Tensor:
        """The lengths: a parameter, or computed from one."""
        return exp(self.scale) if self.log_scale else self.scale

    def stretch(self, g: Any) -> None:
        """Set the lengths; with `log_scale`, raises ValueRangeError unless they are above 0."""
        self.scale.data = _log(np.asarray(g, self.scale.dtype)) if self.log_scale else g

    def entries(self) -> Iterable[tuple[object, object]]:
        """v, and g or s."""
        return ("v", self.v), ("s" if self.log_scale else "g", self.scale)

    if not TYPE_CHECKING:  # a type checker is to find misspelt names

        def __getattr__(self, name: str) -> Any:
            """Raise AttributeError, and say how to come to the weight where a tensor has what is asked for."""
            hint = f": call it, as in layer.weight().{name}" if hasattr(Tensor, name) and name[0] != "_" else ""
            if name in ("data", "grad", "requires_grad"):
                hint = f": v and g are the parameters, as in layer.weight.v.{name}"
            raise AttributeError(f"a WeightNorm has no {name!r}{hint}", name=name, obj=self)

    def forward(self) -> Tensor:
        """The weight w = g v / ‖v‖, of the shape of v."""
        return normalized(self.v, self.g, self.axis, zero=self.zero)

    def options(self) -> dict[str, Any]:
        """The axis, whether the scale is a logarithm, and what a slice of norm 0 is; v and g are state."""
        log_scale = {"log_scale": True} if self.log_scale else {}
        return {"axis": self.axis, **log_scale, **({} if self.zero == "raise" else {"zero": self.zero})}


def effective(parameter: Any) -> Any:
    """The tensor that a layer computes with: the result of a parameter that is a module, else the parameter itself.

    A layer that uses it in `forward` can be weight-normalized.

    >>> class Scale(tg.nn.Module):
    ...     def __init__(self):
    ...         self.factor = tg.tensor([3.0, 4.0], requires_grad=True)
    ...     def forward(self, x):
    ...         return tg.nn.effective(self.factor) * x
    >>> scale = tg.nn.weight_norm(Scale(), "factor", axis=None)
    >>> scale.factor.g, scale(1.0).detach()
    (Tensor([5.], requires_grad=True), Tensor([3., 4.]))
    """
    return parameter() if isinstance(parameter, Module) else parameter


def weight_norm(
    module: M,
    name: str = "weight",
    axis: Axis = 0,
    *,
    log_scale: bool = False,
    zero: str = "raise",
    train_v: bool = True,
    train_g: bool = True,
) -> M:
    """Put a WeightNorm in the place of the tensor `name` in `module` and every layer below that has one.

    v is the weight and g its norm over all axes but `axis`, so each entry of the weight stays the same to 1 ulp (with
    `log_scale`, to the rounding of s). Both are new tensors: make the optimizer afterwards. `log_scale` keeps s = log g
    in the place of g; `zero` is what a slice of norm 0 is, "raise", "zero" or "nan", as in `tg.weight_norm`; with
    `train_v=False` or `train_g=False`, v or g is state that no optimizer is given. Returns `module`. Raises, before
    anything is changed: StateError where no layer has `name`, or one has it weight-normalized already; ZeroNormError
    for a slice of norm 0, unless `zero` allows it (and log g is never allowed to be log 0); ShapeError for an axis that
    is not there; DTypeError for integers; GradientError for a computed tensor; ValueRangeError for a norm that is not
    finite, or another `zero`.

    >>> tg.nn.weight_norm(tg.nn.Sequential(tg.nn.Linear(3, 2), tg.nn.ReLU()))
    Sequential(
      (0): Linear(
        in_features=3, out_features=2, bias=True
        (weight): WeightNorm(axis=0)
      )
      (1): ReLU()
    )
    """
    _check_module("weight_norm", module)
    check_zero("nn.weight_norm", zero)
    options = {"log_scale": log_scale, "zero": zero}
    made: dict[int, WeightNorm] = {}
    places = []
    for path, layer in module.named_modules():
        found = vars(layer).get(name)
        where = f"nn.weight_norm: {name!r} of layer {path!r}"
        if isinstance(found, WeightNorm):
            raise StateError(f"{where} is weight-normalized already", hint="nn.fold_weight_norm(module) takes it away")
        if isinstance(found, Tensor) and layer.has_weights:
            made[id(found)] = made.get(id(found)) or _split(found, axis, where, options, (train_v, train_g))
            places.append((layer, made[id(found)]))
    if not places:
        has = sorted({key for _, layer in module.named_modules() for key, x in vars(layer).items() if _is_tensor(x)})
        what = f"nn.weight_norm: no layer has a tensor {name!r}"
        hint = "name one of these tensors" if has else "give a layer with weights, or a model that has one"
        raise StateError(what, {"tensors": ", ".join(has) or "none"}, hint=hint)
    old = {id(x): x for x in (getattr(layer, name) for layer, _ in places)}
    for layer, replacement in places:
        setattr(layer, name, replacement)
    kept = {id(x) for _, layer in module.named_modules() for x in vars(layer).values()}
    replaced.update({i: x for i, x in old.items() if i not in kept})
    return module


def fold_weight_norm(module: M, name: str | None = None) -> M:
    """Put the weight that it gives in the place of every WeightNorm below `module`: the way back from `weight_norm`.

    `name` folds the parameters of that name alone, such as "weight". The weights are new parameters, equal to
    `tg.weight_norm(v, g)` bit for bit. Returns `module`. Raises, before anything is changed: StateError where there is
    no WeightNorm, or none of that name, ZeroNormError where a slice of v has become zero.

    >>> layer = tg.nn.Linear(1, 1)
    >>> tg.nn.fold_weight_norm(tg.nn.weight_norm(layer))
    Linear(in_features=1, out_features=1, bias=True)
    """
    _check_module("fold_weight_norm", module)
    made: dict[int, Tensor] = {}
    places, known = [], set()
    for path, layer in module.named_modules():
        for own, found in vars(layer).items():
            if isinstance(found, WeightNorm):
                known.add(own)
            if isinstance(found, WeightNorm) and name in (None, own):
                if id(found) not in made:
                    made[id(found)] = _joined(found, f"nn.fold_weight_norm: {own!r} of layer {path!r}")
                places.append((layer, own, made[id(found)]))
    if not places:
        if known:
            facts = {"weight-normalized": ", ".join(sorted(known))}
            raise StateError(
                f"nn.fold_weight_norm: no layer has a WeightNorm {name!r}", facts, hint="name one of these"
            )
        raise StateError("nn.fold_weight_norm: no layer is weight-normalized", hint="leave this call out")
    for layer, own, weight in places:
        for old in getattr(layer, own).parameters():
            replaced[id(old)] = old
        setattr(layer, own, weight)
    return module


def _split(weight: Tensor, axis: Axis, where: str, options: dict[str, Any], trained: tuple[bool, bool]) -> WeightNorm:
    """The WeightNorm that gives `weight`."""
    facts = {"weight": f"{weight.dtype} {list(weight.shape)}", "axis": axis}
    try:
        rest = other_axes(axis, weight.ndim)
    except Misfit as misfit:
        raise ShapeError(f"{where}: {misfit.what}", facts, hint=misfit.hint) from None
    if weight.dtype.kind != "f":
        raise DTypeError(f"{where} must be float32 or float64", facts)
    if weight._node is not None:
        raise GradientError(f"{where} is computed from other tensors", facts, hint="normalize those instead")
    g = norm.vector_norm(weight.detach(), axis=rest, keepdims=True)
    if not np.isfinite(g.numpy()).all():
        raise ValueRangeError(f"{where} has a norm that is not finite", facts, hint="look for NaN and huge entries")
    if not g.numpy().all() and (options["zero"] == "raise" or options["log_scale"]):
        raise zero_norm(where, weight, g.numpy() == 0)
    v, g = (tensor(x, requires_grad=weight.requires_grad and on) for x, on in zip((weight, g), trained, strict=True))
    return WeightNorm(v, g, axis, **options)


def _joined(found: WeightNorm, where: str) -> Tensor:
    """The weight that `found` gives, as a parameter."""
    try:
        with no_grad():
            weight = found()
    except TinygradWNError as error:
        raise type(error)(f"{where}: {error}") from None
    return tensor(weight, requires_grad=found.v.requires_grad or found.scale.requires_grad)


def _log(g: Array) -> Array:
    """s with e^s = g."""
    if not np.all(g > 0):
        hint = "turn v around for a negative g, or leave log_scale out"
        raise ValueRangeError("WeightNorm: with log_scale, g must be above 0", {"smallest g": g.min()}, hint=hint)
    return np.asarray(np.log(g), g.dtype)


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def _check_module(name: str, module: object) -> None:
    if not isinstance(module, Module):
        raise DTypeError(f"nn.{name}: not a module", {"given": repr(module)}, hint="tg.weight_norm works on tensors")
