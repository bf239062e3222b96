"""What must not cross the border of a compiled step: gradients, tensors and objects that a call would leave behind."""

from contextlib import suppress
from functools import partial

import numpy as np
import pytest

import tinygrad_wn as tg
from tinygrad_wn import nn, optim
from tinygrad_wn.errors import CompileError

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


def caught(w, optimizer, schedule):
    def step(x):
        schedule.step()
        with suppress(CompileError):
            descend(w, optimizer, x)

    return step


@pytest.mark.parametrize("make", [scanned, schedule_first, caught])
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
