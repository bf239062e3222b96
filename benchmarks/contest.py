"""Contenders side by side: first they must agree, then they take turns.

A round is one turn of each entry, and rounds start with another entry each time, so that nobody always comes after the
same neighbour. A ratio is that of two turns of one round: what slows the machine down slows both.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .peers import OURS, PEERS
from .peers.by_hand import ByHand
from .task import Array, Arrays, Task
from .worker import Callee, Worker, WorkerError
from .workloads import Workload

TURN = 0.03
"""Seconds a turn aims at."""
PAUSE = 0.03
"""Seconds after a turn with several threads, in which pools that spin for more work fall asleep."""
TOLERANCE = {"start": 2e-5, "later": 1e-2}
"""Relative difference, in norm, of a gradient or an output from float64: at the start weights, and after `STEPS` steps,
when rounding has taken a few activations over the edge of a relu: 3e-3 was seen where there are half a million."""
LOSS = {"start": 2e-5, "later": 1e-4}
"""The same of the loss, which has no edges there."""
STEPS = 5


class DisagreementError(AssertionError):
    """A contender that does not compute what the others do."""


def _opened(name: str, threads: int) -> Worker:
    return Worker("benchmarks.host:Host", threads, name)


@dataclass(frozen=True)
class Entry:
    """One who takes turns."""

    contender: str
    threads: int
    normalized: bool

    @property
    def key(self) -> str:
        """Name of the model in its worker."""
        return "weight norm" if self.normalized else "plain"

    def describe(self) -> str:
        """For messages."""
        return f"{self.contender}, {self.key}, {self.threads} thread{'s' if self.threads > 1 else ''}"


@dataclass
class Contest:
    """What `run` measures and how."""

    workload: Workload
    contenders: list[str]
    threads: list[int]
    norms: list[bool]
    optimizer: str
    what: str
    rounds: int
    open_worker: Callable[[str, int], Callee] = _opened
    errors: dict[str, str] = field(default_factory=dict)

    def entries(self) -> list[Entry]:
        """Everyone who can do this work."""
        return [
            Entry(name, threads, normalized)
            for threads in self.threads
            for name in self.contenders
            for normalized in self.norms
            if (PEERS[name].weight_norm or not normalized)
            and (self.optimizer if self.what == "steps" else self.what) in PEERS[name].work
            and self.workload.sizes[-1] >= PEERS[name].fewest_classes
        ]

    def run(self) -> list[dict[str, Any]]:
        """Check all entries, let those that agree take turns, and give a row of figures for each; see `errors`."""
        entries = self.entries()
        workers = {who: self.open_worker(*who) for who in dict.fromkeys((e.contender, e.threads) for e in entries)}
        try:
            turns = self._turns(self._agreeing(entries, workers), workers)
        finally:
            for worker in workers.values():
                worker.close()
        return [self._row(entry, turns) for entry in turns]

    def _agreeing(self, entries: list[Entry], workers: dict[tuple[str, int], Callee]) -> list[Entry]:
        expected = {normalized: truth(self._task(normalized, 1), self.what) for normalized in self.norms}
        found = []
        for entry in entries:
            worker = workers[entry.contender, entry.threads]
            try:
                worker.call("make", entry.key, self._task(entry.normalized, entry.threads))
                compare(answers(worker, entry.key, self.what), expected[entry.normalized])
            except (WorkerError, DisagreementError) as error:
                self.errors[f"{self.workload.describe()}, {self.optimizer}: {entry.describe()}"] = str(error)
            else:
                found.append(entry)
        return found

    def _task(self, normalized: bool, threads: int) -> Task:
        return self.workload.task(normalized, self.optimizer, threads)

    def _turns(
        self, entries: list[Entry], workers: dict[tuple[str, int], Callee]
    ) -> dict[Entry, list[tuple[float, float]]]:
        """Seconds a step, and cores in use, of each turn."""
        turns: dict[Entry, list[tuple[float, float]]] = {entry: [] for entry in entries}
        counts = dict.fromkeys(entries, 1)
        for number in range(-1, self.rounds):  # the first round only finds out how many steps a turn holds
            start = number % max(len(entries), 1)
            for entry in entries[start:] + entries[:start]:
                worker = workers[entry.contender, entry.threads]
                seconds, busy, n = worker.call("time", entry.key, self.what, counts[entry])
                if number < 0:
                    counts[entry] = max(1, round(TURN * n / seconds))
                else:
                    turns[entry].append((seconds / n, busy / seconds))
                if entry.threads > 1:
                    time.sleep(PAUSE)
        return turns

    def _row(self, entry: Entry, turns: dict[Entry, list[tuple[float, float]]]) -> dict[str, Any]:
        ours = Entry(OURS, entry.threads, entry.normalized)
        plain = Entry(entry.contender, entry.threads, normalized=False)
        best, best_of_ours = (_best(turns, one) for one in (entry, ours))
        return {
            "workload": self.workload.name,
            "sizes": list(self.workload.sizes),
            "batch": self.workload.batch,
            "optimizer": self.optimizer,
            "contender": entry.contender,
            "threads": entry.threads,
            "normalized": entry.normalized,
            "microseconds": spread([1e6 * seconds for seconds, _ in turns[entry]]),
            "cores": float(np.median([cores for _, cores in turns[entry]])),
            "ratio": _ratio(turns, entry, ours),
            "ratio_at_best_threads": _ratio(turns, entry, best_of_ours) if entry == best else None,
            "over_plain": _ratio(turns, entry, plain) if entry.normalized else None,
        }


def answers(worker: Callee, key: str, what: str) -> list[tuple[str, Arrays]]:
    """All that is compared: losses and gradients before and after some steps, or outputs."""
    if what == "predictions":
        return [("start", {"output": worker.call("outputs", key, 0)})]
    found = []
    for when in TOLERANCE:
        loss, slopes = worker.call("gradients", key, 0)
        found.append((when, {"loss": np.float32(loss), **slopes}))
        if when == "start":
            worker.call("steps", key, STEPS)
    return found


def truth(task: Task, what: str) -> list[tuple[str, Arrays]]:
    """What all contenders are held against: the same in float64, by hand."""
    parameters = {name: x.astype(np.float64) for name, x in task.parameters.items()}
    batches = [(x.astype(np.float64), y) for x, y in task.batches]
    return answers(Here(ByHand(Task(parameters, batches, task.normalized, task.optimizer, 1))), "", what)


class Here:
    """A model of this process, called as if it were in a worker."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def call(self, method: str, _: str, *arguments: Any) -> Any:
        """The method's result."""
        if method == "steps":
            self.model.prepare(*arguments)
            arguments = ()
        return getattr(self.model, method)(*arguments)

    def close(self) -> None:
        """Nothing to do."""


