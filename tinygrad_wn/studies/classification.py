"""Six methods classify: error, learning curves and time per epoch, each at its own best learning rate.

Normal, normal with data-dependent init, weight norm, batch norm, mean-only batch norm, and weight norm with mean-only
batch norm (arXiv 1602.07868, section 5.1), as networks of one architecture, trained by Adam on the same batches. Each
method gets the same learning rates to try, on rows taken from the training rows; the test rows are looked at by the
runs after that, which use other seeds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import Dataset, split, train_test
from ..data.known import installed
from .classification_report import draw, summary, tables
from .environment import environment
from .intervals import interval
from .methods import METHODS
from .training import Trainer, epoch, one_thread

if TYPE_CHECKING:
    from rich.progress import Progress

    from ..domains import Array


SHORTEST = 0.02
"""Seconds that epochs of a method take in a round, at least."""

__all__ = ["draw", "run", "summary", "tables"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides the result, apart from seed and data.

    Data sets with more rows get fewer `epochs`, so that no run has more than about `steps`. The learning rate stays for
    half of the epochs, then falls to 0 in equal parts. `timing` is the number of rounds in which methods take turns.
    """

    hidden: tuple[int, ...]
    batch: int
    epochs: int
    steps: int
    rates: tuple[float, ...]
    tuning_runs: int
    runs: int
    timing: int
    optimizer: str = "adam"
    validation: float = 0.2


FULL = Settings(
    hidden=(128, 64),
    batch=64,
    epochs=40,
    steps=10_000,
    rates=(0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3),
    tuning_runs=3,
    runs=10,
    timing=31,
)
QUICK = Settings(
    hidden=(32, 16), batch=64, epochs=5, steps=500, rates=(0.001, 0.01, 0.1), tuning_runs=1, runs=5, timing=5
)


def run(quick: bool, seed: int, progress: Progress, data: Sequence[str] = ()) -> dict[str, Any]:
    """The result for each data set; without names, for those that are installed, and if `quick` for the digits alone.

    Rows are divided by the largest number in those for training. Raises what reading the data raises, before
    anything is trained.
    """
    settings = QUICK if quick else FULL
    names = dict.fromkeys(data or (["digits"] if quick else installed()))
    parts = {name: _scaled(*train_test(name)) for name in names}
    with one_thread():
        found = {name: compare(name, train, test, settings, seed, progress) for name, (train, test) in parts.items()}
        return {"settings": asdict(settings), "environment": environment(), "data": found}


def compare(
    name: str, train: Dataset, test: Dataset, settings: Settings, seed: int, progress: Progress
) -> dict[str, Any]:
    """All methods on one data set."""
    sizes = (train.x.shape[1], *settings.hidden, train.classes)
    part, validation = split(train, settings.validation, seed)
    trainers = {method: Trainer(method, sizes, train.x[: settings.batch], settings.optimizer) for method in METHODS}
    methods: dict[str, Any] = {}

    task = progress.add_task(f"{name}: tuning", total=len(METHODS) * len(settings.rates) * settings.tuning_runs)
    for method, trainer in trainers.items():
        tried = []
        for rate in settings.rates:
            scores = []
            for number in range(settings.tuning_runs):
                scores.append(_train(trainer, part, (seed, 0, number), rate, settings, validation)[-1])
                progress.advance(task)
            error, loss = np.mean(scores, axis=0)[1:].tolist()
            tried.append({"rate": rate, "error": error, "loss": loss if math.isfinite(loss) else None})
        best = min(tried, key=lambda one: (one["error"], math.inf if one["loss"] is None else one["loss"]))
        methods[method] = {"tuning": tried, "rate": best["rate"]}

    task = progress.add_task(f"{name}: training", total=len(METHODS) * settings.runs)
    for method, trainer in trainers.items():
        curves = []
        for number in range(settings.runs):
            rate = methods[method]["rate"]
            curves.append(_train(trainer, train, (seed, 1, number), rate, settings, test))
            progress.advance(task)
        methods[method] |= _summed_up(np.array(curves))
    for one in methods.values():
        one["difference"] = interval(np.subtract(one["errors"], methods["normal"]["errors"]).tolist())

    task = progress.add_task(f"{name}: timing", total=settings.timing)
    for method, found in _times(trainers, train, settings, seed, progress, task).items():
        methods[method] |= found
    return {
        "rows": {"train": len(train.y), "of them for validation": len(validation.y), "test": len(test.y)},
        "sizes": sizes,
        "epochs": _epochs(train, settings),
        "methods": methods,
    }


