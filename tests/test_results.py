"""What a compiled step gives and writes: results, arrays that are read-only, tensors that are assigned."""

from dataclasses import dataclass
from enum import Enum
from functools import partial

import numpy as np
import pytest
from test_borders import one

import tinygrad_wn as tg
from tinygrad_wn import nn, optim
from tinygrad_wn.errors import CompileError, DTypeError, GradientError, ShapeError, ValueRangeError
from tinygrad_wn.op import OPS

pytestmark = pytest.mark.once


class Box:
    def __init__(self, value):
        self.value = value


@dataclass(frozen=True)
class Frozen:
    value: object


class Color(Enum):
    RED = 1


PLAIN = (1, 2.5, "text", None, True, np.dtype("f4"), 2j, b"bytes", Color.RED)

RESULTS = {
    "an object": Box,
    "a frozen dataclass": Frozen,
    "a closure": lambda y: lambda: y,
    "a partial": lambda y: partial(print, y),
    "an iterator": lambda y: map(str, [y]),
    "an object in a list": lambda y: [1, {"a": (Box(y), 2)}],
}


@pytest.mark.parametrize("kind", RESULTS)
def test_results_that_may_hold_tensors_are_refused(kind):
    with pytest.raises(CompileError, match="cannot return this"):
        tg.jit(lambda x: RESULTS[kind](x * 2))(one())


def test_scans_do_not_write_to_read_only_memory():
    def adds(x):
        tg.add.into((x,), x, 1.0)
        return x * 1

    kept = tg.zeros((3, 2))
    kept._data.flags.writeable = False
    step = tg.jit(adds)
    step(tg.zeros(2)), step(tg.zeros(2))
    for function in (adds, step):
        with pytest.raises(GradientError, match="must not write"):
            tg.scan(function, kept)
        np.testing.assert_array_equal(kept.numpy(), 0)


def test_plain_results_are_given_as_they_are():
    step = tg.jit(lambda x: {"y": x * 2, "n": PLAIN})
    for value in (1.0, 3.0):
        found = step(one(value))
        assert found["y"].item() == 2 * value
        assert found["n"] == PLAIN


def test_a_first_call_that_raises_writes_nothing():
    model = nn.weight_norm(nn.Linear(2, 3, rng=0))
    optimizer = optim.Adam(model.parameters())
    x = np.ones((4, 2), np.float32)

    def step(x, labels):
        optimizer.zero_grad()
        tg.cross_entropy(model(x), [0, 1, 2, 0]).backward()
        optimizer.step()
        return tg.cross_entropy(model(x), labels)

    before = [p.numpy().copy() for p in model.parameters()]
    with pytest.raises(ValueRangeError):
        tg.jit(step)(x, np.array([0, 1, 2, 7]))
    for p, old in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.numpy(), old)
    assert [float(state["step"]) for state in optimizer.state if state] in ([], [0.0] * 3)


def test_read_only_arguments_are_not_written_to():
    step = tg.jit(lambda x: tg.add.into((x,), x, 1.0))
    kept = np.zeros((3, 2), np.float32)
    kept.flags.writeable = False
    with pytest.raises(GradientError, match="must not write"):
        step(kept)
    step(np.zeros((3, 2), np.float32))
    for x in (kept, kept.T.copy().T, kept[:, ::1]):
        x.flags.writeable = False
        with pytest.raises(GradientError, match="must not write"):
            step(x)
        np.testing.assert_array_equal(x, 0)


def test_nothing_is_written_where_one_of_several_arrays_is_read_only():
    p, mean, slope = (tg.ones(3) for _ in range(3))
    mean._data.flags.writeable = False
    with pytest.raises(GradientError, match="must not write"):
        OPS["momentum_update"].into((p, mean), 0.1, p, mean, slope, momentum=0.9, nesterov=False, weight_decay=0.0)
    np.testing.assert_array_equal(p.numpy(), 1)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_a_tensor_is_assigned_in_the_dtype_of_the_target(dtype):
    kept = tg.zeros(2)

    @tg.jit
    def step(x):
        kept.data = x * 2
        return kept.sum()

    for k in (1, 2):
        assert step(tg.full(2, k, dtype)).item() == 4 * k
        assert (kept.numpy().tolist(), str(kept.dtype)) == ([2 * k, 2 * k], "float32")
    whole = tg.zeros(2, "int64")
    for target, bad in ((kept, tg.ones(3)), (whole, tg.ones(2))):
        with pytest.raises((ShapeError, DTypeError)):
            tg.jit(partial(setattr, target, "data"))(bad)
        assert target.numpy().tolist() == ([4, 4] if target is kept else [0, 0])


def test_values_do_not_leave_a_step_as_text():
    step = tg.jit(lambda x: (x * 2, str(x * 2), f"{x}", repr(x)))
    for value in (1.0, 2.0):
        doubled, *texts = step(one(value))
        assert doubled.item() == 2 * value
        assert texts == ["Tensor(in a compiled step, float32 [1])"] * 3


def test_a_list_of_betas_is_a_tuple():
    w = tg.tensor([1.0], requires_grad=True)
    optimizer = optim.Adam([{"params": [w], "betas": [0.5, 0.9]}])
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.9)
