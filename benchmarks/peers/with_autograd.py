"""autograd: NumPy code differentiated; updates by hand, as autograd has no in-place ones."""

from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import value_and_grad

from ..task import Array, Arrays
from .by_hand import ByHand


class Autograd(ByHand):
    """The loss in autograd's NumPy; the update rule is that of the hand-written contender."""

    def build(self) -> None:
        super().build()
        self.loss_and_slopes = value_and_grad(self._loss)

    def _network(self, parameters: Any, x: Any) -> Any:
        for i in self.task.layers:
            if self.task.normalized:
                v, g = parameters[f"{i}.weight.v"], parameters[f"{i}.weight.g"]
                w = g * v / anp.sqrt(anp.sum(v * v, axis=1, keepdims=True))
            else:
                w = parameters[f"{i}.weight"]
            x = anp.dot(x, w.T) + parameters[f"{i}.bias"]
            if i < self.task.layers[-1]:
                x = anp.maximum(x, np.float32(0))
        return x

    def _loss(self, parameters: Any, x: Any, y: Any) -> Any:
        out = self._network(parameters, x)
        out = out - anp.max(out, axis=1, keepdims=True)
        logs = out - anp.log(anp.sum(anp.exp(out), axis=1, keepdims=True))
        return -anp.mean(logs[np.arange(len(y)), y])

    def outputs(self, i: int) -> Array:
        return self._network(self.parameters, self.batches[i][0])

    def predict(self, x: Any) -> None:
        self._network(self.parameters, x)

    def backward(self, x: Array, y: Array) -> tuple[float, Arrays]:
        """Loss and gradients by autograd."""
        loss, slopes = self.loss_and_slopes(self.parameters, x, y)
        return float(loss), slopes
