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

from ... import __version__, nn
from ...creation import tensor
from ...errors import LibraryMissingError, ValueRangeError
from ...functions import weight_norm
from ...tensor import Tensor
from ...transforms import jvp as forward_mode
from .implementation import FUNCTIONS, Implementation

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...domains import Array

Axis = int | None
Arrays = tuple[Any, ...]

INSTALL = {"torch": "torch==2.13.0", "equinox": "equinox>=0.13", "jax": "jax==0.10.2"}


def adapter(name: str) -> Implementation:
    """The implementation of a library: "ours", "torch" (its public parametrization), "equinox" or "jax" (a formula).

    Raises ValueRangeError for another name, LibraryMissingError where the library is not installed.

    >>> from tinygrad_wn.testing import adapter
    >>> adapter("ours").weight(np.array([[3.0, 4.0]]), np.array([[10.0]]), axis=0)
    array([[6., 8.]])
    """
    if name not in ADAPTERS:
        raise ValueRangeError("no such library", {"given": name}, hint=f"one of {', '.join(ADAPTERS)}")
    if name in INSTALL and find_spec(name) is None:
        raise LibraryMissingError(f"{name} is not installed", hint=f"pip install '{INSTALL[name]}'")
    return implementation(name, ADAPTERS[name](), version(name) if name in INSTALL else __version__)


def implementation(name: str, library: object, version: str) -> Implementation:
    """An Implementation of the methods of `library` that have the names of its functions.

    >>> from tinygrad_wn.testing.conformance.adapters import Ours, implementation
    >>> implementation("composed", Ours(fused=False), "").weight(np.array([[3.0, 4.0]]), np.array([[10.0]]), axis=0)
    array([[6., 8.]])
    """
    functions: dict[str, Any] = {key: getattr(library, key) for key in FUNCTIONS if hasattr(library, key)}
    setup = f'from tinygrad_wn.testing import adapter\nwn = adapter("{name}")'
    return Implementation(name, **functions, version=version, setup=setup)


class WeightAlone(nn.Module):
    """A layer that is nothing but its weight."""

    def __init__(self, weight: Any) -> None:
        self.weight = weight

    def forward(self) -> Tensor:
        """The weight."""
        w: Tensor = nn.effective(self.weight)
        return w


class Ours:
    """This package: `tg.weight_norm`, fused or composed, and its layers."""

    def __init__(self, *, fused: bool = True) -> None:
        self.fused = fused

    def w(self, v: Any, g: Any, axis: Axis) -> Tensor:
        """W as a tensor."""
        return weight_norm(v, g, axis, fused=self.fused)

    def weight(self, v: Array, g: Array, axis: Axis) -> Array:
        return self.w(v, g, axis).numpy()

    def gradient(self, v: Array, g: Array, ct: Array, axis: Axis) -> Arrays:
        x, y = (tensor(x, requires_grad=True) for x in (v, g))
        return tuple(t.numpy() for t in self.w(x, y, axis).gradient(x, y, cotangent=ct))

    def second(self, v: Array, g: Array, ct: Array, a: Array, b: Array, axis: Axis) -> Arrays:
        x, y, c = (tensor(x, requires_grad=True) for x in (v, g, ct))
        dv, dg = self.w(x, y, axis).gradient(x, y, cotangent=c, create_graph=True)
        return tuple(t.numpy() for t in ((dv * a).sum() + (dg * b).sum()).gradient(x, y, c))

    def jvp(self, v: Array, g: Array, dv: Array, dg: Array, axis: Axis) -> Array:
        pushed: Tensor = forward_mode(lambda v, g: self.w(v, g, axis), (v, g), (dv, dg))[1]
        return pushed.numpy()

    def fold(self, v: Array, g: Array, axis: Axis) -> Array:
        folded: Tensor = nn.fold_weight_norm(WeightAlone(nn.WeightNorm(v, g, axis))).weight
        return folded.numpy()

    def copy(self, v: Array, g: Array, other_v: Array, other_g: Array, axis: Axis) -> Arrays:
        layer = WeightAlone(nn.WeightNorm(v, g, axis))
        twin = copying.deepcopy(layer)
        layer.weight.v.data, layer.weight.g.data = other_v, other_g
        return twin().detach().numpy(), layer().detach().numpy()

    def state(self, v: Array, g: Array, other_v: Array, other_g: Array, axis: Axis) -> Arrays:
        layer, other = (WeightAlone(nn.WeightNorm(x, y, axis)) for x, y in ((v, g), (other_v, other_g)))
        other.load_state_dict(layer.state_dict())
        layer.weight.v.data, layer.weight.g.data = other_v, other_g
        return other.weight.v.numpy(), other.weight.g.numpy(), other().detach().numpy()


