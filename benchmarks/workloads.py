"""Networks and data that all contenders work on: the same weights and the same batches for each, from fixed seeds."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from tinygrad_wn import data

from .task import Array, Arrays, Batch, Task

BATCHES = 8
"""Batches that a contender goes through in a circle."""


@dataclass(frozen=True)
class Workload:
    """Sizes of a network, rows in a batch, and where the rows come from: "moons", "digits" or "random"."""

    name: str
    sizes: tuple[int, ...]
    batch: int
    source: str = "random"

    def describe(self) -> str:
        """One line for a table."""
        return f"{self.name}: {'-'.join(map(str, self.sizes))}, batch {self.batch}"

    def with_batch(self, batch: int) -> "Workload":
        """The same network, fed with other batches."""
        return replace(self, batch=batch)

    def parameters(self, normalized: bool) -> Arrays:
        """He-normal weights, small biases; g is not quite ‖v‖, so that no contender may take one for the other."""
        rng = np.random.default_rng(0)
        found: Arrays = {}
        for i, (size, out) in enumerate(pairwise(self.sizes)):
            weight = rng.standard_normal((out, size)) * np.sqrt(2 / size)
            stretch = 1 + 0.1 * rng.standard_normal((out, 1))
            if normalized:
                found[f"{i}.weight.v"] = weight.astype(np.float32)
                found[f"{i}.weight.g"] = (stretch * np.linalg.norm(weight, axis=1, keepdims=True)).astype(np.float32)
            else:
                found[f"{i}.weight"] = weight.astype(np.float32)
            found[f"{i}.bias"] = (0.1 * rng.standard_normal(out)).astype(np.float32)
        return found

    def batches(self) -> list[Batch]:
        """Contiguous float32 rows and int64 labels."""
        if self.source == "random":
            rng = np.random.default_rng(1)
            made: Iterable[tuple[Array, Array]] = (
                (rng.standard_normal((self.batch, self.sizes[0])), rng.integers(0, self.sizes[-1], self.batch))
                for _ in range(BATCHES)
            )
        else:
            rows = data.by_name(self.source)
            order = np.random.default_rng(1).permutation(len(rows.y))[: BATCHES * self.batch].reshape(BATCHES, -1)
            made = ((rows.x[some], rows.y[some]) for some in order)
        return [(np.ascontiguousarray(x, np.float32), np.ascontiguousarray(y, np.int64)) for x, y in made]

    def task(self, normalized: bool, optimizer: str, threads: int) -> Task:
        """All that a contender needs."""
        return Task(self.parameters(normalized), self.batches(), normalized, optimizer, threads)


WORKLOADS = {
    one.name: one
    for one in (
        Workload("moons", (2, 16, 16, 2), 32, "moons"),
        Workload("digits", (64, 64, 32, 10), 32, "digits"),
        Workload("mnist", (784, 128, 64, 10), 64),
        Workload("wide", (784, 1024, 1024, 10), 256),
    )
}
