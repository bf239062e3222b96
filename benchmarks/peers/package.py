"""tinygrad_wn, as a user writes it."""

from itertools import pairwise
from typing import Any

import tinygrad_wn as tg
from tinygrad_wn import nn, optim

from ..task import BETAS, EPSILON, MOMENTUM, Array, Arrays
from .base import Contender


class Eager(Contender):
    """Each op by itself."""

    def build(self) -> None:
        tg.set_num_threads(self.task.threads)
        sizes = self.task.sizes()
        layers: list[nn.Module] = []
        for size, out in pairwise(sizes):
            layers += [nn.Linear(size, out), nn.ReLU()]
        self.model = nn.Sequential(*layers[:-1])
        if self.task.normalized:
            nn.weight_norm(self.model)
        self.model.load_state_dict({_path(name): x for name, x in self.task.parameters.items()})
        found = dict(self.model.named_parameters())
        self.parameters = {name: found[_path(name)] for name in self.task.parameters}
        if self.task.optimizer == "sgd":
            self.optimizer: optim.Optimizer = optim.SGD(found.values(), lr=self.task.rate, momentum=MOMENTUM)
        else:
            self.optimizer = optim.Adam(found.values(), lr=self.task.rate, betas=BETAS, eps=EPSILON)

    def converted(self, x: Array, y: Array) -> tuple[Any, Any]:
        return tg.tensor(x), tg.tensor(y)

    def gradients(self, i: int) -> tuple[float, Arrays]:
        x, y = self.batches[i]
        self.optimizer.zero_grad()
        loss = tg.cross_entropy(self.model(x), y)
        loss.backward()
        return loss.item(), {name: p.grad.numpy() for name, p in self.parameters.items() if p.grad is not None}

    def outputs(self, i: int) -> Array:
        with tg.no_grad():
            return self.model(self.batches[i][0]).numpy()

    def step(self, x: Any, y: Any) -> None:
        self.optimizer.zero_grad()
        tg.cross_entropy(self.model(x), y).backward()
        self.optimizer.step()

    def predict(self, x: Any) -> None:
        with tg.no_grad():
            self.model(x)


class Compiled(Eager):
    """Whole steps by tg.jit."""

    def build(self) -> None:
        super().build()
        self.loss_and_slopes = tg.jit(self._loss_and_slopes)
        self.outcome = tg.jit(self._outcome)
        self.stepped = tg.jit(self._step)

    def gradients(self, i: int) -> tuple[float, Arrays]:
        loss, slopes = self.loss_and_slopes(*self.batches[i])
        return loss.item(), {name: slope.numpy() for name, slope in slopes.items() if slope is not None}

    def outputs(self, i: int) -> Array:
        return self.outcome(self.batches[i][0]).numpy()

    def steps(self) -> None:
        for x, y in self.coming:
            self.stepped(x, y)

    def predictions(self) -> None:
        for x, _ in self.coming:
            self.outcome(x)

    def _loss_and_slopes(self, x: Any, y: Any) -> tuple[tg.Tensor, dict[str, tg.Tensor | None]]:
        self.optimizer.zero_grad()
        loss = tg.cross_entropy(self.model(x), y)
        loss.backward()
        return loss, {name: p.grad for name, p in self.parameters.items()}

    def _step(self, x: Any, y: Any) -> tg.Tensor:
        self.optimizer.zero_grad()
        loss = tg.cross_entropy(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss

    def _outcome(self, x: Any) -> tg.Tensor:
        with tg.no_grad():
            return self.model(x)


def _path(name: str) -> str:
    """Where a parameter is in the network: relu layers count, too."""
    layer, rest = name.split(".", 1)
    return f"{2 * int(layer)}.{rest}"
