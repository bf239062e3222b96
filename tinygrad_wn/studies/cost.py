"""What weight normalization adds to a training step, by batch, width and depth, in three forms and beside peers.

Weight-side: w = g v/‖v‖ is built, then y = x·wᵀ + b. Activation-side: y = (x·vᵀ)·(g/‖v‖) + b, so that w never exists.
Layer: `tg.weight_norm_linear`, one op, which is what `nn.weight_norm` gives a Linear. A step is forward, cross-entropy,
backward and SGD with momentum 0.9, float32, on one thread; each form is timed eagerly and as one compiled function.

In a clone of the repository, PyTorch and JAX take turns as well, where they are installed: by the networks and the
worker processes of its folder `benchmarks`, which see to threads and to agreement before anything is timed.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import optim
from ..compiled import jit
from ..creation import tensor
from ..functions import weight_norm
from ..linalg import vector_norm
from ..ops.elementwise import relu
from ..ops.linear import linear, weight_norm_linear
from ..ops.structural import permute_dims
from ..tensor import Tensor
from ..train import step_of
from .cost_report import draw, summary, tables
from .environment import environment
from .training import one_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress

    from ..domains import Array

    Turn = Callable[[int], tuple[float, int]]

__all__ = ["draw", "run", "summary", "tables"]

FORMS = ("plain", "layer", "weight-side", "activation-side")
CLASSES = 10
TURN = 0.01
"""Seconds a turn aims at."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured. `width` is the number of inputs and that of units in each of `depth` hidden layers."""

    batches: tuple[int, ...]
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    rounds: int
    peers: tuple[str, ...]
    rate: float = 0.01
    momentum: float = 0.9


FULL = Settings(batches=(1, 16, 128), widths=(16, 128, 512), depths=(1, 4), rounds=21, peers=("torch", "jax"))
QUICK = Settings(batches=(1, 64), widths=(16,), depths=(1,), rounds=5, peers=())


def run(quick: bool, seed: int, progress: Progress) -> dict[str, Any]:
    """Microseconds of a step for each batch, width, depth, contender and form, and its ratio to the plain step.

    The seed decides weights and rows, not how long a step takes.
    """
    settings = QUICK if quick else FULL
    cells = list(itertools.product(settings.batches, settings.widths, settings.depths))
    task = progress.add_task("cost: networks", total=len(cells))
    peers = Peers(settings.peers)
    rows = []
    try:
        with one_thread():
            for batch, width, depth in cells:
                sizes = (width,) * (depth + 1) + (CLASSES,)
                contenders = own_turns(sizes, batch, seed, settings) | peers.turns(sizes, batch)
                seconds = in_turns(contenders, settings.rounds)
                at = {"batch": batch, "width": width, "depth": depth}
                rows += [at | row for row in figures(seconds)]
                progress.advance(task)
            where = environment()
    finally:
        peers.close()
    where["versions"] |= peers.versions
    return {"settings": asdict(settings), "environment": where, "left out": peers.left_out, "rows": rows}


def in_turns(contenders: dict[tuple[str, str], Turn], rounds: int) -> dict[tuple[str, str], list[float]]:
    """Seconds a step in each round: all take turns of about `TURN` seconds, each round starting with another one.

    A contender is a function of a number of steps that gives seconds and how many steps they were.

    >>> from tinygrad_wn.studies.cost import in_turns
    >>> in_turns({("one", "plain"): lambda n: (0.002 * n, n)}, rounds=3)
    {('one', 'plain'): [0.002, 0.002, 0.002]}
    """
    names = list(contenders)
    found: dict[tuple[str, str], list[float]] = {name: [] for name in names}
    counts = {}
    for name, turn in contenders.items():
        turn(2)
        seconds, steps = turn(2)
        counts[name] = max(1, round(TURN * steps / seconds))
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            seconds, steps = contenders[name](counts[name])
            found[name].append(seconds / steps)
    return found


def figures(seconds: dict[tuple[str, str], list[float]]) -> list[dict[str, Any]]:
    """Minimum and median in microseconds, and spreads of the ratios of turns of one round: to plain, to weight-side.

    >>> from tinygrad_wn.studies.cost import figures
    >>> times = {("eager", "plain"): [1e-6, 2e-6], ("eager", "weight-side"): [2e-6, 4e-6]}
    >>> figures(times)[1]["over_plain"]
    {'median': 2.0, 'low': 2.0, 'high': 2.0}
    """
    rows = []
    for (contender, form), own in seconds.items():
        row = {"contender": contender, "form": form, "minimum": 1e6 * min(own), "median": 1e6 * float(np.median(own))}
        for name, other in (("over_plain", "plain"), ("over_weight_side", "weight-side")):
            if form != other and (contender, other) in seconds:
                low, median, high = np.quantile(np.divide(own, seconds[contender, other]), [0.1, 0.5, 0.9]).tolist()
                row[name] = {"median": median, "low": low, "high": high}
        rows.append(row)
    return rows


