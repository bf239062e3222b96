"""What `tg.NormRecorder` costs inside of compiled steps: `python -m benchmarks.dynamics`."""

import argparse
import statistics
from collections.abc import Callable
from time import perf_counter

import tinygrad_wn as tg

from .peers.package import Compiled
from .workloads import WORKLOADS

THREADS = {"moons": 1, "digits": 1, "mnist": 2}
EVERY = (1, 2, 10, 100)
MICROSECONDS = 6000
"""About how long one network trains before it is the turn of the next."""

ROUNDS = 40


def network(name: str, every: int) -> Callable[[], object]:
    """A compiled step of a workload, with momentum, which is recorded once in `every` steps; never for 0."""
    own = Compiled(WORKLOADS[name].task(True, "sgd", THREADS[name]))
    if every:
        tg.NormRecorder(own.model, own.optimizer, every)
    x, y = own.batches[0]
    return lambda: own.stepped(x, y)


def seconds(step: Callable[[], object], steps: int) -> float:
    """The time of one step."""
    start = perf_counter()
    for _ in range(steps):
        step()
    return (perf_counter() - start) / steps


def quick(times: list[float]) -> float:
    """The time of a turn that little disturbed: one in ten is quicker."""
    return statistics.quantiles(times, n=10)[0]


def main() -> None:
    """Print a table: microseconds of a step without a recorder, and what recording one step in k adds, as a share.

    Networks with a recorder and the one without take turns, so that what slows the machine down slows all.
    """
    print("network   step, µs  " + "  ".join(f"every={k:<4}" for k in EVERY))
    for name in THREADS:
        steps = {k: network(name, k) for k in (0, *EVERY)}
        for step in steps.values():
            seconds(step, 300)
        many = max(1, int(MICROSECONDS / (1e6 * seconds(steps[0], 100))))
        times: dict[int, list[float]] = {k: [] for k in steps}
        for _ in range(ROUNDS):
            for k in EVERY:
                times[0].append(seconds(steps[0], many))
                times[k].append(seconds(steps[k], many))
        alone = quick(times[0])
        costs = "  ".join(f"{100 * (quick(times[k]) / alone - 1):8.1f} %" for k in EVERY)
        print(f"{name:<8}  {1e6 * alone:8.1f}  {costs}")


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m benchmarks.dynamics", description=__doc__).parse_args()
    main()
