"""What recording an elementwise op costs beyond its NumPy work."""

from typing import Any

from .contest import spread
from .plan import Plan
from .worker import Worker, WorkerError

SIZES = (32, 2048)
"""Numbers in an array: next to no work, and a hidden layer of the digits."""


def run(plan: Plan) -> list[dict[str, Any]]:
    """Microseconds of recorded ops, of NumPy, and the difference, on float32 arrays that require a gradient."""
    plan.say("overhead")
    try:
        with Worker("benchmarks.matrices:Matrices", 1, "1") as worker:
            return [
                {
                    "op": name,
                    "size": size,
                    "microseconds": spread(1e6 * ours for ours, _ in pairs),
                    "numpy": spread(1e6 * theirs for _, theirs in pairs),
                    "excess": spread(1e6 * (ours - theirs) for ours, theirs in pairs),
                }
                for size in SIZES
                for name, pairs in worker.call("overhead", size, 10 * plan.rounds).items()
            ]
    except WorkerError as error:
        plan.errors["overhead"] = str(error)
        return []
