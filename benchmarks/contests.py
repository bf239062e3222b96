"""Suites in which contenders meet: training steps, inference, and how their cost grows."""

from dataclasses import replace
from typing import Any

from .contest import Contest
from .plan import Plan
from .workloads import WORKLOADS, Workload

Rows = list[dict[str, Any]]

GROWTH = {
    "batch": (1, 4, 16, 64, 256, 1024),
    "width": (16, 32, 64, 128, 256, 512, 1024),
    "depth": (1, 2, 4, 8, 16, 32),
}
GROWING = ("tinygrad_wn", "tinygrad_wn eager", "numpy", "torch", "jax")


def steps(plan: Plan) -> Rows:
    """Forward, backward and SGD with momentum."""
    return [row for workload in plan.workloads for row in _contest(plan, workload)]


def adam(plan: Plan) -> Rows:
    """The same with Adam."""
    return [row for workload in plan.workloads for row in _contest(plan, workload, optimizer="adam")]


def inference(plan: Plan) -> Rows:
    """Forward alone, a row at a time and in batches."""
    return [
        row
        for workload in plan.workloads
        for batch in (1, workload.batch)
        for row in _contest(plan, workload.with_batch(batch), what="predictions")
    ]


def growth(plan: Plan) -> Rows:
    """Weight-normalized steps of 64-64-64-10 networks, batch 32, as one number grows; one thread."""
    some = replace(
        plan,
        contenders=[name for name in plan.contenders if name in GROWING],
        threads=plan.threads[:1],
        norms=plan.norms[-1:],
    )
    found = []
    for axis, values in GROWTH.items():
        for value in values[:3] if plan.quick else values:
            found += [{"axis": axis, "value": value, **row} for row in _contest(some, grown(axis, value))]
    return found


def grown(axis: str, value: int) -> Workload:
    """A network of two hidden layers of 64, with another batch, width of hidden layers, or number of them."""
    base = WORKLOADS["digits"]
    name = f"{axis} {value}"
    if axis == "batch":
        return Workload(name, (64, 64, 64, 10), value)
    if axis == "width":
        return Workload(name, (64, value, value, 10), base.batch)
    return Workload(name, (64, *[64] * value, 10), base.batch)


def _contest(plan: Plan, workload: Workload, optimizer: str = "sgd", what: str = "steps") -> Rows:
    plan.say(f"{workload.describe()}, {what if what == 'predictions' else optimizer}")
    contest = Contest(workload, plan.contenders, plan.threads, plan.norms, optimizer, what, plan.rounds)
    rows = contest.run()
    plan.errors.update(contest.errors)
    return rows