class PyTorch:
    """`torch.nn.utils.parametrizations.weight_norm`, whose dim is the axis; for dim=None its g has shape ()."""

    def __init__(self) -> None:
        self.torch = import_module("torch")

    def leaf(self, x: Array) -> Any:
        """A parameter of the same memory, as far as PyTorch can have it."""
        return self.torch.nn.Parameter(self.torch.as_tensor(x if min(x.strides, default=0) >= 0 else x.copy()))

    def layer(self, v: Array, g: Array, axis: Axis) -> Any:
        """A module with the parametrized weight."""
        layer = self.torch.nn.Module()
        layer.weight = self.leaf(v)
        pair = self.torch.nn.utils.parametrizations.weight_norm(layer, dim=axis).parametrizations.weight
        pair.original0, pair.original1 = self.leaf(g if axis is not None else g.reshape(())), self.leaf(v)
        return layer

    def parts(self, layer: Any) -> Arrays:
        """Parameters v and g of a layer."""
        return layer.parametrizations.weight.original1, layer.parametrizations.weight.original0

    def fill(self, layer: Any, other: Any) -> None:
        """Write the v and g of another layer into this one."""
        with self.torch.no_grad():
            for part, new in zip(self.parts(layer), self.parts(other), strict=True):
                part.copy_(new)

    def arrays(self, g: Array, *tensors: Any) -> Arrays:
        """Arrays of tensors; those of shape () are for g."""
        return tuple(t.detach().numpy() if t.ndim else t.detach().numpy().reshape(g.shape) for t in tensors)

    def weight(self, v: Array, g: Array, axis: Axis) -> Array:
        w: Array = self.arrays(g, self.layer(v, g, axis).weight)[0]
        return w

    def gradient(self, v: Array, g: Array, ct: Array, axis: Axis) -> Arrays:
        layer = self.layer(v, g, axis)
        return self.arrays(g, *self.torch.autograd.grad(layer.weight, self.parts(layer), self.leaf(ct)))

    def second(self, v: Array, g: Array, ct: Array, a: Array, b: Array, axis: Axis) -> Arrays:
        layer, grad, c = self.layer(v, g, axis), self.torch.autograd.grad, self.leaf(ct)
        dv, dg = grad(layer.weight, self.parts(layer), c, create_graph=True)
        total = (dv * self.leaf(a)).sum() + (dg * self.leaf(b)).sum()
        return self.arrays(g, *grad(total, (*self.parts(layer), c)))

    def jvp(self, v: Array, g: Array, dv: Array, dg: Array, axis: Axis) -> Array:
        primals, tangents = (
            tuple(map(self.torch.Tensor.detach, self.parts(self.layer(x, y, axis)))) for x, y in ((v, g), (dv, dg))
        )
        pair = self.layer(v, g, axis).parametrizations.weight

        def w(v: Any, g: Any) -> Any:
            return self.torch.func.functional_call(pair, {"original1": v, "original0": g}, ())

        pushed: Array = self.arrays(g, self.torch.func.jvp(w, primals, tangents)[1])[0]
        return pushed

    def fold(self, v: Array, g: Array, axis: Axis) -> Array:
        remove = self.torch.nn.utils.parametrize.remove_parametrizations
        folded: Array = self.arrays(g, remove(self.layer(v, g, axis), "weight").weight)[0]
        return folded

    def copy(self, v: Array, g: Array, other_v: Array, other_g: Array, axis: Axis) -> Arrays:
        layer = self.layer(v.copy(), g.copy(), axis)
        twin = copying.deepcopy(layer)
        self.fill(layer, self.layer(other_v, other_g, axis))
        return self.arrays(g, twin.weight, layer.weight)

    def state(self, v: Array, g: Array, other_v: Array, other_g: Array, axis: Axis) -> Arrays:
        layer, other = self.layer(v.copy(), g.copy(), axis), self.layer(other_v.copy(), other_g.copy(), axis)
        other.load_state_dict(layer.state_dict())
        self.fill(layer, self.layer(other_v, other_g, axis))
        return self.arrays(g, *self.parts(other), other.weight)


