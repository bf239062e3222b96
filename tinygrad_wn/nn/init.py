"""Initial values of weights, scaled so that signals keep their size from layer to layer.

A weight has shape (out, in, …): `in` inputs and `out` outputs for each of the positions on the axes that follow.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..creation import generator, tensor
from ..errors import ShapeError

if TYPE_CHECKING:
    import numpy as np

    from ..domains import Shape
    from ..tensor import Tensor

    Random = int | np.random.Generator | None


def he_normal(shape: Shape, rng: Random = None, dtype: Any = "float32") -> Tensor:
    """Normal numbers of variance 2/in, for layers before a ReLU (He et al. 2015, arXiv 1502.01852, equation 10).

    `rng` is a seed, a Generator, or None for the package's. The tensor requires a gradient. Raises ShapeError unless
    `shape` is (out, in, …) with sizes of at least 1.

    >>> tg.nn.init.he_normal((2, 3), rng=0).shape
    (2, 3)
    """
    inputs, _ = _fans(shape)
    return _normal(shape, 2 / inputs, rng, dtype)


def he_uniform(shape: Shape, rng: Random = None, dtype: Any = "float32") -> Tensor:
    """Uniform numbers in ±√(6/in), of the variance of `he_normal`; arguments and errors as there.

    >>> bool(tg.max(abs(tg.nn.init.he_uniform((50, 6)))) <= 1)
    True
    """
    inputs, _ = _fans(shape)
    return _uniform(shape, 2 / inputs, rng, dtype)


def glorot_normal(shape: Shape, rng: Random = None, dtype: Any = "float32") -> Tensor:
    """Normal numbers of variance 2/(in + out), for tanh layers (Glorot & Bengio 2010); otherwise as `he_normal`.

    >>> tg.nn.init.glorot_normal((2, 3), rng=0, dtype="float64").dtype
    dtype('float64')
    """
    return _normal(shape, 2 / sum(_fans(shape)), rng, dtype)


def glorot_uniform(shape: Shape, rng: Random = None, dtype: Any = "float32") -> Tensor:
    """Uniform numbers in ±√(6/(in + out)) (Glorot & Bengio 2010, equation 16); otherwise as `he_normal`.

    >>> bool(tg.max(abs(tg.nn.init.glorot_uniform((50, 100)))) <= 0.2)
    True
    """
    return _uniform(shape, 2 / sum(_fans(shape)), rng, dtype)


def _normal(shape: Shape, variance: float, rng: Random, dtype: Any) -> Tensor:
    return tensor(generator(rng).normal(0, math.sqrt(variance), shape), dtype, requires_grad=True)


def _uniform(shape: Shape, variance: float, rng: Random, dtype: Any) -> Tensor:
    bound = math.sqrt(3 * variance)
    return tensor(generator(rng).uniform(-bound, bound, shape), dtype, requires_grad=True)


def _fans(shape: Shape) -> tuple[int, int]:
    if len(shape) < 2 or min(shape) < 1:
        raise ShapeError(
            "initial values need a shape (out, in, ...) with sizes of at least 1",
            {"shape": list(shape)},
            hint="for a bias, take tg.zeros(n, requires_grad=True)",
        )
    positions = math.prod(shape[2:])
    return shape[1] * positions, shape[0] * positions
