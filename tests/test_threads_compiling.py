"""Eager calls in one thread while another thread compiles a step."""

import threading
from typing import Any

import numpy as np
import pytest

import tinygrad_wn as tg

pytestmark = pytest.mark.once


def test_eager_calls_go_on_while_a_step_is_compiled(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls with layouts that have to be converted are those for which Numba would compile if it could."""
    monkeypatch.setenv("TINYGRAD_WN_CACHE", str(tmp_path))  # so that there is something to compile
    layer, over = tg.nn.Linear(3, 3, rng=0), threading.Event()
    x = np.ones((8, 3), np.float32)
    layouts = [x, x[::2], np.asfortranarray(x), x[:, ::-1]]
    expected, calls = [layer(one).numpy().copy() for one in layouts], 0

    def compiles() -> None:
        try:
            for n in range(3):
                tg.jit(lambda x, n=n: tg.tanh(layer(x)) * (n + 0.5) + x)(x)
        finally:
            over.set()

    thread = threading.Thread(target=compiles)
    thread.start()
    try:
        while not over.is_set() or not calls:
            for one, values in zip(layouts, expected, strict=True):
                y = layer(one)
                np.testing.assert_array_equal(y.numpy(), values)
                y.sum().backward()
            calls += 1
    finally:
        thread.join()


@pytest.mark.parametrize(("shape", "brief"), [((3, 4), True), ((200, 600), False), ((300, 300), False)])
def test_only_a_brief_step_keeps_other_threads_waiting(shape: tuple[int, int], brief: bool) -> None:
    """A long one, of many numbers or of a large product, gives others their turn."""
    x = np.random.default_rng(0).standard_normal(shape).astype("f4")

    def function(x: Any) -> Any:
        return tg.tanh(x) if shape[0] != shape[1] else tg.matmul(x, x)

    step = tg.jit(function)
    for _ in range(3):
        np.testing.assert_allclose(step(x).numpy(), function(x).numpy(), rtol=1e-4, atol=1e-4)
    assert step._last().brief is (step._last().direct is not None) is brief
