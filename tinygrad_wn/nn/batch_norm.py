"""Batch normalization of the outputs of a layer: of the mean alone (arXiv 1602.07868, section 4), or in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..creation import tensor
from ..errors import DTypeError, ShapeError, ValueRangeError
from ..ops.batch import center, running_update, standardize
from ..ops.elementwise import sqrt
from ..tensor import Tensor
from .module import Module, number

if TYPE_CHECKING:
    from ..domains import Shape


class _Batch(Module):
    """What both layers share: the features are on axis 1, and running values follow those of the batches."""

    has_weights = False

    def __init__(self, num_features: int, momentum: float | None, dtype: Any) -> None:
        name = type(self).__name__
        if not isinstance(num_features, int | np.integer) or isinstance(num_features, bool):
            raise DTypeError(f"{name}: num_features must be an integer", {"given": repr(num_features)})
        if num_features < 1:
            raise ShapeError(f"{name}: num_features must be at least 1", {"given": num_features})
        if momentum is not None and not (0 <= number(momentum) <= 1):
            hint = "it is the share of the newest batch; None gives each batch the same"
            raise ValueRangeError(
                f"{name}: momentum must be None, or from 0 to 1", {"given": repr(momentum)}, hint=hint
            )
        self.num_features = int(num_features)
        self.momentum = None if momentum is None else float(momentum)
        self._dtype = np.dtype(dtype)

    def _filled(self, value: float, requires_grad: bool = False) -> Tensor:
        return tensor(np.full(self.num_features, value, self._dtype), requires_grad=requires_grad)

    def _checked(self, x: Any) -> tuple[Tensor, Shape]:
        """x as a tensor, and the shape in which one value for each feature meets it."""
        x = x if isinstance(x, Tensor) else tensor(x)
        name, facts = type(self).__name__, {"x": list(x.shape), "num_features": self.num_features}
        if x.ndim not in (2, 3) or x.shape[1] != self.num_features:
            raise ShapeError(f"{name}: x must have shape (n, num_features) or (n, num_features, length)", facts)
        if self.training and x.size <= self.num_features:
            hint = "give a larger batch, or call eval() to use the running values"
            raise ShapeError(f"{name}: training needs more than one value for each feature", facts, hint=hint)
        return x, (1, self.num_features, *[1] * (x.ndim - 2))

    def options(self) -> dict[str, Any]:
        """Sizes and numbers, and the dtype unless it is float32."""
        options: dict[str, Any] = {"num_features": self.num_features, "momentum": self.momentum}
        return options if self._dtype == np.float32 else {**options, "dtype": str(self._dtype)}


class MeanOnlyBatchNorm1d(_Batch):
    """t - μ[t] + bias: what weight normalization leaves to be done, since it fixes the size of t (section 4).

    Equation 7 of arXiv 1602.07868; the gradient is equation 8, ∇t = ∇y - μ[∇y]. t has shape (n, num_features), or
    (n, num_features, length); μ is its mean over all axes but the features. In training it is that of the batch, and
    `running_mean` moves towards it by `momentum` (`None`: becomes the mean over all batches); after `eval()` the
    running mean takes its place. `bias` starts at 0. Put it behind a weight-normalized layer without a bias.

    Raises DTypeError, ShapeError or ValueRangeError for sizes and momentum out of range; the call raises ShapeError for
    another number of features, and in training for a batch of one value.

    >>> layer = tg.nn.MeanOnlyBatchNorm1d(2)
    >>> layer(tg.tensor([[1.0, 10.0], [3.0, 30.0]])).detach()
    Tensor([[ -1., -10.],
            [  1.,  10.]])
    >>> layer.running_mean
    Tensor([0.2, 2. ])
    """

    def __init__(
        self, num_features: int, momentum: float | None = 0.1, bias: bool = True, *, dtype: Any = "float32"
    ) -> None:
        super().__init__(num_features, momentum, dtype)
        self.bias = self._filled(0, requires_grad=True) if bias else None
        self.running_mean = self._filled(0)
        self.num_batches_tracked = tensor(0)

    def forward(self, x: Any) -> Tensor:
        """x without its mean, plus the bias."""
        x, wide = self._checked(x)
        if self.training:
            y = center(x, axis=1)
            running = self.num_batches_tracked, self.running_mean
            running_update.into(running, running[0], x, running[1], momentum=self.momentum)
        else:
            y = x - self.running_mean.reshape(wide)
        return y if self.bias is None else y + self.bias.reshape(wide)

    def options(self) -> dict[str, Any]:
        """Sizes and numbers."""
        return super().options() | ({} if self.bias is not None else {"bias": False})


class BatchNorm1d(_Batch):
    """weight · (x - μ)/√(σ² + eps) + bias: batch normalization (Ioffe & Szegedy 2015, arXiv 1502.03167, algorithm 1).

    x has shape (n, num_features), or (n, num_features, length); μ and σ² are its mean and variance over all axes but
    the features. In training they are those of the batch, and the running values move towards them by `momentum`
    (`None`: become the mean over all batches); after `eval()` the running values take their place. As in PyTorch, whose
    names the state has, the batch is divided by √(σ² + eps) with the variance of n, and `running_var` follows that of
    n - 1. `affine=False` leaves weight and bias out. Weight normalization leaves the weight of this layer alone.

    Raises DTypeError, ShapeError or ValueRangeError for sizes and options out of range; the call raises ShapeError for
    another number of features, and in training for a batch of one value.

    >>> layer = tg.nn.BatchNorm1d(2)
    >>> layer(tg.tensor([[1.0, 10.0], [3.0, 30.0]])).detach().numpy().round(3)
    array([[-1., -1.],
           [ 1.,  1.]], dtype=float32)
    >>> list(layer.state_dict())
    ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        *,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(num_features, momentum, dtype)
        if not 0 < number(eps) < np.inf:
            raise ValueRangeError("BatchNorm1d: eps must be above 0 and finite", {"given": repr(eps)})
        self.eps = float(eps)
        self.weight = self._filled(1, requires_grad=True) if affine else None
        self.bias = self._filled(0, requires_grad=True) if affine else None
        self.running_mean, self.running_var = self._filled(0), self._filled(1)
        self.num_batches_tracked = tensor(0)

    def forward(self, x: Any) -> Tensor:
        """x without its mean, divided by its standard deviation; then weight and bias."""
        x, wide = self._checked(x)
        if self.training:
            y = standardize(x, axis=1, eps=self.eps)
            running = self.num_batches_tracked, self.running_mean, self.running_var
            running_update.into(running, running[0], x, *running[1:], momentum=self.momentum)
        else:
            y = (x - self.running_mean.reshape(wide)) / sqrt(self.running_var + self.eps).reshape(wide)
        if self.weight is None or self.bias is None:
            return y
        return y * self.weight.reshape(wide) + self.bias.reshape(wide)

    def options(self) -> dict[str, Any]:
        """Sizes and numbers."""
        return super().options() | {"eps": self.eps, "affine": self.weight is not None}
