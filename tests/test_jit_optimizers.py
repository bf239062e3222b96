"""Compiled steps and what users do to optimizers: states replaced, rules of their own, parameters as arguments."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided
from numpy.testing import assert_allclose

import tinygrad_wn as tg
from tinygrad_wn import nn, optim
from tinygrad_wn.errors import CompileError

pytestmark = pytest.mark.once

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((8, 6)).astype(np.float32), RNG.integers(0, 5, 8)
MAKES = {
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    "Adam": lambda p: optim.Adam(p, lr=0.01),
}


def training(make, more=lambda w: 0.0):
    """A model, its optimizer, and a function that is a step, with something beside it that reads before the update."""
    model = nn.weight_norm(nn.Linear(6, 5, rng=0))
    optimizer = make(model.parameters())

    def step(x, y, *given):
        optimizer.zero_grad()
        loss = tg.cross_entropy(model(x), y)
        loss.backward()
        beside = more(*given) if given else more(model)
        optimizer.step()
        return loss + beside

    return model, optimizer, step


CHANGES = {
    "cleared": lambda state: state.clear(),
    "a tensor replaced": lambda state: state.update({name: tg.zeros(x.shape, x.dtype) for name, x in state.items()}),
    "a tensor overwritten": lambda state: setattr(next(iter(state.values())), "data", 0 * next(iter(state.values()))),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_a_state_is_live_however_it_is_changed(make, change):
    found = []
    for compiled in (True, False):
        model, optimizer, step = training(make)
        run = tg.jit(step) if compiled else step
        for i in range(6):
            run(X, Y)
            if i == 2:
                for state in optimizer.state:
                    change(state)
        found.append(model.state_dict())
    for name, x in found[0].items():
        assert_allclose(x, found[1][name], rtol=1e-5, atol=1e-6)


class Plain(optim.Optimizer):
    """A rule of a user, with Python numbers."""

    def begin(self, p):
        return {}

    def update(self, p, g, state, group):
        tg.op.OPS["stop_gradient"].into((p,), p - group["lr"] * g)


class CountsSteps(Plain):
    def update(self, p, g, state, group):
        state["count"] = state.get("count", 0) + 1
        super().update(p, g, state, group)


class Warms(optim.Adam):
    def __init__(self, params):
        super().__init__(params)
        self.count = 0

    def rate(self, group):
        self.count += 1
        return 0.1 / self.count


@pytest.mark.parametrize("compiled", [True, False])
def test_options_of_a_rule_of_the_user_are_live(compiled):
    model, optimizer, step = training(lambda p: Plain(p, {"lr": 0.5}))
    run = tg.jit(step) if compiled else step
    run(X, Y)
    run(X, Y)
    optimizer.param_groups[0]["lr"] = 0.0
    before = model.state_dict()
    for _ in range(2):
        run(X, Y)
        for name, x in model.state_dict().items():
            np.testing.assert_array_equal(x, before[name])


@pytest.mark.parametrize(
    "make", [lambda p: CountsSteps(p, {"lr": 0.5}), Warms], ids=["in the state", "in an attribute"]
)
def test_a_rule_that_counts_in_python_is_refused(make):
    model, _, step = training(make)
    before = {name: x.copy() for name, x in model.state_dict().items()}
    with pytest.raises(CompileError, match="it would happen in the first call alone"):
        tg.jit(step)(X, Y)
    for name, x in model.state_dict().items():
        np.testing.assert_array_equal(x, before[name])


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_a_parameter_among_the_arguments_is_refused_before_anything_is_written(make):
    """Whether it is so in the first call, or in a later one that fits."""
    model, _, step = training(make, lambda v: (v * v).sum())
    v = model.weight.v
    views = (v.detach(), as_strided(v._data, v.shape, v._data.strides), np.asarray(memoryview(v._data)))
    for first in (True, False):
        run = tg.jit(step)
        if not first:
            for _ in range(3):
                run(X, Y, np.ones(v.shape, np.float32))
        before = v.numpy().copy()
        for given in views:
            with pytest.raises(CompileError, match="an argument shares memory"):
                run(X, Y, given)
            np.testing.assert_array_equal(v.numpy(), before)
        run(X, Y, v.numpy().copy())


@pytest.mark.parametrize("look", [lambda v: as_strided(v, v.shape, v.strides), lambda v: np.asarray(memoryview(v))])
@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_another_way_to_look_into_a_parameter_sees_what_it_is_before_the_update(make, look):
    found = []
    for compiled in (True, False):
        seen = []
        model, _, step = training(make, lambda _, seen=seen: tg.sum(tg.square(seen[0])))
        seen.append(look(model.weight.v.numpy()))
        run = tg.jit(step) if compiled else step
        found.append([run(X, Y).item() for _ in range(5)])
    assert_allclose(found[0], found[1], rtol=1e-5)


def test_numpy_may_not_compute_with_a_parameter_that_the_step_writes_to():
    """Through a view that was made before: in the step, `numpy()` is refused as it is."""
    seen = []
    model, _, step = training(MAKES["Adam"], lambda _: float((seen[0] ** 2).sum()))
    seen.append(model.weight.v.numpy())
    with pytest.raises(CompileError, match="an array is changed"):
        tg.jit(step)(X, Y)
