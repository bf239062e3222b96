"""The experiment of the command line: the same network with and without weight normalization, step by step.

Both networks start from the same weights and see the same batches in the same order, in turns, so that they differ in
the parametrization alone and their times are taken under the same conditions. Nothing here prints or writes.
"""

from __future__ import annotations

import ctypes
import math
import statistics
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.linalg import lapack_lite

from . import nn, optim
from .compiled import jit
from .data import batches
from .errors import ValueRangeError
from .walk import no_grad

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .data import Dataset
    from .domains import Array
    from .optim import Optimizer
    from .tensor import Tensor

BLOCK = 1024


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to train and how: everything, apart from the data, that decides the result.

    `networks` are names out of "weight-norm" and "plain"; `hidden` the sizes of the hidden layers; `optimizer` is
    "sgd", "adam" or "adamw", of which only the first knows `momentum`.
    """

    networks: tuple[str, ...]
    hidden: tuple[int, ...]
    optimizer: str
    lr: float
    momentum: float
    epochs: int
    batch: int
    seed: int
    compiled: bool = True
    """Whether a step is machine code as a whole, by `tg.jit`."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One network after one epoch.

    `train_loss` is the mean over the epoch's rows, each taken when its batch was; the test values are those at the end.
    `seconds_per_step` is the median. `mean_norm_w` is the mean norm of the rows of all weights that the layers compute
    with, `mean_norm_v` that of the v of weight normalization (None without).
    """

    epoch: int
    network: str
    train_loss: float
    test_loss: float
    test_accuracy: float
    seconds_per_step: float
    mean_norm_w: float
    mean_norm_v: float | None


def networks(plan: Plan, features: int, classes: int) -> dict[str, nn.Sequential]:
    """The planned networks by name: Linear and ReLU in turns, with the same initial weights.

    >>> from tinygrad_wn.train import Plan, networks
    >>> plan = Plan(networks=("plain",), hidden=(8,), optimizer="sgd", lr=0.1, momentum=0.9, epochs=1, batch=32, seed=0)
    >>> networks(plan, features=4, classes=3)["plain"]
    Sequential(
      (0): Linear(in_features=4, out_features=8, bias=True)
      (1): ReLU()
      (2): Linear(in_features=8, out_features=3, bias=True)
    )
    """
    made = {}
    for name in plan.networks:
        rng = np.random.default_rng(plan.seed)
        layers: list[nn.Module] = []
        for inputs, outputs in zip((features, *plan.hidden), (*plan.hidden, classes), strict=True):
            layers += [nn.Linear(inputs, outputs, rng=rng), nn.ReLU()]
        model = nn.Sequential(*layers[:-1])
        made[name] = nn.weight_norm(model) if name == "weight-norm" else model
    return made


def fit(
    plan: Plan,
    models: Mapping[str, nn.Sequential],
    train: Dataset,
    test: Dataset,
    after_batch: Callable[[], object] = lambda: None,
) -> Iterator[list[Record]]:
    """Train the models in place; after each epoch, give a record for each. `after_batch` is called after each batch.

    Raises ValueRangeError when a loss is no longer finite.

    >>> from tinygrad_wn.train import Plan, fit, networks
    >>> plan = Plan(networks=("plain",), hidden=(8,), optimizer="adam", lr=0.1, momentum=0, epochs=2, batch=32, seed=0)
    >>> train, test = tg.data.split(tg.data.moons(200, rng=0))
    >>> [record.epoch for (record,) in fit(plan, networks(plan, 2, 2), train, test)]
    [1, 2]
    """
    steps = {name: _step(plan, model) for name, model in models.items()}
    order = np.random.default_rng((plan.seed, 1))  # not the numbers that made the initial weights
    for epoch in range(1, plan.epochs + 1):
        total = dict.fromkeys(models, 0.0)
        seconds: dict[str, list[float]] = {name: [] for name in models}
        for x, y in batches(train, plan.batch, order):
            for name, step in steps.items():
                start = perf_counter()
                loss = step(x, y)
                seconds[name].append(perf_counter() - start)
                total[name] += loss.item() * len(y)
            after_batch()
        yield [
            _record(epoch, name, model, total[name] / len(train.y), test, statistics.median(seconds[name]))
            for name, model in models.items()
        ]


def score(model: nn.Module, data: Dataset) -> tuple[float, float]:
    """Mean cross-entropy, and the share of rows whose class has the highest output.

    >>> from tinygrad_wn.train import score
    >>> loss, accuracy = score(tg.nn.Linear(64, 10, rng=0), tg.data.digits())
    >>> 0 <= accuracy <= 1
    True
    """
    loss, right, rows = 0.0, 0, len(data.y)
    with no_grad():
        for start in range(0, rows, BLOCK):
            y = data.y[start : start + BLOCK]
            outputs = model(data.x[start : start + BLOCK])
            loss += nn.cross_entropy(outputs, y, reduction="sum").item()
            right += int(np.sum(outputs.numpy().argmax(axis=1) == y))
    return loss / rows, right / rows


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let OpenBLAS, which NumPy's wheels contain, use one thread inside a `with` block.

    OpenBLAS parts a sum over some hundreds of products in other places when it has more threads, and so rounds it
    differently. With one thread, the result cannot depend on how many there are; steps of small networks are too short
    for a second one anyway. Nothing happens where NumPy brings another BLAS, or the system does not show its functions.
    """
    library = ctypes.CDLL(lapack_lite.__file__)
    found: list[tuple[Any, Any]] = [
        (getattr(library, f"{prefix}openblas_get_num_threads{suffix}"), setter)
        for prefix in ("scipy_", "")
        for suffix in ("64_", "")
        if (setter := getattr(library, f"{prefix}openblas_set_num_threads{suffix}", None))
    ]
    before = [getter() for getter, _ in found]
    try:
        for _, setter in found:
            setter(1)
        yield
    finally:
        for (_, setter), count in zip(found, before, strict=True):
            setter(count)


