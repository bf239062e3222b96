"""A step computes with no numbers below the smallest normal one that it was not given: some processors are slow there.

They come from what lay in memory before, in lanes of a vector that nobody asks for. The processor itself says whether
it met one.
"""

import ctypes
import ctypes.util
import platform
from collections.abc import Callable

import numpy as np
import pytest

import tinygrad_wn as tg
from tinygrad_wn import nn, optim

MATHS = ctypes.util.find_library("m") if (platform.system(), platform.machine()) == ("Linux", "x86_64") else None
FLAGS, SUBNORMAL, PLACE = 0x3F, 0x02, 7
"""Flags that stay up until somebody takes them down, that of a subnormal operand, and the word of MXCSR in `fenv_t`."""

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(MATHS is None, reason="asks an x86 processor, by the library of Linux"),
    pytest.mark.usefixtures("many_steps"),
]


def meets_one(call: Callable[[], object]) -> bool:
    """Whether a call does, when it is not the first, which reads or compiles kernels."""
    call()
    maths, words = ctypes.CDLL(MATHS), (ctypes.c_uint32 * 8)()
    maths.fegetenv(words)
    words[PLACE] &= ~FLAGS
    maths.fesetenv(words)
    call()
    maths.fegetenv(words)
    return bool(words[PLACE] & SUBNORMAL)


def test_the_processor_says_so() -> None:
    tiny, large = tg.full((3,), 1e-310, dtype="float64"), tg.ones(3, dtype="float64")
    assert meets_one(lambda: tg.add(tiny, large))
    assert not meets_one(lambda: tg.add(large, large))


def compiled(model: nn.Module, optimizer: optim.Optimizer) -> Callable[[tg.Tensor, tg.Tensor], tg.Tensor]:
    @tg.jit
    def step(x: tg.Tensor, y: tg.Tensor) -> tg.Tensor:
        optimizer.zero_grad()
        loss = tg.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


@pytest.mark.parametrize("normed", [True, False], ids=["weight norm", "plain"])
@pytest.mark.parametrize("widths", [(2, 16, 2), (9, 33, 10), (64, 32, 5)])
def test_a_compiled_step(widths: tuple[int, int, int], normed: bool) -> None:
    rng = np.random.default_rng(0)
    i, h, o = widths
    model: nn.Module = nn.Sequential(nn.Linear(i, h, rng=0), nn.ReLU(), nn.Linear(h, o, rng=1))
    model = nn.weight_norm(model) if normed else model
    step = compiled(model, optim.SGD(model.parameters(), lr=0.01, momentum=0.9))
    x, y = tg.tensor(rng.standard_normal((20, i)), "float32"), tg.tensor(rng.integers(0, o, 20))
    for _ in range(3):
        step(x, y)
    assert not any(meets_one(lambda: step(x, y)) for _ in range(20))


@pytest.mark.parametrize("size", [1e-2, 1e-16, 1e-18, 1e-20])
def test_adam_where_no_input_reaches_v(size: float) -> None:
    """There ∇v has a part along v alone, however small v is, and Adam makes it smaller."""
    rng = np.random.default_rng(0)
    layer = nn.Linear(24, 5, rng=0)
    v = layer.weight.numpy().copy()
    v[:, ::2] = size * np.sign(v[:, ::2])
    layer.weight.data = v
    model = nn.weight_norm(layer)
    step = compiled(model, optim.Adam(model.parameters(), lr=1e-3))
    inputs = rng.standard_normal((20, 24))
    inputs[:, ::2] = 0
    x, y = tg.tensor(inputs, "float32"), tg.tensor(rng.integers(0, 5, 20))
    for _ in range(2000):
        step(x, y)
    assert not any(meets_one(lambda: step(x, y)) for _ in range(20))
