"""What must not cross the border of a compiled step: gradients, tensors and objects that a call would leave behind."""

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import tinygrad_wn as tg
from tinygrad_wn import nn, optim
from tinygrad_wn.errors import CompileError, DTypeError, GradientError, ShapeError, ValueRangeError
from tinygrad_wn.op import OPS

pytestmark = pytest.mark.once


def one(value=1.0):
    return tg.tensor([float(value)])


def weight(value=1.0, lr=1.0, make=optim.SGD):
    w = tg.tensor([value], requires_grad=True)
    return w, make([w], lr=lr)


def descend(w, optimizer, x):
    optimizer.zero_grad()
    (w * x).sum().backward()
    optimizer.step()


def scanned(w, optimizer, schedule):
    def each(x):
        descend(w, optimizer, x)
        schedule.step()
        return w * 1

    return lambda x: tg.scan(each, tg.stack([x, x]))


def schedule_first(w, optimizer, schedule):
    def step(x):
        schedule.step()
        descend(w, optimizer, x)

    return step


@pytest.mark.parametrize("make", [scanned, schedule_first])
def test_a_schedule_does_not_come_before_its_optimizer(make):
    w, optimizer = weight()
    schedule = optim.Step(optimizer, every=1, factor=0.5)
    with pytest.raises(CompileError, match="after that of its schedule"):
        tg.jit(make(w, optimizer, schedule))(one())
    assert (w.item(), schedule.count, optimizer.param_groups[0]["lr"]) == (1.0, 0, 1.0)


def test_schedules_of_two_optimizers_take_turns():
    kinds = []
    for wrap in (tg.jit, lambda function: function):
        pairs = [weight(lr=rate) for rate in (1.0, 0.5)]
        schedules = [optim.Step(optimizer, every=1, factor=0.5) for _, optimizer in pairs]

        def step(x, pairs=pairs, schedules=schedules):
            for (w, optimizer), schedule in zip(pairs, schedules, strict=True):
                descend(w, optimizer, x)
                schedule.step()

        step = wrap(step)
        for k in range(4):
            step(one(k))
        kinds.append([w.item() for w, _ in pairs])
    assert kinds[0] == kinds[1]


def optimizer_alone():
    w, optimizer = weight()
    w.grad = one()
    return lambda _: optimizer.step()


def clipped_alone():
    w, _ = weight()
    w.grad = one(9.0)
    return lambda _: optim.clip_grad_norm([w], 1.0)


def added_up():
    w, _ = weight()
    w.grad = one()
    return lambda x: (w * x).sum().backward()


@pytest.mark.parametrize("make", [optimizer_alone, clipped_alone, added_up])
def test_gradients_from_outside_are_refused(make):
    with pytest.raises(CompileError, match=r"\.grad from outside"):
        tg.jit(make())(one())


def test_a_gradient_that_is_a_constant_is_the_steps_own():
    kinds = []
    for wrap in (tg.jit, lambda function: function):
        w, optimizer = weight()

        @wrap
        def step(w=w, optimizer=optimizer):
            optimizer.zero_grad()
            w.sum().backward()
            optimizer.step()

        for _ in range(3):
            step()
        kinds.append(w.item())
        assert wrap is not tg.jit or w.grad is None
    assert kinds == [-2.0, -2.0]


def writes_to_zeros(x):
    total = tg.zeros(1)
    tg.add.into((total,), total, x)
    return total * 1


def writes_to_a_view(x):
    total = tg.zeros((1, 1))
    total.reshape(1).data = x
    return total * 1


def makes_batch_norm(x):
    return nn.BatchNorm1d(1)(tg.stack([x, x + 1]))


def makes_an_optimizer(x):
    w = tg.tensor([1.0], requires_grad=True)
    descend(w, optim.SGD([w], lr=0.1, momentum=0.9), x)
    return w


@pytest.mark.parametrize("function", [writes_to_zeros, writes_to_a_view, makes_batch_norm, makes_an_optimizer])
def test_what_a_step_makes_does_not_last(function):
    with pytest.raises(CompileError, match=r"is made in the step|making an optimizer"):
        tg.jit(function)(one())


def test_constants_that_are_returned_are_new_in_each_call():
    made = tg.jit(lambda: (tg.zeros(2), tg.ones(2, dtype="int64")))
    for _ in range(3):
        zeros, ones = made()
        np.testing.assert_array_equal(zeros.numpy(), [0, 0])
        np.testing.assert_array_equal(ones.numpy(), [1, 1])
        zeros.data = [5.0, 5.0]


def test_a_tensor_that_is_computed_is_not_kept_in_the_state_of_an_optimizer():
    class Keeps(optim.Optimizer):
        def begin(self, p):
            return {"mean": tg.zeros(p.shape, p.dtype)}

        def update(self, p, g, state, group):
            state["mean"] = state["mean"] * 0.5 + g
            p.data = p - group["lr"] * state["mean"]

    w = tg.tensor([1.0], requires_grad=True)
    with pytest.raises(CompileError, match="keeping a tensor"):
        tg.jit(partial(descend, w, Keeps([w], {"lr": 1.0})))(one())


class Box:
    def __init__(self, value):
        self.value = value


@dataclass(frozen=True)
class Frozen:
    value: object


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


def test_plain_results_are_given_as_they_are():
    step = tg.jit(lambda x: {"y": x * 2, "n": (1, 2.5, "text", None, True, np.dtype("f4"))})
    for value in (1.0, 3.0):
        found = step(one(value))
        assert found["y"].item() == 2 * value
        assert found["n"] == (1, 2.5, "text", None, True, np.dtype("f4"))


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


def test_a_list_of_options_is_a_tuple():
    w = tg.tensor([1.0], requires_grad=True)
    optimizer = optim.Adam([{"params": [w], "betas": [0.5, 0.9]}])
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.9)
    optimizer.param_groups[0].update(betas=[0.1, 0.2])
    optimizer.param_groups[0]["betas"] = [*optimizer.param_groups[0]["betas"]]
    assert optimizer.param_groups[0]["betas"] == (0.1, 0.2)


OP = """
import tinygrad_wn as tg
from tinygrad_wn.domains import Array, Real
from tinygrad_wn.kernels.jit import kernel
from tinygrad_wn.op import case, op
from tinygrad_wn.shapes import same

SLOPE = {slope}

@kernel
def slope_of():
    return {other}

@op(cases=[case("(n)")], shape=same, elementwise=True, gradient=False)
def slanted(x: Real) -> Array:
    return x * SLOPE + slope_of()

x = tg.ones(1)
step = tg.jit(lambda x: slanted(x))
assert step(x).item() == step(x).item() == slanted(x).item() == {slope} + {other}
"""


def test_machine_code_on_disk_knows_what_an_op_finds_in_its_module(tmp_path):
    for slope, other in ((1.5, 0.0), (3.0, 0.0), (3.0, 2.0)):
        (tmp_path / "slanted_op.py").write_text(OP.format(slope=slope, other=other))
        done = subprocess.run(
            [sys.executable, str(tmp_path / "slanted_op.py")],
            env=os.environ | {"TINYGRAD_WN_CACHE": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_a_folder_beside_the_package_is_not_the_package(tmp_path):
    beside = f"{Path(tg.__file__).parent}_experiments/main.py"
    names = {"tg": tg}
    exec(compile("scale = 1.0\nstep = tg.jit(lambda x: x * scale)", beside, "exec"), names)
    for scale in (1.0, 5.0):
        names["scale"] = scale
        assert [names["step"](one()).item() for _ in range(2)] == [scale, scale]