class Jax:
    """JAX, which has no weight normalization: the formula as it stands on paper, compiled."""

    def __init__(self) -> None:
        self.jax = import_module("jax")
        self.np = import_module("jax.numpy")
        self.weight, self.gradient = self.compiled(self.formula), self.compiled(self.first_order)
        self.second, self.jvp = self.compiled(self.second_order), self.compiled(self.forward_mode)

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of NumPy arrays, in float64 where they are."""
        return self.in_float64(self.jax.jit(function, static_argnames="axis"))

    def in_float64(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with NumPy arrays as results, and with float64 switched on."""

        def computed(*arrays: Array, axis: Axis) -> Any:
            with self.jax.enable_x64(True):
                return self.jax.tree.map(np.asarray, function(*arrays, axis=axis))

        return computed

    def formula(self, v: Any, g: Any, axis: Axis) -> Any:
        """Equation 2."""
        rest = tuple(i for i in range(v.ndim) if axis is None or i != axis % v.ndim)
        return g * v / self.np.sqrt(self.np.sum(v * v, axis=rest, keepdims=True))

    def first_order(self, v: Any, g: Any, ct: Any, axis: Axis) -> Any:
        """The gradient by JAX."""
        return self.jax.vjp(lambda v, g: self.formula(v, g, axis), v, g)[1](ct)

    def second_order(self, v: Any, g: Any, ct: Any, a: Any, b: Any, axis: Axis) -> Any:
        """The gradient of ⟨a, ∇v⟩ + ⟨b, ∇g⟩ by JAX."""

        def total(v: Any, g: Any, ct: Any) -> Any:
            dv, dg = self.first_order(v, g, ct, axis)
            return (dv * a).sum() + (dg * b).sum()

        return self.jax.grad(total, (0, 1, 2))(v, g, ct)

    def forward_mode(self, v: Any, g: Any, dv: Any, dg: Any, axis: Axis) -> Any:
        """The derivative along (dv, dg) by JAX."""
        return self.jax.jvp(lambda v, g: self.formula(v, g, axis), (v, g), (dv, dg))[1]


class Equinox(Jax):
    """`equinox.nn.WeightNorm` around a layer that is nothing but its weight, compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.eqx = import_module("equinox")
        members = {"__annotations__": {"weight": Any}, "__call__": lambda self, _: self.weight}
        self.weight_alone = type("WeightAlone", (self.eqx.Module,), members)
        self.copy, self.state = self.in_float64(self.copied), self.in_float64(self.restored)

    def layer(self, v: Any, g: Any, axis: Axis) -> Any:
        """A WeightNorm of these values."""
        made = self.eqx.nn.WeightNorm(self.weight_alone(self.np.asarray(v)), axis=axis)
        return self.eqx.tree_at(lambda one: one.g, made, self.np.asarray(g))

    def w(self, layer: Any) -> Any:
        """W of a layer, compiled as `weight` is, so that both round alike."""
        return self.eqx.filter_jit(layer)(None)

    def formula(self, v: Any, g: Any, axis: Axis) -> Any:
        """W by Equinox."""
        return self.layer(v, g, axis)(None)

    def copied(self, v: Any, g: Any, other_v: Any, other_g: Any, axis: Axis) -> Any:
        """A layer of JAX arrays is never written into: another takes its place."""
        layer = self.layer(v, g, axis)
        twin = copying.deepcopy(layer)
        return self.w(twin), self.w(self.layer(other_v, other_g, axis))

    def restored(self, v: Any, g: Any, other_v: Any, other_g: Any, axis: Axis) -> Any:
        """Through the bytes of a file; the first layer is never written into."""
        file = io.BytesIO()
        self.eqx.tree_serialise_leaves(file, self.layer(v, g, axis))
        file.seek(0)
        layer = self.eqx.tree_deserialise_leaves(file, self.layer(other_v, other_g, axis))
        return layer.layer.weight, layer.g, self.w(layer)


ADAPTERS: dict[str, Callable[[], object]] = {"ours": Ours, "torch": PyTorch, "equinox": Equinox, "jax": Jax}
"""Every adapter that ships with the package, by name."""
