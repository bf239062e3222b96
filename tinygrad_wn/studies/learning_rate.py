"""Test error against the learning rate over four decades, and what the rate does to ‖v‖, by method and optimizer.

Section 2 of arXiv 1602.07868: a step of gradient descent is at a right angle to v, so ‖v‖ grows, the more the larger
the rate, and the effective rate lr g²/‖v‖² falls until steps are small beside v. The paper concludes that weight
normalization makes training robust to the choice of the rate. Here six methods are trained on the digits by plain SGD,
with momentum, with momentum and weight decay, and by Adam; norms are those of the rows of v, or of w, of hidden layers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import data, nn
from ..dynamics import NormRecorder
from .environment import environment
from .learning_rate_report import draw, summary, tables
from .methods import METHODS, WEIGHT
from .training import Trainer, epoch, one_thread

if TYPE_CHECKING:
    from rich.progress import Progress

    from ..data import Dataset
    from ..domains import Array

__all__ = ["draw", "run", "summary", "tables"]

OPTIMIZERS: dict[str, tuple[str, dict[str, float], int]] = {
    "SGD": ("sgd", {}, -3),
    "momentum": ("momentum", {}, -3),
    "momentum, weight decay": ("momentum", {"weight_decay": 0.003}, -3),
    "Adam": ("adam", {}, -4),
}
"""Kind, options, and the power of ten of the lowest rate. Decay is that of all parameters, as is usual."""
DECADES = 4
ROUNDING = 1e-6
"""Relative growth of a float32 norm that is not told apart from none."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides the result, apart from the seed; `per_decade` is the number of rates in each decade."""

    hidden: tuple[int, ...]
    optimizers: tuple[str, ...]
    per_decade: float
    epochs: int
    runs: int
    batch: int = 64


FULL = Settings(hidden=(64, 32), optimizers=tuple(OPTIMIZERS), per_decade=2, epochs=20, runs=3)
QUICK = Settings(hidden=(16, 16), optimizers=("SGD", "Adam"), per_decade=0.5, epochs=3, runs=1)


def run(quick: bool, seed: int, progress: Progress) -> dict[str, Any]:
    """Errors, lengths and effective rates of each optimizer, method and rate.

    A run whose loss is no longer finite ends there, and counts as diverged.
    """
    settings = QUICK if quick else FULL
    train, test = data.split(data.digits())
    sizes = (train.x.shape[1], *settings.hidden, train.classes)
    count = round(DECADES * settings.per_decade) + 1
    task = progress.add_task("learning rate", total=len(settings.optimizers) * len(METHODS) * count * settings.runs)
    cells = []
    with one_thread():
        for optimizer in settings.optimizers:
            kind, options, lowest = OPTIMIZERS[optimizer]
            for method in METHODS:
                trainer = Trainer(method, sizes, train.x[: settings.batch], kind, **options)
                for rate in np.logspace(lowest, lowest + DECADES, count).tolist():
                    runs = []
                    for number in range(settings.runs):
                        runs.append(_trained(trainer, train, test, (seed, number), rate, settings))
                        progress.advance(task)
                    cell = {"optimizer": optimizer, "method": method, "rate": rate, **_summed_up(runs)}
                    if method == "weight norm":
                        cell["steps"] = first_steps(trainer, train, (seed, 0), rate, settings.batch)
                    cells.append(cell)
        where = environment()
    return {"settings": asdict(settings), "environment": where, "rows": len(test.y), "cells": cells}


def first_steps(trainer: Trainer, rows: Dataset, seed: tuple[int, int], rate: float, batch: int) -> dict[str, float]:
    """Of the steps of one epoch and all units: how often ‖v‖ shrinks, and how far it is off √(1 + c²)‖v‖ at most.

    The second is that of a step at a right angle to v, c being its length over that of v; 1e30 after overflow. Both are
    0 where the first step diverges.

    >>> from tinygrad_wn.studies.learning_rate import first_steps
    >>> from tinygrad_wn.studies.training import Trainer
    >>> rows = tg.data.moons(128, rng=0)
    >>> found = first_steps(Trainer("weight norm", (2, 8, 2), rows.x, "sgd"), rows, (0, 0), rate=0.1, batch=32)
    >>> found["shrinks"], found["residual"] < 1e-5
    (0.0, True)
    """
    trainer.start((*seed, 0), rate)
    recorder, finite = NormRecorder(trainer.model, trainer.optimizer, every=1), 0
    with np.errstate(all="ignore"):
        for x, y in zip(*epoch(rows, batch, (*seed, 1)), strict=True):
            if not np.isfinite(trainer.epoch(x[None], y[None])).all():
                break
            finite += 1
        recorder.stop()
        table = recorder.table()
        table = table[table["step"] <= finite]
        residual = np.abs(table["predicted"] / table["actual"] - 1).max(initial=0)
        shrinks = np.sum(table["actual"] < table["norm"] * (1 - ROUNDING)) / max(1, len(table))
    return {"shrinks": float(shrinks), "residual": float(np.nan_to_num(residual, nan=1e30, posinf=1e30))}


def _trained(
    trainer: Trainer, train: Dataset, test: Dataset, seed: tuple[int, int], rate: float, settings: Settings
) -> dict[str, Any] | None:
    """The test error at the end, and lengths and effective rates, medians over units, by epoch; None if it diverged."""
    trainer.start((*seed, 0), rate)
    v, g = _lengths(trainer.model)
    lengths, rates = [1.0], [float(np.median(rate * (g / v) ** 2))]
    start = v
    with np.errstate(all="ignore"):
        for number in range(1, settings.epochs + 1):
            losses = trainer.epoch(*epoch(train, settings.batch, (*seed, number)))
            v, g = _lengths(trainer.model)
            if not (np.isfinite(losses).all() and np.isfinite(v).all()):
                return None
            lengths.append(float(np.median(v / start)))
            rates.append(float(np.median(rate * (g / v) ** 2)))
        error, loss = trainer.score(test)
    if not np.isfinite(loss):
        return None
    found = {"error": error, "train_loss": float(losses.mean()), "lengths": lengths}
    return found | ({"rates": rates} if trainer.method in WEIGHT else {})


def _lengths(model: nn.Sequential) -> tuple[Array, Array]:
    """‖v‖ and g of all units of hidden layers; ‖w‖ for both without weight normalization."""
    layers = [layer for layer in model if isinstance(layer, nn.Linear)][:-1]
    weights = [layer.weight for layer in layers]
    pairs = [(w.v.numpy(), w.g.detach().numpy()) if isinstance(w, nn.WeightNorm) else (w.numpy(),) * 2 for w in weights]
    v, g = ([np.linalg.norm(one.astype(np.float64), axis=1) for one in some] for some in zip(*pairs, strict=True))
    return np.concatenate(v), np.concatenate(g)


def _summed_up(runs: list[dict[str, Any] | None]) -> dict[str, Any]:
    """Means over the runs that did not diverge: of errors; of lengths and rates by epoch, geometric ones."""
    whole = [one for one in runs if one is not None]
    found: dict[str, Any] = {"diverged": len(runs) - len(whole), "errors": [one["error"] for one in whole]}
    for name in ("lengths", "rates"):
        if whole and name in whole[0]:
            means = np.exp(np.mean([np.log(one[name]) for one in whole], axis=0))
            found[name] = [float(f"{x:.4g}") for x in means]
    if whole:
        found["train_loss"] = float(np.mean([one["train_loss"] for one in whole]))
    return found
