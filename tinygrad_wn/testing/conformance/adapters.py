"""Weight normalization of this package, PyTorch, Equinox and plain JAX, as functions from NumPy arrays to NumPy arrays.

A library is imported when its adapter is asked for, and it is called the way its documentation says.
"""

from __future__ import annotations

import copy as copying
import io
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import nn
from ...errors import ValueRangeError
from ...functions import weight_norm
from ...tensor import Tensor, tensor
from ...transforms import jvp as forward_mode
from .implementation import Implementation, LibraryMissingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...domains import Array

Axis = int | None

INSTALL = {"torch": "torch==2.13.0", "equinox": "equinox", "jax": "jax==0.10.2"}


def adapter(name: str) -> Implementation:
    """The implementation of a library: "ours", "torch" (its public parametrization), "equinox" or "jax" (a formula).

    Raises ValueRangeError for another name, LibraryMissingError where the library is not installed.

    >>> from tinygrad_wn.testing import adapter
    >>> adapter("ours").weight(np.array([[3.0, 4.0]]), np.array([[10.0]]), 0)
    array([[6., 8.]])
    """
    if name not in ADAPTERS:
        raise ValueRangeError("no such library", {"given": name}, hint=f"one of {', '.join(ADAPTERS)}")
    if name in INSTALL and find_spec(name) is None:
        raise LibraryMissingError(f"{name} is not installed", hint=f"pip install '{INSTALL[name]}'")
    return ADAPTERS[name]()


def _setup(name: str) -> str:
    return f'from tinygrad_wn.testing import adapter\nwn = adapter("{name}")'


class _Layer(nn.Module):
    """A layer that is nothing but its weight."""

    def __init__(self, weight: Any) -> None:
        self.weight = weight

    def forward(self) -> Tensor:
        """The weight."""
        return nn.effective(self.weight)


def _ours(*, fused: bool = True) -> Implementation:
    """This package: `tg.weight_norm`, fused or composed, and its layers."""

    def leaves(*arrays: Array) -> tuple[Tensor, ...]:
        return tuple(tensor(x, requires_grad=True) for x in arrays)

    def made(v: Array, g: Array, axis: Axis) -> _Layer:
        return _Layer(nn.WeightNorm(v, g, axis))

    def w_of(layer: _Layer) -> Array:
        return layer().detach().numpy()

    def weight(v: Array, g: Array, axis: Axis) -> Array:
        return weight_norm(v, g, axis, fused=fused).numpy()

    def gradient(v: Array, g: Array, ct: Array, axis: Axis) -> tuple[Array, ...]:
        x, y = leaves(v, g)
        return tuple(t.numpy() for t in weight_norm(x, y, axis, fused=fused).gradient(x, y, cotangent=ct))

    def second(v: Array, g: Array, ct: Array, a: Array, b: Array, axis: Axis) -> tuple[Array, ...]:
        x, y, c = leaves(v, g, ct)
        dv, dg = weight_norm(x, y, axis, fused=fused).gradient(x, y, cotangent=c, create_graph=True)
        return tuple(t.numpy() for t in ((dv * a).sum() + (dg * b).sum()).gradient(x, y, c))

    def jvp(v: Array, g: Array, dv: Array, dg: Array, axis: Axis) -> Array:
        _, pushed = forward_mode(lambda x, y: weight_norm(x, y, axis, fused=fused), (v, g), (dv, dg))
        found: Array = pushed.numpy()
        return found

    def fold(v: Array, g: Array, axis: Axis) -> Array:
        return nn.fold_weight_norm(made(v, g, axis)).weight.numpy()

    def copy(v: Array, g: Array, other_v: Array, other_g: Array, axis: Axis) -> tuple[Array, ...]:
        layer = made(v, g, axis)
        twin = copying.deepcopy(layer)
        layer.weight.v.data, layer.weight.g.data = other_v, other_g
        return w_of(twin), w_of(layer)

    def state(v: Array, g: Array, axis: Axis) -> tuple[Array, ...]:
        layer = made(np.ones_like(v), np.ones_like(g), axis)
        layer.load_state_dict(made(v, g, axis).state_dict())
        return layer.weight.v.numpy(), layer.weight.g.numpy(), w_of(layer)

    functions = (weight, gradient, second, jvp, fold, copy, state)
    return Implementation("ours", *functions, version=version("tinygrad_wn"), setup=_setup("ours"))


