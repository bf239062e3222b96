"""Cold start, each time in a fresh process: the import, and the first step with and without machine code on disk."""

import json
import subprocess
import sys
import tempfile
from typing import Any

from .contest import spread
from .plan import Plan
from .worker import environment

SCRIPT = """
import json, time
start = time.perf_counter()
import numba
numba_there = time.perf_counter()
import tinygrad_wn as tg
imported = time.perf_counter()
x, y = next(tg.data.batches(tg.data.digits(), 32, rng=0))
model = tg.nn.Sequential(
    tg.nn.Linear(64, 64, rng=0), tg.nn.ReLU(), tg.nn.Linear(64, 32, rng=1), tg.nn.ReLU(), tg.nn.Linear(32, 10, rng=2)
)
tg.nn.weight_norm(model)
optimizer = tg.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
begun = time.perf_counter()
optimizer.zero_grad()
tg.cross_entropy(model(x), y).backward()
optimizer.step()
stepped = time.perf_counter()
print(json.dumps({
    "numba": numba_there - start,
    "import": imported - numba_there,
    "model": begun - imported,
    "step": stepped - imported,
}))
"""
WARM, EMPTY = 9, 3


def run(plan: Plan) -> dict[str, Any]:
    """Seconds of numba's import, of the package's beyond it, of making a model, and its first digits step, too."""
    plan.say("cold start")
    found: dict[str, list[dict[str, float]]] = {"empty": [], "warm": []}
    for _ in range(1 if plan.quick else EMPTY):
        with tempfile.TemporaryDirectory() as folder:
            for number in range(1 + WARM // EMPTY):
                done = subprocess.run(
                    [sys.executable, "-c", SCRIPT],
                    env=environment(1, NUMBA_CACHE_DIR=folder),
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if done.returncode:
                    plan.errors["cold start"] = done.stderr.strip().splitlines()[-1]
                    return {}
                found["warm" if number else "empty"].append(json.loads(done.stdout))
    return {kind: {name: spread(one[name] for one in runs) for name in runs[0]} for kind, runs in found.items()}
