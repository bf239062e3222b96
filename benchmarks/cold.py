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

@tg.jit
def step(x, y):
    optimizer.zero_grad()
    loss = tg.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss

step(x, y)
compiled = time.perf_counter()
print(json.dumps({
    "numba": numba_there - start,
    "import": imported - numba_there,
    "model": begun - imported,
    "step": stepped - imported,
    "compiled": compiled - stepped,
}))
"""
KINDS = ("empty", "kernels", "warm", "warm", "warm")
"""What is on disk: nothing; machine code of kernels; that of the compiled step, too."""
EMPTY = 3


def run(plan: Plan) -> dict[str, Any]:
    """Seconds of imports, of making a model, of its first digits step, and of the first call of a compiled one."""
    plan.say("cold start")
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for _ in range(1 if plan.quick else EMPTY):
        with tempfile.TemporaryDirectory() as folder:
            for number, kind in enumerate(KINDS):
                steps = f"{folder}/steps_{min(number, 1)}"
                done = subprocess.run(
                    [sys.executable, "-c", SCRIPT],
                    env=environment(1, NUMBA_CACHE_DIR=folder, TINYGRAD_WN_CACHE=steps),
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if done.returncode:
                    plan.errors["cold start"] = done.stderr.strip().splitlines()[-1]
                    return {}
                found[kind].append(json.loads(done.stdout))
    return {kind: {name: spread(one[name] for one in runs) for name in runs[0]} for kind, runs in found.items()}