def network(form: str, sizes: tuple[int, ...], seed: int, dtype: str = "float32") -> tuple[Any, list[Tensor]]:
    """A function from rows to outputs, and its parameters: for each layer the weight, or v and g, and a bias.

    All forms of one seed compute the same.

    >>> from tinygrad_wn.studies.cost import network
    >>> forward, parameters = network("activation-side", (4, 3, 2), seed=0)
    >>> forward(np.ones((5, 4), "f4")).shape, len(parameters)
    ((5, 2), 6)
    """
    rng = np.random.default_rng(seed)
    layers: list[list[Tensor]] = []
    for inputs, units in itertools.pairwise(sizes):
        w = rng.standard_normal((units, inputs)) * np.sqrt(2 / inputs)
        g = np.linalg.norm(w, axis=1, keepdims=True)
        v = w / g * rng.uniform(0.5, 2, g.shape)
        weight = [w] if form == "plain" else [v, g]
        layers.append([tensor(p.astype(dtype), requires_grad=True) for p in (*weight, np.zeros(units))])

    def forward(x: Any) -> Any:
        for i, layer in enumerate(layers):
            x = applied(form, x if i == 0 else relu(x), *layer)
        return x

    return forward, [p for layer in layers for p in layer]


def applied(form: str, x: Any, *layer: Tensor) -> Any:
    """One layer of this form on x (rows, inputs).

    >>> from tinygrad_wn.studies.cost import applied
    >>> v, g, b = tg.tensor([[3.0, 4.0]]), tg.tensor([[10.0]]), tg.tensor([0.5])
    >>> [applied(form, tg.ones((1, 2)), v, g, b).item() for form in ("layer", "weight-side", "activation-side")]
    [14.5, 14.5, 14.5]
    """
    if form == "plain":
        return linear(x, *layer)
    v, g, b = layer
    if form == "layer":
        return weight_norm_linear(x, v, g, b)
    if form == "weight-side":
        return linear(x, weight_norm(v, g), b)
    return linear(x, v) * permute_dims(g / vector_norm(v, axis=1, keepdims=True), axes=(1, 0)) + b


def own_turns(sizes: tuple[int, ...], batch: int, seed: int, settings: Settings) -> dict[tuple[str, str], Turn]:
    """Turns of this package: each form, compiled and eager."""
    rng = np.random.default_rng((seed, 1))
    x = tensor(rng.standard_normal((batch, sizes[0])).astype(np.float32))
    y = tensor(rng.integers(0, sizes[-1], batch))
    found = {}
    for mode in ("compiled", "eager"):
        for form in FORMS:
            step = training_step(form, sizes, seed, settings)
            found[mode, form] = _turn(jit(step) if mode == "compiled" else step, x, y)
    return found


def training_step(form: str, sizes: tuple[int, ...], seed: int, settings: Settings) -> Callable[[Any, Any], Tensor]:
    """Forward, backward and update of a new network; gives the loss before it."""
    forward, parameters = network(form, sizes, seed)
    return step_of(forward, optim.SGD(parameters, lr=settings.rate, momentum=settings.momentum))


def _turn(step: Callable[[Any, Any], Tensor], x: Any, y: Array | Tensor) -> Turn:
    def turn(steps: int) -> tuple[float, int]:
        start = perf_counter()
        for _ in range(steps):
            step(x, y)
        return perf_counter() - start, steps

    return turn


class Peers:
    """Other frameworks, each in a process of its own by the folder `benchmarks`; `left_out` says who is not there.

    >>> from tinygrad_wn.studies.cost import Peers
    >>> Peers(()).turns((4, 3, 2), 8)
    {}
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.workers: dict[str, Any] = {}
        self.left_out: dict[str, str] = {}
        self.versions: dict[str, str] = {}
        if names and (find_spec("benchmarks") is None or find_spec("benchmarks.worker") is None):
            self.left_out = dict.fromkeys(names, "the folder benchmarks is not there: run in a clone of the repository")
            return
        for name in names:
            lacks = import_module("benchmarks.peers").PEERS[name].lacks()
            if lacks:
                self.left_out[name] = lacks
            else:
                self.workers[name] = import_module("benchmarks.worker").Worker("benchmarks.host:Host", 1, name)
                self.versions[name] = import_module("importlib.metadata").version(name)

    def turns(self, sizes: tuple[int, ...], batch: int) -> dict[tuple[str, str], Turn]:
        """Turns with and without weight normalization, of all who agree with equations 2 and 3 in float64 at first."""
        found: dict[tuple[str, str], Turn] = {}
        for name, worker in list(self.workers.items()):
            contest, workloads = import_module("benchmarks.contest"), import_module("benchmarks.workloads")
            load = workloads.Workload("cost", sizes, batch)
            for form in ("plain", "weight-side"):  # PyTorch's parametrization and the formula in JAX both build w
                task = load.task(form != "plain", "sgd", 1)
                worker.call("make", form, task)
                both = (contest.answers(worker, form, "steps"), contest.truth(task, "steps"))
                contest.compare(
                    *(one[:1] for one in both)
                )  # before the first step: a row at a time, rounding grows fast
                found[name, form] = _turn_elsewhere(worker, form)
        return found

    def close(self) -> None:
        """End the processes."""
        for worker in self.workers.values():
            worker.close()


def _turn_elsewhere(worker: Any, form: str) -> Turn:
    def turn(steps: int) -> tuple[float, int]:
        seconds, _, done = worker.call("time", form, "steps", steps)
        return seconds, done

    return turn
