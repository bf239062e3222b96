"""MyGrad: tensors that wrap NumPy arrays; updates by hand, as MyGrad has no optimizers."""

from typing import Any

import mygrad as mg
from mygrad.nnet import relu, softmax_crossentropy

from ..task import Array, Arrays
from .by_hand import ByHand


class MyGrad(ByHand):
    """The loss in MyGrad; the update rule is that of the hand-written contender."""

    def build(self) -> None:
        super().build()
        mg.turn_memory_guarding_off()  # as MyGrad's documentation advises for speed
        self.tensors = {name: mg.tensor(x, copy=False) for name, x in self.parameters.items()}
        self.parameters = {name: t.data for name, t in self.tensors.items()}

    def _network(self, x: Any) -> Any:
        for i in self.task.layers:
            if self.task.normalized:
                v, g = self.tensors[f"{i}.weight.v"], self.tensors[f"{i}.weight.g"]
                w = g * v / mg.sqrt(mg.sum(v * v, axis=1, keepdims=True))
            else:
                w = self.tensors[f"{i}.weight"]
            x = mg.matmul(x, w.T) + self.tensors[f"{i}.bias"]
            if i < self.task.layers[-1]:
                x = relu(x)
        return x

    def outputs(self, i: int) -> Array:
        with mg.no_autodiff:
            return self._network(self.batches[i][0]).data

    def predict(self, x: Any) -> None:
        with mg.no_autodiff:
            self._network(x)

    def backward(self, x: Array, y: Array) -> tuple[float, Arrays]:
        """Loss and gradients by MyGrad."""
        loss = softmax_crossentropy(self._network(x), y)
        loss.backward()
        found = {name: t.grad for name, t in self.tensors.items()}
        return loss.item(), found
