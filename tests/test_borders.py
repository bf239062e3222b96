"""What must not cross the border of a compiled step: gradients, tensors and objects that a call would leave behind."""

import importlib
import os
import subprocess
import sys
from dataclasses import dataclass
from enum import Enum
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


class Heavy(optim.Optimizer):
    """A rule whose rate Python computes with."""

    def begin(self, p):
        return {"means": [tg.zeros(p.shape, p.dtype)]}

    def update(self, p, g, state, group):
        state["means"][0].data = 0.9 * state["means"][0] + g
        p.data = p - group["lr"] * state["means"][0]


def test_a_rule_of_a_user_goes_with_a_schedule_in_the_step():
    kinds = []
    for wrap in (tg.jit, lambda function: function):
        w, optimizer = weight(make=lambda p, lr: Heavy(p, {"lr": lr}))
        schedule = optim.Step(optimizer, every=1, factor=0.5)

        @wrap
        def step(x, w=w, optimizer=optimizer, schedule=schedule):
            descend(w, optimizer, x)
            schedule.step()

        for _ in range(4):
            step(one())
        kinds.append(w.item())
    np.testing.assert_allclose(*kinds, rtol=1e-6)


def test_lists_in_states_and_options_stay_lists():
    class Notes(optim.Optimizer):
        def begin(self, p):
            return {"history": []}

        def update(self, p, g, state, group):
            state["history"].append(g.item())
            group["seen"].append(g.item())

    w = tg.tensor([1.0], requires_grad=True)
    optimizer = Notes([w], {"lr": 1.0, "seen": []})
    for k in (1.0, 2.0):
        descend(w, optimizer, one(k))
    assert optimizer.state[0]["history"] == optimizer.param_groups[0]["seen"] == [1.0, 2.0]


@pytest.mark.parametrize("make", [lambda o: o.param_groups[0]["params"], lambda o: [o.param_groups[0]["lr"]]])
def test_a_step_may_name_the_groups_of_an_optimizer_with_a_schedule(make):
    w, optimizer = weight()
    schedule = optim.Step(optimizer, every=1, factor=0.5)

    @tg.jit
    def step(x):
        found = make(optimizer)
        descend(w, optimizer, x)
        schedule.step()
        return len(found)

    assert [step(one()) for _ in range(3)] == [1, 1, 1]
    assert w.item() == 1 - 1 - 0.5 - 0.25


def unused(w, b, x, kept):
    return zip((w, b), tg.square(w * x).sum().gradient(w, b), strict=True)


def zeros(w, b, x, kept):
    return (w, x * 1), (b, tg.zeros(1))


def from_outside(w, b, x, kept):
    return (w, kept), (b, kept * 1)


@pytest.mark.parametrize("gradients", [unused, zeros, from_outside])
def test_gradients_that_the_step_assigns_are_its_own(gradients):
    kinds = []
    for wrap in (tg.jit, lambda function: function):
        w, b = (tg.tensor([1.0], requires_grad=True) for _ in range(2))
        optimizer, kept = optim.SGD([w, b], lr=0.25), one(0.5)

        @wrap
        def step(x, w=w, b=b, optimizer=optimizer, kept=kept):
            for p, g in gradients(w, b, x, kept):
                p.grad = g
            optimizer.step()

        for k in (1.0, 2.0):
            kept.data = [k]
            step(one(k))
        kinds.append((w.item(), b.item()))
    assert kinds[0] == kinds[1]


def test_a_copy_of_a_tensor_from_outside_is_one_in_each_run():
    source, target = one(0.0), one(9.0)
    copies = tg.jit(lambda: (setattr(target, "data", tg.tensor(source)), tg.tensor(source) * 2)[1])
    for k in (1.0, 2.0, 3.0):
        source.data = [k]
        assert (copies().item(), target.item()) == (2 * k, k)


def test_sharpness_aware_steps():
    kinds = []
    for wrap in (tg.jit, lambda function: function):
        w, optimizer = weight(lr=0.5)

        @wrap
        def step(x, w=w, optimizer=optimizer):
            optimizer.zero_grad()
            tg.square(w * x).sum().backward()
            old = tg.tensor(w)
            w.data = w + 0.1 * w.grad
            optimizer.zero_grad()
            tg.square(w * x).sum().backward()
            w.data = old
            optimizer.step()

        for k in (0.5, 0.75, 1.0):
            step(one(k))
        kinds.append(w.item())
    np.testing.assert_allclose(*kinds, rtol=1e-6)


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


MODULE = """
import numpy as np
import slanted_numbers
import tinygrad_wn as tg
from tinygrad_wn.domains import Array, Real
from tinygrad_wn.op import case, op
from tinygrad_wn.shapes import same

TABLE = np.zeros(2000)
TABLE[1000] = {table!r}

@op(cases=[case("(n)")], shape=same, elementwise=True, gradient=False)
def slanted(x: Real) -> Array:
    return x * slanted_numbers.SLOPE + TABLE[1000]

x = tg.ones(1, "float64")
step = tg.jit(lambda x: slanted(x))
assert step(x).item() == step(x).item() == slanted(x).item() == {slope!r} + {table!r}
"""


def test_machine_code_on_disk_knows_other_modules_and_every_number(tmp_path):
    for slope, table in ((1.5, 0.0), (3.0, 0.0), (3.0, 1.0), (3.0, 1.0000000000001)):
        (tmp_path / "slanted_op.py").write_text(MODULE.format(slope=slope, table=table))
        (tmp_path / "slanted_numbers.py").write_text(f"SLOPE = {slope!r}")
        done = subprocess.run(
            [sys.executable, str(tmp_path / "slanted_op.py")],
            env=os.environ | {"TINYGRAD_WN_CACHE": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")


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


def test_a_folder_of_modules_is_code_of_the_user(tmp_path, monkeypatch):
    folder = tmp_path / "settings_of_a_test"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = importlib.import_module(folder.name)
    settings.scale = 1.0
    step = tg.jit(lambda x: x * settings.scale)
    for scale in (1.0, 5.0):
        settings.scale = scale
        assert [step(one()).item() for _ in range(2)] == [scale, scale]


def test_a_machine_without_a_home_folder_compiles(monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(importlib.import_module("tinygrad_wn.kernels.emitted"), "cache_folder", nowhere)
    assert [tg.jit(lambda x: x * 1.0625)(one(2.0)).item() for _ in range(2)] == [2.125, 2.125]


def test_a_folder_beside_the_package_is_not_the_package(tmp_path):
    beside = f"{Path(tg.__file__).parent}_experiments/main.py"
    names = {"tg": tg}
    exec(compile("scale = 1.0\nstep = tg.jit(lambda x: x * scale)", beside, "exec"), names)
    for scale in (1.0, 5.0):
        names["scale"] = scale
        assert [names["step"](one()).item() for _ in range(2)] == [scale, scale]
