"""Layers, and the chain of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ..creation import generator, tensor
from ..errors import DTypeError, ShapeError, ValueRangeError
from ..functions import gelu, leaky_relu, weight_norm_linear
from ..ops.elementwise import relu, sigmoid, tanh
from ..ops.linear import linear
from ..ops.random import dropout
from ..slot import depends_on_attributes, each_step
from ..tensor import Tensor
from .init import he_uniform
from .module import Module, number
from .weight_norm import WeightNorm, effective

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Linear(Module):
    """y = x·weightᵀ + bias: (…, in_features) → (…, out_features).

    `weight` (out_features, in_features) is drawn by `nn.init.he_uniform` from `rng` (a seed, a Generator, or None for
    the package's generator), which keeps the size of signals before a ReLU; `bias` (out_features,) starts at 0 and is
    None with `bias=False`. Raises DTypeError or ShapeError for sizes that are not integers of at least 1; the call
    raises ShapeError when the last axis of x is not in_features.

    >>> layer = tg.nn.Linear(3, 2, rng=0)
    >>> layer, layer(tg.ones((5, 3))).shape
    (Linear(in_features=3, out_features=2, bias=True), (5, 2))
    """

    weight: Tensor | WeightNorm
    bias: Tensor | WeightNorm | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: Any = "float32",
        rng: int | np.random.Generator | None = None,
    ) -> None:
        sizes = {"in_features": in_features, "out_features": out_features}
        if any(not isinstance(n, int | np.integer) or isinstance(n, bool) for n in sizes.values()):
            raise DTypeError("Linear: sizes must be integers", {k: repr(v) for k, v in sizes.items()})
        if min(sizes.values()) < 1:
            raise ShapeError("Linear: sizes must be at least 1", sizes)
        self.in_features, self.out_features = int(in_features), int(out_features)
        self.weight = he_uniform((self.out_features, self.in_features), rng, dtype)
        self.bias = tensor(np.zeros(self.out_features, self.weight.dtype), requires_grad=True) if bias else None

    def forward(self, x: Any) -> Tensor:
        """x·weightᵀ + bias; with one g a row, and no row of norm 0, weight normalization is no op of its own."""
        weight, bias = self.weight, self.bias if isinstance(self.bias, Tensor) else effective(self.bias)
        if isinstance(weight, WeightNorm) and weight.axis == 0:
            depends_on_attributes(weight)  # it is not called itself
            return weight_norm_linear(x, weight.v, weight.g, bias, zero=weight.zero)
        return linear(x, effective(weight), bias)

    def options(self) -> dict[str, Any]:
        """Sizes, whether there is a bias, and the dtype unless it is float32."""
        sizes = {"in_features": self.in_features, "out_features": self.out_features, "bias": self.bias is not None}
        dtype = (self.weight.v if isinstance(self.weight, WeightNorm) else self.weight).dtype
        return sizes if dtype == np.float32 else {**sizes, "dtype": str(dtype)}


class Sequential(Module):
    """Layers, each applied to the result of the one before; state is named by their numbers, such as "0.weight".

    Has a length, can be iterated, and indexed: a number gives a layer, a slice a Sequential of the same layers.
    Raises DTypeError for what is not a module.

    >>> net = tg.nn.Sequential(tg.nn.Linear(3, 2), tg.nn.ReLU())
    >>> len(net), net[-1], list(net.state_dict())
    (2, ReLU(), ['0.weight', '0.bias'])
    """

    layers: tuple[Module, ...]

    def __init__(self, *layers: Module) -> None:
        for i, layer in enumerate(layers):
            if not isinstance(layer, Module):
                hint = "give modules one by one: nn.Sequential(nn.Linear(4, 2), nn.ReLU()), with parentheses"
                raise DTypeError(f"Sequential: layer {i} is not a module", {"given": repr(layer)}, hint=hint)
        self.layers = layers

    def forward(self, x: Any) -> Any:
        """Apply all layers in order."""
        for layer in self.layers:
            x = layer(x)
        return x

    def entries(self) -> Iterable[tuple[object, object]]:
        """The layers by number, and what else a subclass has set."""
        return (*enumerate(self.layers), *((name, x) for name, x in vars(self).items() if name != "layers"))

    def __len__(self) -> int:
        """Number of layers."""
        return len(self.layers)

    def __iter__(self) -> Iterator[Module]:
        """Go through the layers."""
        return iter(self.layers)

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | slice) -> Module:
        """Layer number `index`, or a Sequential of the layers of a slice."""
        return Sequential(*self.layers[index]) if isinstance(index, slice) else self.layers[index]


class ReLU(Module):
    """x where x > 0, else 0.

    >>> tg.nn.ReLU()(tg.tensor([1.0, -1.0]))
    Tensor([1., 0.])
    """

    def forward(self, x: Any) -> Tensor:
        """`tg.relu`."""
        return relu(x)


class LeakyReLU(Module):
    """x where x > 0, else negative_slope · x.

    >>> tg.nn.LeakyReLU(0.1)(tg.tensor([1.0, -1.0]))
    Tensor([ 1. , -0.1])
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = float(negative_slope)

    def forward(self, x: Any) -> Tensor:
        """`tg.leaky_relu`."""
        return leaky_relu(x, self.negative_slope)

    def options(self) -> dict[str, Any]:
        """The slope."""
        return {"negative_slope": self.negative_slope}


class Tanh(Module):
    """Hyperbolic tangent.

    >>> tg.nn.Tanh()(tg.tensor([0.0, 100.0]))
    Tensor([0., 1.])
    """

    def forward(self, x: Any) -> Tensor:
        """`tg.tanh`."""
        return tanh(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x)).

    >>> tg.nn.Sigmoid()(tg.tensor([0.0, 100.0]))
    Tensor([0.5, 1. ])
    """

    def forward(self, x: Any) -> Tensor:
        """`tg.sigmoid`."""
        return sigmoid(x)


class GELU(Module):
    """x Φ(x), with Φ the normal distribution function.

    >>> tg.nn.GELU()(tg.tensor([0.0, 1.0]))
    Tensor([0.        , 0.8413])
    """

    def forward(self, x: Any) -> Tensor:
        """`tg.gelu`."""
        return gelu(x)


class Dropout(Module):
    """In training, set each entry to 0 with probability `p` and divide the others by 1 - p; else change nothing.

    The mean stays the same (Srivastava et al. 2014, in the inverted form). `rng` is a seed, a Generator, or None for
    the package's generator at each call: the generator gives one number a call, of which, with the place of an entry, a
    hash decides about the entry, so that compiled steps draw the same as eager ones. Raises ValueRangeError unless
    0 <= p < 1.

    >>> tg.nn.Dropout(0.5, rng=0)(tg.ones(5))
    Tensor([0., 2., 2., 0., 2.])
    """

    def __init__(self, p: float = 0.5, rng: int | np.random.Generator | None = None) -> None:
        if not 0 <= number(p) < 1:
            raise ValueRangeError(
                "Dropout: p must be at least 0 and below 1", {"p": repr(p)}, hint="p = 0 drops nothing"
            )
        self.p = float(p)
        self.rng = None if rng is None else generator(rng)

    def forward(self, x: Any) -> Tensor:
        """x, thinned out in training."""
        x = x if isinstance(x, Tensor) else tensor(x)
        if not self.training or self.p == 0:
            return x
        (key,) = each_step(self._key)
        return dropout(x, key, p=self.p)

    def _key(self) -> tuple[int]:
        """What decides which entries of a call are kept."""
        return (int(generator(self.rng).random() * 2**53),)

    def options(self) -> dict[str, Any]:
        """The probability."""
        return {"p": self.p}
