"""What runs in the process of a contender: its models, their clock, and their memory."""

from pathlib import Path
from time import perf_counter, process_time

from . import peers
from .peers.base import Contender
from .task import Array, Arrays, Task

WARM = 2


class Host:
    """Holds models by name; the parent calls these methods through `worker.Worker`."""

    def __init__(self, contender: str) -> None:
        """Import the framework of a contender."""
        self.contender = peers.contender(contender)
        self.models: dict[str, Contender] = {}

    def make(self, key: str, task: Task) -> None:
        """Build a model, known as `key` from now on."""
        self.models[key] = self.contender(task)

    def gradients(self, key: str, i: int) -> tuple[float, Arrays]:
        """Loss and gradients at batch `i`."""
        return self.models[key].gradients(i)

    def outputs(self, key: str, i: int) -> Array:
        """What the last layer gives at batch `i`."""
        return self.models[key].outputs(i)

    def steps(self, key: str, n: int) -> None:
        """Take `n` steps."""
        model = self.models[key]
        model.prepare(n)
        model.steps()

    def time(self, key: str, what: str, n: int) -> tuple[float, float, int]:
        """Seconds of the clock and of all cores for at least `n` "steps" or "predictions", and how many they were."""
        model = self.models[key]
        run = getattr(model, what)
        for count in (max(WARM, model.fewest), n := max(n, model.fewest)):
            model.prepare(count)
            start, busy = perf_counter(), process_time()
            run()
            seconds = perf_counter() - start, process_time() - busy
        return *seconds, n

    def memory(self) -> tuple[float, float]:
        """Resident megabytes of this process: now, and at most so far."""
        return memory()


def memory() -> tuple[float, float]:
    """Resident megabytes of this process: now, and at most so far. Linux only, as /proc tells it.

    The peak that `getrusage` knows may be that of the process which started this one.
    """
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    now, peak = (int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return now, peak
