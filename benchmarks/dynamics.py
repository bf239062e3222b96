"""What `tg.NormRecorder` costs beside compiled steps: `python -m benchmarks.dynamics`."""

import statistics
from collections.abc import Callable
from itertools import pairwise
from time import perf_counter
from typing import Any

import numpy as np

import tinygrad_wn as tg

NETWORKS = {"digits": ((64, 64, 32, 10), 32), "mnist": ((784, 128, 64, 10), 64)}
EVERY = (1, 20, 100)
STEPS = 200
ROUNDS = 9


def training(sizes: tuple[int, ...], rows: int) -> tuple[tg.nn.Module, Any, Callable[[], Any]]:
    """A weight-normalized network, its optimizer, and a compiled step on one batch."""
    layers: list[tg.nn.Module] = []
    for size, out in pairwise(sizes):
        layers += [tg.nn.Linear(size, out, rng=0), tg.nn.ReLU()]
    model = tg.nn.weight_norm(tg.nn.Sequential(*layers[:-1]))
    optimizer = tg.optim.SGD(model.parameters(), lr=1e-3)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((rows, sizes[0])).astype("f4"), rng.integers(0, sizes[-1], rows)

    @tg.jit
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = tg.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return model, optimizer, lambda: step(x, y)


def seconds(step: Callable[[], Any], record: Callable[[], object] | None, steps: int) -> float:
    """The time of one step, with what is recorded of it."""
    start = perf_counter()
    for _ in range(steps):
        step()
        if record is not None:
            record()
    return (perf_counter() - start) / steps


def main() -> None:
    """Print a table: microseconds of a step on one thread, and what recording one step in k adds, as a share."""
    tg.set_num_threads(1)
    print("network   step, µs  " + "  ".join(f"every={k:<4}" for k in EVERY))
    for name, (sizes, rows) in NETWORKS.items():
        model, optimizer, step = training(sizes, rows)
        seconds(step, None, 20)
        recorders = {k: tg.NormRecorder(model, optimizer, k, compiled=True) for k in EVERY}
        for k, one in recorders.items():
            seconds(step, one.record, 2 * k)
        alone: list[float] = []
        shares: dict[int, list[float]] = {k: [] for k in EVERY}
        for _ in range(ROUNDS):  # in turns, so that what slows the machine down slows all
            for k in EVERY:
                plain = seconds(step, None, STEPS)
                alone.append(plain)
                shares[k].append(seconds(step, recorders[k].record, STEPS) / plain - 1)
        costs = "  ".join(f"{100 * statistics.median(shares[k]):8.1f} %" for k in EVERY)
        print(f"{name:<8}  {1e6 * statistics.median(alone):8.1f}  {costs}")


if __name__ == "__main__":
    main()
