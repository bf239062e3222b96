"""A network that is trained again and again, from other seeds at other rates, by one compiled step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import nn, optim
from ..compiled import jit, scan
from ..train import score
from .methods import network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..data import Dataset
    from ..domains import Array
    from ..tensor import Tensor

OPTIMIZERS: dict[str, Any] = {"adam": optim.Adam, "sgd": optim.SGD, "momentum": optim.SGD}


class Trainer:
    """One method, one architecture, one optimizer; `start` gives them other weights and another rate.

    `options` go to the optimizer. The step is compiled once: the next runs use the same machine code.

    >>> from tinygrad_wn.studies.training import Trainer, epoch
    >>> rows = tg.data.moons(128, rng=0)
    >>> trainer = Trainer("weight norm", (2, 8, 2), rows.x[:64])
    >>> trainer.start(seed=0, lr=0.01)
    >>> losses = [trainer.epoch(*epoch(rows, 32, (0, e))).mean() for e in range(20)]
    >>> bool(losses[-1] < losses[0])
    True
    """

    def __init__(self, method: str, sizes: Sequence[int], x: Array, optimizer: str = "adam", **options: Any) -> None:
        self.method, self.sizes, self.x = method, tuple(sizes), x
        self.model = network(method, sizes, 0, x)
        if optimizer == "momentum":
            options = {"momentum": 0.9, **options}
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters(), lr=0.0, **options)
        for state, p in zip(self.optimizer.state, self.model.parameters(), strict=True):
            state.update(self.optimizer.begin(p))
        self.unused = self.optimizer.state_dict()
        self.step = jit(self._step)

    def start(self, seed: int | Sequence[int], lr: float) -> None:
        """Begin anew, as a network and an optimizer that were just made."""
        self.model.load_state_dict(network(self.method, self.sizes, seed, self.x).state_dict())
        self.optimizer.load_state_dict(self.unused)
        self.rate(lr)

    def rate(self, lr: float) -> None:
        """Set the learning rate of the steps to come."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def epoch(self, xs: Array, ys: Array) -> Array:
        """Do a step on each of the stacked batches; gives the loss of each, before its step."""
        losses: Array = scan(self.step, xs, ys).numpy()
        return losses

    def score(self, data: Dataset) -> tuple[float, float]:
        """Mean cross-entropy and error, the share of rows with a wrong answer, as in evaluation."""
        loss, accuracy = score(self.model.eval(), data)
        self.model.train()
        return loss, 1 - accuracy

    def _step(self, x: Any, y: Any) -> Tensor:
        self.optimizer.zero_grad()
        loss = nn.cross_entropy(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss


def epoch(data: Dataset, batch: int, seed: int | Sequence[int]) -> tuple[Array, Array]:
    """Shuffled rows as stacked batches, x (steps, batch, features) and y (steps, batch); the rest is left out.

    >>> from tinygrad_wn.studies.training import epoch
    >>> x, y = epoch(tg.data.digits(), 100, seed=0)
    >>> x.shape, y.shape
    ((17, 100, 64), (17, 100))
    """
    steps = len(data.y) // batch
    order = np.random.default_rng(seed).permutation(len(data.y))[: steps * batch]
    return data.x[order].reshape(steps, batch, -1), data.y[order].reshape(steps, batch)