def _torch() -> Implementation:
    """PyTorch: `torch.nn.utils.parametrizations.weight_norm`, whose dim is the axis; for dim=None its g has shape ()."""
    torch = import_module("torch")
    parametrize, weight_norm = torch.nn.utils.parametrize, torch.nn.utils.parametrizations.weight_norm

    def leaf(x: Array) -> Any:
        return torch.nn.Parameter(torch.as_tensor(x if min(x.strides, default=0) >= 0 else x.copy()))

    def made(v: Array, g: Array, axis: Axis) -> Any:
        layer = torch.nn.Module()
        layer.weight = leaf(v)
        pair = weight_norm(layer, dim=axis).parametrizations.weight
        pair.original0, pair.original1 = leaf(g if axis is not None else g.reshape(())), leaf(v)
        return layer

    def parts(layer: Any) -> tuple[Any, Any]:
        return layer.parametrizations.weight.original1, layer.parametrizations.weight.original0

    def arrays(*tensors: Any) -> tuple[Array, ...]:
        return tuple(t.detach().numpy() for t in tensors)

    def weight(v: Array, g: Array, axis: Axis) -> Array:
        return arrays(made(v, g, axis).weight)[0]

    def gradient(v: Array, g: Array, ct: Array, axis: Axis) -> tuple[Array, ...]:
        layer = made(v, g, axis)
        dv, dg = torch.autograd.grad(layer.weight, parts(layer), leaf(ct))
        return arrays(dv, dg if axis is not None else dg.reshape(g.shape))

    def second(v: Array, g: Array, ct: Array, a: Array, b: Array, axis: Axis) -> tuple[Array, ...]:
        layer, c = made(v, g, axis), leaf(ct)
        dv, dg = torch.autograd.grad(layer.weight, parts(layer), c, create_graph=True)
        by_v, by_g, by_ct = torch.autograd.grad((dv * leaf(a)).sum() + (dg * leaf(b)).sum(), (*parts(layer), c))
        return arrays(by_v, by_g if axis is not None else by_g.reshape(g.shape), by_ct)

    def jvp(v: Array, g: Array, dv: Array, dg: Array, axis: Axis) -> Array:
        pair = made(v, g, axis).parametrizations.weight

        def of(v: Any, g: Any) -> Any:
            return torch.func.functional_call(pair, {"original1": v, "original0": g}, ())

        shape = g.shape if axis is not None else ()
        primals, tangents = ((leaf(x).detach(), leaf(y.reshape(shape)).detach()) for x, y in ((v, g), (dv, dg)))
        return arrays(torch.func.jvp(of, primals, tangents)[1])[0]

    def fold(v: Array, g: Array, axis: Axis) -> Array:
        return arrays(parametrize.remove_parametrizations(made(v, g, axis), "weight").weight)[0]

    def copy(v: Array, g: Array, other_v: Array, other_g: Array, axis: Axis) -> tuple[Array, ...]:
        layer, other = made(v.copy(), g.copy(), axis), made(other_v, other_g, axis)
        twin = copying.deepcopy(layer)
        with torch.no_grad():
            for part, new in zip(parts(layer), parts(other), strict=True):
                part.copy_(new)
        return arrays(twin.weight, layer.weight)

    def state(v: Array, g: Array, axis: Axis) -> tuple[Array, ...]:
        layer = made(np.ones_like(v), np.ones_like(g), axis)
        layer.load_state_dict(made(v, g, axis).state_dict())
        new_v, new_g = parts(layer)
        return arrays(new_v, new_g.reshape(g.shape), layer.weight)

    functions = (weight, gradient, second, jvp, fold, copy, state)
    return Implementation("torch", *functions, version=torch.__version__, setup=_setup("torch"))