def compare(found: list[tuple[str, Arrays]], expected: list[tuple[str, Arrays]]) -> None:
    """Raise DisagreementError unless all arrays are float32, of the same names, and close to those expected."""
    for (when, ours), (_, theirs) in zip(found, expected, strict=True):
        if ours.keys() != theirs.keys():
            raise DisagreementError(f"{when}: gave {', '.join(sorted(ours))} instead of {', '.join(sorted(theirs))}")
        for name, wanted in theirs.items():
            got: Array = ours[name]
            if got.dtype != np.float32 or got.shape != wanted.shape:
                raise DisagreementError(f"{when}: {name} is {got.dtype} {got.shape}, expected float32 {wanted.shape}")
            error = float(np.linalg.norm(got - wanted) / max(float(np.linalg.norm(wanted)), 1e-30))
            allowed = (LOSS if name == "loss" else TOLERANCE)[when]
            if not error <= allowed:
                raise DisagreementError(f"{when}: {name} is off by {error:.1e}, allowed is {allowed:.0e}")


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, and the range that holds the middle 80 %."""
    low, median, high = np.percentile([*values], [10, 50, 90])
    return {"median": float(median), "low": float(low), "high": float(high)}


def _best(turns: dict[Entry, list[tuple[float, float]]], entry: Entry) -> Entry:
    """The entry of the same contender and kind with the thread count that is fastest."""
    same = [e for e in turns if (e.contender, e.normalized) == (entry.contender, entry.normalized)]
    return min(same, key=lambda e: float(np.median([seconds for seconds, _ in turns[e]])), default=entry)


def _ratio(turns: dict[Entry, list[tuple[float, float]]], one: Entry, other: Entry) -> dict[str, float] | None:
    """Time of `one` over that of `other`, round by round."""
    if not turns.get(other):
        return None
    return spread(a / b for (a, _), (b, _) in zip(turns[one], turns[other], strict=True))
