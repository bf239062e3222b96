"""Matrix products and norms alone, through the public functions, beside NumPy with one BLAS thread."""

import itertools
import math
from typing import Any

import numpy as np

from .contest import spread
from .plan import Plan
from .worker import Worker, WorkerError

ROWS, SIZES, LAYOUTS = (32, 64, 256), (10, 32, 64, 128, 256, 784, 1024), ("AB", "ABᵀ", "AᵀB")
LARGE = 1e6
"""Flops from which on a product is judged by the ratio, below by the difference."""
PEAK, TWO, NORMS, COPY = (256, 784, 128), (256, 1024, 1024), ((64, 784), (1024, 1024)), (4096, 4096)


def run(plan: Plan) -> dict[str, Any]:
    """All of it; a worker that dies is an error of this suite."""
    try:
        return _run(plan)
    except WorkerError as error:
        plan.errors["kernels"] = str(error)
        return {}


def _run(plan: Plan) -> dict[str, Any]:
    rounds = plan.rounds
    sizes = SIZES[1::2] if plan.quick else SIZES
    found: dict[str, Any] = {}
    with Worker("benchmarks.matrices:Matrices", 1, "1") as one:
        shapes = [*itertools.product(ROWS, sizes, sizes, LAYOUTS)]
        plan.say(f"kernels: matmul, {len(shapes)} shapes")
        cases = [_case(one, rounds, *shape) for shape in shapes]
        found["matmul"] = {"cases": cases, **_summary(cases)}
        plan.say("kernels: peak, norms, bandwidth")
        found["peak"] = {"shape": PEAK, **_shares(one.call("peak_share", *PEAK, rounds))}
        if 2 in plan.threads:
            with Worker("benchmarks.matrices:Matrices", 2, "2") as two:
                ratios = [one.call("matmul_seconds", *TWO) / two.call("matmul_seconds", *TWO) for _ in range(rounds)]
            found["two_threads_over_one"] = {"shape": TWO, "ratio": spread(ratios)}
        found["norms"] = [
            {
                "name": name,
                "shape": shape,
                "microseconds": spread(1e6 * ours for ours, _ in pairs),
                "ratio": spread(theirs / ours for ours, theirs in pairs),
            }
            for shape in NORMS
            for name, pairs in one.call("norms", *shape, rounds).items()
        ]
        copies = one.call("bandwidth", *COPY, min(rounds, 20))
        found["bandwidth"] = [{"name": name, "shape": COPY, **_shares(pairs)} for name, pairs in copies.items()]
    return found


def _case(worker: Worker, rounds: int, m: int, k: int, n: int, layout: str) -> dict[str, Any]:
    pairs = worker.call("matmul", m, k, n, layout, rounds)
    return {
        "shape": [m, k, n],
        "layout": layout,
        "flops": 2 * m * k * n,
        "microseconds": spread(1e6 * ours for ours, _ in pairs),
        "ratio": spread(theirs / ours for ours, theirs in pairs),
        "excess": spread(1e6 * (ours - theirs) for ours, theirs in pairs),
    }


def _summary(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Over large products how many times as fast as NumPy; over small ones how many microseconds more."""
    large = [case for case in cases if case["flops"] >= LARGE]
    small = [case for case in cases if case["flops"] < LARGE]
    worst = min(large, key=lambda case: case["ratio"]["median"])
    slowest = max(small, key=lambda case: case["excess"]["median"])
    return {
        "geometric_mean": math.exp(np.mean([math.log(case["ratio"]["median"]) for case in large])),
        "worst": worst,
        "excess_median": float(np.median([case["excess"]["median"] for case in small])),
        "excess_worst": slowest,
    }


def _shares(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    return {
        "reached": spread(a for a, _ in pairs),
        "possible": spread(b for _, b in pairs),
        "share": spread(a / b for a, b in pairs),
    }
