"""PyTorch: eager, and with its compiler."""

from itertools import pairwise
from typing import Any

import torch
from torch.nn.utils import parametrizations

from ..task import BETAS, EPSILON, MOMENTUM, Array, Arrays
from .base import Contender


class Eager(Contender):
    """nn.Sequential, functional.cross_entropy, and the fused optimizers, which are PyTorch's fastest on a CPU."""

    def build(self) -> None:
        torch.set_num_threads(self.task.threads)
        sizes = self.task.sizes()
        layers: list[Any] = []
        self.parameters: dict[str, Any] = {}
        for i, (size, out) in enumerate(pairwise(sizes)):
            linear = torch.nn.Linear(size, out)
            layers += [linear, torch.nn.ReLU()]
            self.parameters[f"{i}.bias"] = linear.bias
            if self.task.normalized:
                parametrizations.weight_norm(linear, dim=0)
                weight = linear.parametrizations.weight
                self.parameters |= {f"{i}.weight.g": weight.original0, f"{i}.weight.v": weight.original1}
            else:
                self.parameters[f"{i}.weight"] = linear.weight
        with torch.no_grad():
            for name, p in self.parameters.items():
                p.copy_(torch.from_numpy(self.task.parameters[name]))
        self.model = torch.nn.Sequential(*layers[:-1])
        if self.task.optimizer == "sgd":
            self.optimizer = torch.optim.SGD(self.model.parameters(), lr=self.task.rate, momentum=MOMENTUM, fused=True)
        else:
            self.optimizer = torch.optim.Adam(
                self.model.parameters(), lr=self.task.rate, betas=BETAS, eps=EPSILON, fused=True
            )
        self.loss, self.forward = self.plain_loss, self.model

    def plain_loss(self, x: Any, y: Any) -> Any:
        """Cross-entropy of a batch."""
        return torch.nn.functional.cross_entropy(self.model(x), y)

    def converted(self, x: Array, y: Array) -> tuple[Any, Any]:
        return torch.from_numpy(x), torch.from_numpy(y)

    def gradients(self, i: int) -> tuple[float, Arrays]:
        self.optimizer.zero_grad()
        loss = self.loss(*self.batches[i])
        loss.backward()
        return loss.item(), {name: p.grad.numpy() for name, p in self.parameters.items()}

    def outputs(self, i: int) -> Array:
        with torch.inference_mode():
            return self.forward(self.batches[i][0]).numpy()

    def step(self, x: Any, y: Any) -> None:
        self.optimizer.zero_grad()
        self.loss(x, y).backward()
        self.optimizer.step()

    def predict(self, x: Any) -> None:
        with torch.inference_mode():
            self.forward(x)


class Compiled(Eager):
    """Forward and backward through torch.compile."""

    def build(self) -> None:
        super().build()
        self.loss, self.forward = torch.compile(self.plain_loss), torch.compile(self.model)