def _scaled(train: Dataset, test: Dataset) -> tuple[Dataset, Dataset]:
    top = np.abs(train.x).max() or 1
    scaled = (Dataset(part.x / top, part.y, train.classes, part.name) for part in (train, test))
    return next(scaled), next(scaled)


def _train(
    trainer: Trainer, rows: Dataset, seed: tuple[int, ...], rate: float, settings: Settings, scored: Dataset
) -> Array:
    """Train from this seed; gives a row for each epoch: mean loss of its steps, error and loss on `scored` after it.

    After a step that diverges, the error is 1 and losses are infinite.
    """
    found = np.tile([np.inf, 1.0, np.inf], (_epochs(rows, settings), 1))
    trainer.start((*seed, 0), rate)
    for number, row in enumerate(found):
        trainer.rate(rate * min(1.0, 2 * (len(found) - number) / (len(found) + 1)))
        losses = trainer.epoch(*epoch(rows, settings.batch, (*seed, number + 1)))
        if not np.isfinite(losses).all():
            break
        row[:] = losses.mean(), *trainer.score(scored)
    return found


def _epochs(rows: Dataset, settings: Settings) -> int:
    return max(1, min(settings.epochs, settings.steps // (len(rows.y) // settings.batch)))


def _summed_up(curves: Array) -> dict[str, Any]:
    """`curves` (runs, epochs, 3) as the errors at the end, and mean curves."""
    errors = curves[:, :, 1]
    ends = errors[:, -1].tolist()
    spread = [interval(column.tolist()) for column in errors.T]
    return {
        "errors": ends,
        "error": interval(ends),
        "curve": {
            "error": [one["mean"] for one in spread],
            "half_width": [one["half_width"] for one in spread],
            "train_loss": [loss if math.isfinite(loss) else None for loss in curves[:, :, 0].mean(axis=0).tolist()],
        },
    }


def _times(
    trainers: dict[str, Trainer], rows: Dataset, settings: Settings, seed: int, progress: Progress, task: Any
) -> dict[str, dict[str, Any]]:
    """Seconds of an epoch of steps: methods take turns, in a new order each round, and each round gives a ratio.

    In a round, a method has the time of its fastest epoch: what else runs on the machine can only add to it.
    """
    batches = epoch(rows, settings.batch, (seed, 2))
    rng = np.random.default_rng((seed, 3))
    seconds: dict[str, list[float]] = {method: [] for method in trainers}
    for trainer in trainers.values():
        trainer.start((seed, 2), 0.0001)
        trainer.epoch(*batches)
    for _ in range(settings.timing):
        for method in rng.permutation(list(trainers)).tolist():
            own: list[float] = []
            while len(own) < 3 or sum(own) < SHORTEST:
                start = perf_counter()
                trainers[method].epoch(*batches)
                own.append(perf_counter() - start)
            seconds[method].append(min(own))
        progress.advance(task)
    found = {}
    for method, times in seconds.items():
        lower, middle, upper = np.quantile(np.divide(times, seconds["normal"]), [0.25, 0.5, 0.75]).tolist()
        found[method] = {
            "seconds_per_epoch": statistics.median(times),
            "relative_time": {"median": middle, "quartiles": [lower, upper]},
        }
    return found
