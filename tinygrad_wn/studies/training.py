"""A network that is trained again and again, from other seeds at other rates, by one compiled step."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import optim
from ..compiled import jit, scan
from ..errors import ValueRangeError
from ..kernels.threads import get_num_threads, set_num_threads
from ..train import one_blas_thread, score, step_of
from .methods import network

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..data import Dataset
    from ..domains import Array

OPTIMIZERS: dict[str, Any] = {"adam": optim.Adam, "sgd": optim.SGD, "momentum": optim.SGD}


@contextmanager
def one_thread() -> Iterator[None]:
    """Let kernels and NumPy use one thread inside a `with` block.

    Steps of networks as small as these are not faster on two threads, and far slower where another process takes the
    core of the second one.
    """
    before = get_num_threads()
    set_num_threads(1)
    try:
        with one_blas_thread():
            yield
    finally:
        set_num_threads(before)


class Trainer:
    """One method, one architecture, one optimizer; `start` gives them other weights and another rate.

    `options` go to the optimizer. `x` (batch, inputs) is what data-dependent initialization looks at; batches
    of its shape are what the step is compiled for, once: all runs use the same machine code.

    >>> from tinygrad_wn.studies.training import Trainer, epoch
    >>> rows = tg.data.moons(128, rng=0)
    >>> trainer = Trainer("weight norm", (2, 8, 2), rows.x[:32])
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
        self.step = jit(step_of(self.model, self.optimizer))
        self.step(x, np.zeros(len(x), np.int64))  # the first call runs op by op, which rounds otherwise than the others

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
        """Do a step on each of the stacked batches; gives the loss of each, before its step.

        Where a loss is not finite, or a step was refused for what is not finite in it, all of them are inf: training
        diverged, and the network is of no use until `start`.
        """
        try:
            losses: Array = scan(self.step, xs, ys).numpy()
        except ValueRangeError:
            return np.full(len(xs), np.inf)
        return losses if np.isfinite(losses).all() else np.full(len(xs), np.inf)

    def score(self, data: Dataset) -> tuple[float, float]:
        """Error, which is the share of rows with a wrong answer, and mean cross-entropy, as in evaluation."""
        loss, accuracy = score(self.model.eval(), data)
        self.model.train()
        return 1 - accuracy, loss


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
