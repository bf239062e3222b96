"""What runs in the process that measures kernels alone: each beside what it is held against, by turns."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

import tinygrad_wn as tg
from tinygrad_wn.kernels import weight_norm as fill_weight_norm, weight_norm_pullback as fill_pullback
from tinygrad_wn.ops.norm import weight_norm_pullback

from . import peak
from .task import Array

TURN = 5e-4
"""Seconds a turn of one side aims at."""


class Matrices:
    """Methods give lists of seconds a call, a pair for each round, or ratios of them."""

    def __init__(self, threads: str) -> None:
        tg.set_num_threads(int(threads))
        self.rng = np.random.default_rng(0)

    def matmul(self, m: int, k: int, n: int, layout: str, rounds: int) -> list[tuple[float, float]]:
        """`tg.matmul` and `np.matmul` of float32, as A·B, A·Bᵀ or Aᵀ·B; the results are compared first."""
        a = tg.tensor(self._normal(k, m)).T if layout == "AᵀB" else tg.tensor(self._normal(m, k))
        b = tg.tensor(self._normal(n, k)).T if layout == "ABᵀ" else tg.tensor(self._normal(k, n))
        x, y = a.numpy(), b.numpy()
        assert (x.flags.c_contiguous, y.flags.c_contiguous) == (layout != "AᵀB" or m == 1, layout != "ABᵀ" or n == 1)
        with tg.no_grad():
            np.testing.assert_allclose(tg.matmul(a, b).numpy(), x @ y, rtol=0, atol=1e-5 * k)
            return [(one, other) for one, other in by_turns([lambda: tg.matmul(a, b), lambda: np.matmul(x, y)], rounds)]

    def matmul_seconds(self, m: int, k: int, n: int) -> float:
        """Seconds of one product through `tg.matmul`."""
        a, b = tg.tensor(self._normal(m, k)), tg.tensor(self._normal(k, n))
        with tg.no_grad():
            return by_turns([lambda: tg.matmul(a, b)], 3)[-1][0]

    def peak_share(self, m: int, k: int, n: int, rounds: int) -> list[tuple[float, float]]:
        """Flops a second of one product, and those of the peak, in turn."""
        return [
            (2 * m * k * n / self.matmul_seconds(m, k, n), max(peak.flops() for _ in range(3))) for _ in range(rounds)
        ]

    def norms(self, rows: int, columns: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
        """Norm and weight norm of rows, forward and pullback: kernels, and the NumPy definitions."""
        v, g, ct = (tg.tensor(self._normal(*shape)) for shape in ((rows, columns), (rows, 1), (rows, columns)))
        _, pull = tg.vjp(lambda v: tg.linalg.vector_norm(v, axis=1, keepdims=True), v)
        calls: dict[str, Callable[[], Any]] = {
            "vector_norm": lambda: tg.linalg.vector_norm(v, axis=1, keepdims=True),
            "vector_norm pullback": lambda: pull(g),
            "weight_norm": lambda: tg.weight_norm(v, g),
            "weight_norm pullback": lambda: weight_norm_pullback(ct, v, g, axis=0),
        }
        with tg.no_grad():
            return {name: [(a, b) for a, b in by_turns([call, _defined(call)], rounds)] for name, call in calls.items()}

    def bandwidth(self, rows: int, columns: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
        """Bytes a second of weight_norm and its pullback, and of `np.copyto`, in turn.

        Bytes are those that must move: read v, write w; read ct and v, write dv. Results go into arrays that exist.
        """
        v, g, ct, w = (self._normal(*shape) for shape in ((rows, columns), (rows, 1), (rows, columns), (rows, columns)))
        dg = np.empty_like(g)
        calls: dict[str, tuple[int, Callable[[], Any]]] = {
            "weight_norm": (2, lambda: fill_weight_norm(w, v, g, axis=0)),
            "weight_norm pullback": (3, lambda: fill_pullback(w, dg, ct, v, g, axis=0)),
        }
        return {
            name: [
                (moved * v.nbytes / ours, 2 * v.nbytes / copied)
                for ours, copied in by_turns([call, lambda: np.copyto(w, v)], rounds)
            ]
            for name, (moved, call) in calls.items()
        }

    def overhead(self, size: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
        """Elementwise ops that are recorded, and the NumPy function that does their work."""
        a, b = np.full(size, 0.5, np.float32), np.full(size, 0.75, np.float32)
        x, y = tg.tensor(a, requires_grad=True), tg.tensor(b, requires_grad=True)
        pairs: dict[str, list[Callable[[], Any]]] = {
            "x + y": [lambda: x + y, lambda: a + b],
            "x * y": [lambda: x * y, lambda: a * b],
            "x / y": [lambda: x / y, lambda: a / b],
            "x * 2.0": [lambda: x * 2.0, lambda: a * 2.0],
            "exp(x)": [lambda: tg.exp(x), lambda: np.exp(a)],
            "tanh(x)": [lambda: tg.tanh(x), lambda: np.tanh(a)],
        }
        return {name: [(one, other) for one, other in by_turns(pair, rounds)] for name, pair in pairs.items()}

    def _normal(self, *shape: int) -> Array:
        return self.rng.standard_normal(shape, np.float32)


def by_turns(calls: list[Callable[[], Any]], rounds: int) -> list[list[float]]:
    """Seconds a call of each, round by round; sides swap places each round."""
    counts = [max(1, round(TURN / max(_seconds(call, 1), 1e-9))) for call in calls for _ in range(2)][1::2]
    counts = [max(1, round(TURN * n / _seconds(call, n))) for call, n in zip(calls, counts, strict=True)]
    found = []
    for number in range(rounds):
        order = range(len(calls)) if number % 2 else reversed(range(len(calls)))
        seconds = {i: _seconds(calls[i], counts[i]) / counts[i] for i in order}
        found.append([seconds[i] for i in range(len(calls))])
    return found


def _seconds(call: Callable[[], Any], n: int) -> float:
    start = perf_counter()
    for _ in range(n):
        call()
    return perf_counter() - start


def _defined(call: Callable[[], Any]) -> Callable[[], Any]:
    def defined() -> Any:
        with tg.kernels(False):
            return call()

    return defined
