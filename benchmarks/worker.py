"""A process of its own for each contender: own thread pools, own BLAS, own memory.

The parent calls methods of an object that lives in the worker; requests and replies are pickles on its standard input
and output. What a library prints goes to standard error, whose last line says why a worker died.
"""

import os
import pickle
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

POOLS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NPROC",  # XLA's pool
)
SWITCHES = ("NUMBA_DISABLE_JIT", "TINYGRAD_WN_KERNELS")
"""What would make the package something else than what is measured."""


class WorkerError(RuntimeError):
    """A worker ended before it answered."""


class Callee(Protocol):
    """Something whose methods can be called by name: a worker, or an object of this process in a test."""

    def call(self, method: str, *arguments: Any) -> Any:
        """The method's result."""

    def close(self) -> None:
        """Let it go."""


def environment(threads: int, **more: str) -> dict[str, str]:
    """The environment of a process that may use `threads` threads."""
    root = str(Path(__file__).parent.parent)
    found = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    found |= dict.fromkeys(POOLS, str(threads))
    if threads == 1:
        found["XLA_FLAGS"] = f"{found.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
    found["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [found.get("PYTHONPATH")])])
    return found | more


class Worker:
    """A process that makes an object of the class `home` ("module:Class") from `arguments` and calls its methods."""

    def __init__(self, home: str, threads: int, *arguments: str) -> None:
        """Start it; this does not wait."""
        errors, path = tempfile.mkstemp()
        self.errors = Path(path)
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, home, *arguments],
            env=environment(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        os.close(errors)

    def call(self, method: str, *arguments: Any) -> Any:
        """The result of a method of the object. Raises WorkerError when the process dies over it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            pickle.dump((method, arguments), self.process.stdin)
            self.process.stdin.flush()
            return pickle.load(self.process.stdout)
        except (BrokenPipeError, EOFError):
            raise self._died() from None

    def _died(self) -> WorkerError:
        code = self.process.wait()
        lines = self.errors.read_text(errors="replace").strip().splitlines()
        return WorkerError(lines[-1] if lines else f"the process ended with code {code}")

    def close(self) -> None:
        """End the process."""
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                continue
        self.process.wait()
        self.errors.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is not None:
            self.process.kill()
        self.close()


def serve(home: str, *arguments: str) -> None:
    """Answer calls until the parent closes the pipe."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    module, _, name = home.partition(":")
    found = getattr(import_module(module), name)(*arguments)
    while True:
        try:
            method, given = pickle.load(requests)
        except EOFError:
            return
        pickle.dump(getattr(found, method)(*given), replies)
        replies.flush()


if __name__ == "__main__":
    serve(*sys.argv[1:])
