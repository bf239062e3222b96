"""Resident memory: the peak of a few steps in a fresh process, and whether many steps make it grow."""

from typing import Any

from .contest import Contest, Entry
from .peers import EAGER, OURS
from .plan import Plan
from .worker import Worker, WorkerError
from .workloads import WORKLOADS

STEPS, START, STRIDE = 20_000, 1_000, 1_000


def run(plan: Plan) -> dict[str, Any]:
    """Megabytes after the import, and at most during ten steps, of each contender; growth over many digits steps."""
    peaks = []
    for workload in plan.workloads:
        plan.say(f"memory: {workload.describe()}")
        entries = Contest(workload, plan.contenders, plan.threads[:1], plan.norms, "sgd", "steps", 1).entries()
        for entry in entries:
            try:
                with Worker("benchmarks.host:Host", entry.threads, entry.contender) as worker:
                    imported, _ = worker.call("memory")
                    worker.call("make", "", workload.task(entry.normalized, "sgd", entry.threads))
                    worker.call("steps", "", 10)
                    _, peak = worker.call("memory")
            except WorkerError as error:
                plan.errors[f"memory: {entry.describe()}"] = str(error)
                continue
            peaks.append(
                {
                    "workload": workload.name,
                    "contender": entry.contender,
                    "normalized": entry.normalized,
                    "imported": imported,
                    "peak": peak,
                    "beyond_import": peak - imported,
                }
            )
    return {
        "peaks": peaks,
        "growth": [found for name in (OURS, EAGER) if name in plan.contenders and (found := _growth(plan, name))],
    }


def _growth(plan: Plan, name: str) -> dict[str, Any] | None:
    steps = STEPS // 10 if plan.quick else STEPS
    plan.say(f"memory: {steps} digits steps")
    entry = Entry(name, 1, normalized=True)
    resident = []
    try:
        with Worker("benchmarks.host:Host", 1, name) as worker:
            worker.call("make", "", WORKLOADS["digits"].task(True, "sgd", 1))
            for _ in range(steps // STRIDE):
                worker.call("steps", "", STRIDE)
                resident.append(worker.call("memory")[0])
    except WorkerError as error:
        plan.errors[f"memory: {entry.describe()}"] = str(error)
        return None
    after = [here - resident[0] for here in resident]
    return {
        "contender": name,
        "steps": steps,
        "from": START,
        "megabytes": resident,
        "most": max(after),
        "least": min(after),
    }