def _by_jax(name: str, formula: Callable[..., Any], **others: Callable[..., Any]) -> Implementation:
    """Functions of w(v, g, axis) in JAX arrays, by the transforms of JAX."""
    jax = import_module("jax")

    def with_float64(function: Callable[..., Any]) -> Callable[..., Any]:
        def computed(*arrays: Array, axis: Axis) -> Any:
            with jax.enable_x64(True):
                return jax.tree.map(np.asarray, function(*arrays, axis=axis))

        return computed

    def gradient(v: Any, g: Any, ct: Any, axis: Axis) -> Any:
        return jax.vjp(lambda v, g: formula(v, g, axis), v, g)[1](ct)

    def second(v: Any, g: Any, ct: Any, a: Any, b: Any, axis: Axis) -> Any:
        def total(v: Any, g: Any, ct: Any) -> Any:
            dv, dg = gradient(v, g, ct, axis)
            return (dv * a).sum() + (dg * b).sum()

        return jax.grad(total, (0, 1, 2))(v, g, ct)

    def jvp(v: Any, g: Any, dv: Any, dg: Any, axis: Axis) -> Any:
        return jax.jvp(lambda v, g: formula(v, g, axis), (v, g), (dv, dg))[1]

    functions = {"weight": formula, "gradient": gradient, "second": second, "jvp": jvp}
    compiled = {key: jax.jit(function, static_argnames="axis") for key, function in functions.items()}
    wrapped = {key: with_float64(function) for key, function in (compiled | others).items()}
    return Implementation(name, **wrapped, version=version(name), setup=_setup(name))


def _jax() -> Implementation:
    """JAX, which has no weight normalization: the formula as it stands on paper."""
    numpy = import_module("jax.numpy")

    def formula(v: Any, g: Any, axis: Axis) -> Any:
        rest = tuple(i for i in range(v.ndim) if axis is None or i != axis % v.ndim)
        return g * v / numpy.sqrt(numpy.sum(v * v, axis=rest, keepdims=True))

    return _by_jax("jax", formula)


def _equinox() -> Implementation:
    """Equinox: `eqx.nn.WeightNorm` around a layer that is nothing but its weight."""
    eqx, jax = import_module("equinox"), import_module("jax")

    members = {"__annotations__": {"weight": Any}, "__call__": lambda self, _: self.weight}
    weight_alone = type("WeightAlone", (eqx.Module,), members)

    def made(v: Any, g: Any, axis: Axis) -> Any:
        v, g = jax.numpy.asarray(v), jax.numpy.asarray(g)
        return eqx.tree_at(lambda one: one.g, eqx.nn.WeightNorm(weight_alone(v), axis=axis), g)

    def formula(v: Any, g: Any, axis: Axis) -> Any:
        return made(v, g, axis)(None)

    def w_of(layer: Any) -> Any:
        return eqx.filter_jit(layer)(None)  # compiled, as `weight` is, so that both round alike

    def copy(v: Any, g: Any, other_v: Any, other_g: Any, axis: Axis) -> Any:
        layer = made(v, g, axis)
        twin = copying.deepcopy(layer)
        return w_of(twin), w_of(made(other_v, other_g, axis))  # an array of JAX is not written into

    def state(v: Any, g: Any, axis: Axis) -> Any:
        file = io.BytesIO()
        eqx.tree_serialise_leaves(file, made(v, g, axis))
        file.seek(0)
        layer = eqx.tree_deserialise_leaves(file, made(v * 0 + 1, g * 0 + 1, axis))
        return layer.layer.weight, layer.g, w_of(layer)

    return _by_jax("equinox", formula, copy=copy, state=state)


ADAPTERS: dict[str, Callable[[], Implementation]] = {
    "ours": _ours,
    "torch": _torch,
    "equinox": _equinox,
    "jax": _jax,
}
"""Every adapter that ships with the package, by name."""