def step_of(model: Callable[[Any], Any], optimizer: Optimizer) -> Callable[[Any, Any], Tensor]:
    """A step of training on a batch, which gives the loss before it."""

    def step(x: Any, y: Any) -> Tensor:
        optimizer.zero_grad()
        loss = nn.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def _step(plan: Plan, model: nn.Sequential) -> Callable[[Array, Array], Tensor]:
    step = step_of(model, _optimizer(plan, model))
    return jit(step) if plan.compiled else step


def _optimizer(plan: Plan, model: nn.Module) -> Optimizer:
    if plan.optimizer == "sgd":
        return optim.SGD(model.parameters(), lr=plan.lr, momentum=plan.momentum)
    return {"adam": optim.Adam, "adamw": optim.AdamW}[plan.optimizer](model.parameters(), lr=plan.lr)


def _record(epoch: int, name: str, model: nn.Sequential, train_loss: float, test: Dataset, seconds: float) -> Record:
    test_loss, accuracy = score(model, test)
    if not (math.isfinite(train_loss) and math.isfinite(test_loss)):
        facts = {"network": name, "epoch": epoch, "train loss": train_loss, "test loss": test_loss}
        raise ValueRangeError("the loss is no longer finite", facts, hint="take a lower --lr, or scale the data")
    weights = [layer.weight for layer in model if isinstance(layer, nn.Linear)]
    normalized = [weight for weight in weights if isinstance(weight, nn.WeightNorm)]
    return Record(
        epoch=epoch,
        network=name,
        train_loss=train_loss,
        test_loss=test_loss,
        test_accuracy=accuracy,
        seconds_per_step=seconds,
        mean_norm_w=_mean_norm([w.g if isinstance(w, nn.WeightNorm) else w for w in weights]),
        mean_norm_v=_mean_norm([w.v for w in normalized]) if normalized else None,
    )


def _mean_norm(weights: list[Any]) -> float:
    """Mean norm of all rows; that of a g is the norm of its row of w."""
    return float(np.mean(np.concatenate([np.linalg.norm(w.numpy().astype(np.float64), axis=1) for w in weights])))
