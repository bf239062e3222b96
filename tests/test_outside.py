"""What a compiled step finds in Python beside its arguments is live: never frozen in silence."""

import functools
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, strategies as st
from training import step_of

import tinygrad_wn as tg
from tinygrad_wn import nn
from tinygrad_wn.compiled import writer
from tinygrad_wn.slot import changes

pytestmark = pytest.mark.once

RATE, SETTINGS, PLACE = 0.5, {"rate": 0.5}, tg.tensor([1.0, 2.0, 3.0])
X = tg.tensor([1.0, -2.0, 4.0])


class Scaled:
    """An object of a user, with a number of its own, one of its class, and numbers in containers."""

    power = 2.0

    def __init__(self):
        self.rate, self.table, self.each = 3.0, {"rate": 4.0}, [5.0, 6.0]

    @property
    def half(self):
        return self.rate / 2

    def call(self, x):
        return x * self.half * self.power * self.table["rate"] * self.each[1]

    def deep(self, x):
        return self.call(x) + 1

    @tg.jit
    def compiled(self, x):
        return x * self.rate


class Net(nn.Module):
    """A module that reads an attribute, and a list of modules."""

    def __init__(self):
        self.rate, self.parts = 2.0, [nn.Linear(3, 3, rng=0)]

    def forward(self, x):
        return self.parts[0](x) * self.rate


def test_the_same_number_in_another_object_is_the_same():
    step = tg.jit(lambda x: x * RATE)
    step(X)
    before = step.newest
    globals()["RATE"] = float("0.5")
    step(X)
    assert step.newest is before


def in_global(change=False):
    if change:
        globals()["RATE"] += 1.0
    return lambda x: x * RATE


def in_helper(change=False):
    if change:
        globals()["RATE"] += 1.0
    return lambda x: helper(x) + 1


def called(one, x):
    return x * one.rate * one.power * one.table["rate"] * one.each[1]


def helper(x):
    return x * RATE


def as_name(change=False):
    if change:
        globals()["PLACE"] = tg.tensor([7.0, 7.0, 7.0])
    return lambda x: x * PLACE


def in_dict(change=False):
    if change:
        SETTINGS["rate"] += 1.0
    return lambda x: x * SETTINGS["rate"]


@pytest.mark.parametrize("where", [in_global, in_helper, as_name, in_dict], ids=lambda f: f.__name__)
def test_what_a_module_holds_is_live(where):
    function = where()
    step = tg.jit(function)
    for _ in range(3):
        for found in (step(X), step(X)):
            np.testing.assert_array_equal(found.numpy(), function(X).numpy())
        where(change=True)


CHANGES = {
    "an attribute": lambda one: setattr(one, "rate", one.rate + 1),
    "a number of the class, covered by one of the object": lambda one: setattr(one, "power", 9.0),
    "an item of a dict": lambda one: one.table.update(rate=one.table["rate"] + 1),
    "an item of a list": lambda one: one.each.__setitem__(1, one.each[1] + 1),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize(
    "use",
    [
        lambda one: one.deep,
        lambda one: lambda x: one.call(x) * 1,
        lambda one: lambda x: called(one, x),
        lambda one: functools.partial(lambda other, x: other.call(x), one),
        lambda one: lambda x, one=one: one.call(x),
    ],
    ids=["method", "closure", "helper", "partial", "default"],
)
def test_what_an_object_holds_is_live(use, change):
    one = Scaled()
    function = use(one)
    step = tg.jit(function)
    for _ in range(2):
        for found in (step(X), step(X)):
            np.testing.assert_allclose(found.numpy(), function(X).numpy(), rtol=1e-6)
        change(one)
    np.testing.assert_allclose(step(X).numpy(), function(X).numpy(), rtol=1e-6)


def test_an_object_among_the_arguments_is_looked_at():
    one = SimpleNamespace(rate=2.0)
    one_of = Scaled()
    step = tg.jit(lambda x, of: x * of.rate)
    for rate in (2.0, 3.0, 3.0, -1.0):
        one_of.rate = rate
        np.testing.assert_array_equal(step(X, one_of).numpy(), X.numpy() * np.float32(rate))
    with pytest.raises(tg.errors.CompileError, match="neither an array nor hashed"):
        step(X, one)


def test_an_object_that_has_every_attribute_is_looked_at_once():
    class Endless:
        rate = 2.0

        def __getattr__(self, name):
            return Endless()

    one = Endless()
    step = tg.jit(lambda x: x * one.rate)
    for rate in (2.0, 3.0):
        one.rate = rate
        assert [step(tg.ones(1)).item() for _ in range(2)] == [rate] * 2


def test_a_compiled_method_has_steps_for_each_object():
    one, other = Scaled(), Scaled()
    other.rate = -1.0
    for _ in range(2):
        np.testing.assert_array_equal(one.compiled(X).numpy(), X.numpy() * 3)
        np.testing.assert_array_equal(other.compiled(X).numpy(), -X.numpy())
    one.rate = 0.5
    np.testing.assert_array_equal(one.compiled(X).numpy(), X.numpy() / 2)
    assert isinstance(Scaled.compiled, type(tg.jit(abs)))


@pytest.mark.parametrize("call", [lambda net: net, lambda net: lambda x: net.forward(x) * 1])
def test_attributes_of_modules_are_live_however_they_are_called(call):
    net = Net()
    step = tg.jit(call(net))
    for change in (
        lambda: None,
        lambda: setattr(net, "rate", 5.0),
        lambda: net.parts.__setitem__(0, nn.Linear(3, 3, rng=1)),
    ):
        change()
        for found in (step(X), step(X)):
            np.testing.assert_allclose(found.numpy(), net(X).numpy(), rtol=1e-6)


@given(st.integers(0, 2), st.floats(-4, 4, width=32))
def test_arrays_from_outside_are_live_also_where_numpy_computes_with_them(place, value):
    array, mask = np.arange(3, dtype=np.float32), np.array([True, False, True])
    functions = [
        lambda x: x * array,
        lambda x: x * (array * 2),
        lambda x: x * tg.tensor(array),
        lambda x: x[mask].sum(),
    ]
    steps = [tg.jit(one) for one in functions]
    for step in steps:
        step(X), step(X)
    array[place], mask[place] = value, not mask[place]
    for step, function in zip(steps, functions, strict=True):
        np.testing.assert_allclose(step(X).numpy(), function(X).numpy(), rtol=1e-6)


def test_a_mask_of_any_size_is_live():
    mask, x = np.arange(5000) % 2 == 0, tg.ones(5000)
    step = tg.jit(lambda x: x[mask].sum())
    for most in (5000, 100, 7):
        mask[most:] = False
        assert [step(x).item() for _ in range(2)] == [mask.sum()] * 2


def test_a_tensor_of_an_argument_is_made_anew_in_each_step():
    step = tg.jit(lambda x: tg.tensor(x, "float64") * 2 + tg.tensor(x))
    for value in (1.0, 2.0, 3.0):
        np.testing.assert_array_equal(step(tg.full(2, value)).numpy(), [3 * value] * 2)


def squares(w, optimizer, jit):
    """A step that makes Σ w²x smaller."""

    def step(x):
        optimizer.zero_grad()
        loss = (w * w * x).sum()
        loss.backward()
        optimizer.step()
        return loss

    return tg.jit(step) if jit else step


def test_a_state_that_is_made_in_the_first_call_stays():
    class Slow(tg.optim.Optimizer):
        def begin(self, p):
            return {"mean": tg.tensor(np.zeros(p.shape, p.dtype)), "first": tg.tensor(p)}

        def update(self, p, g, state, group):
            state.update(state or self.begin(p))
            mean = 0.5 * state["mean"] + g
            tg.op.OPS["stop_gradient"].into((state["mean"],), mean)
            tg.op.OPS["stop_gradient"].into((p,), p - group["lr"] * mean + 0.1 * (state["first"] - p))

    def run(compile_it):
        w = tg.tensor([1.0, 2.0], requires_grad=True)
        optimizer = Slow([w], {"lr": 0.1})

        step = squares(w, optimizer, compile_it)
        return [step(tg.ones(2)).item() for _ in range(6)]

    np.testing.assert_allclose(run(True), run(False), rtol=1e-6)


def test_zeros_of_both_signs_are_different_numbers():
    step = tg.jit(lambda x, by: x / by)
    with np.errstate(divide="ignore"):
        assert [step(tg.ones(1), by).item() for by in (0.0, -0.0, 0.0)] == [np.inf, -np.inf, np.inf]


@pytest.mark.parametrize("function", [lambda x: None, lambda x: 3.0, lambda x: PLACE, lambda x: np.ones(2)])
def test_a_function_without_any_op_is_compiled_to_nothing(function):
    step = tg.jit(function)
    for found in (step(X), step(X)):
        np.testing.assert_array_equal(found, function(X))


def test_options_of_a_group_are_live_however_they_are_set():
    def step_of(jit):
        w = tg.tensor([1.0, 2.0], requires_grad=True)
        optimizer = tg.optim.SGD([w], lr=0.1, momentum=0.5)

        return squares(w, optimizer, jit), optimizer, w

    kinds = [step_of(True), step_of(False)]
    changes = [
        lambda group, optimizer: group.__ior__({"lr": 0.2}),
        lambda group, optimizer: (group.pop("momentum"), group.setdefault("momentum", 0.1)),
        lambda group, optimizer: group.update(lr=0.05),
        lambda group, optimizer: setattr(optimizer, "state", [{}]),
        lambda group, optimizer: setattr(optimizer, "param_groups", [type(group)({**group, "lr": 0.01})]),
        lambda group, optimizer: optimizer.state.__setitem__(0, {}),
    ]
    for change in changes:
        for step, optimizer, _ in kinds:
            step(tg.ones(2)), step(tg.ones(2))
            change(optimizer.param_groups[0], optimizer)
            step(tg.ones(2)), step(tg.ones(2))
        np.testing.assert_allclose(kinds[0][2].numpy(), kinds[1][2].numpy(), rtol=1e-6)
    kinds[0][1].param_groups[0]["params"].clear()
    with pytest.raises(tg.errors.StateError, match="not a state for each parameter"):
        kinds[0][0](tg.ones(2))


@pytest.mark.parametrize(
    "change",
    [
        lambda group: group.__delitem__("lr"),
        lambda group: group.pop("lr"),
        lambda group: group.popitem(),
        lambda group: group.clear(),
        lambda group: group["params"].clear(),
    ],
)
def test_whatever_is_taken_out_of_a_group_is_told(change):
    optimizer = tg.optim.SGD([tg.ones(2, requires_grad=True)], lr=0.1)
    before = changes[0]
    change(optimizer.param_groups[0])
    assert changes[0] > before


def test_first_calls_of_several_threads_are_one_after_the_other():
    w = tg.tensor([1.0, 2.0], requires_grad=True)
    optimizer = tg.optim.SGD([w], lr=0.25)

    @tg.jit
    def step(x):
        optimizer.zero_grad()
        loss = (w * x).sum()
        loss.backward()
        optimizer.step()
        return loss

    begin = threading.Barrier(4)

    def run():
        begin.wait()
        step(tg.ones(2))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    np.testing.assert_array_equal(w.numpy(), [0.0, 1.0])
    assert sum(map(len, step.steps.values())) == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_a_long_step_is_written_on_several_pages(threads, monkeypatch):
    monkeypatch.setattr(writer, "PAGE", 5)
    monkeypatch.setattr(tg.compiled.plan, "WORTH_TEAM", 0)
    before = tg.get_num_threads()
    tg.set_num_threads(threads)
    try:
        nets = []
        for jit in (True, False):
            net = nn.weight_norm(nn.Sequential(*[nn.Linear(6, 6, rng=i) for i in range(4)]))
            optimizer = tg.optim.Adam(net.parameters(), lr=0.01)

            step = step_of(net, optimizer)
            step = tg.jit(step) if jit else step
            rng = np.random.default_rng(0)
            x, y = rng.standard_normal((40, 6), np.float32), rng.integers(0, 6, 40)
            losses = [step(x, y).item() for _ in range(5)]
            if jit:
                assert step.source.count("def page_") > 2
                before_failure = [p.numpy().copy() for p in net.parameters()]
                v = net[3].weight.v.numpy().copy()
                net[3].weight.v.data = v * 0
                with pytest.raises(tg.errors.ZeroNormError, match=r"3\.weight"):
                    step(x, y)
                net[3].weight.v.data = v
                for p, old in zip(net.parameters(), before_failure, strict=True):
                    np.testing.assert_array_equal(p.numpy(), old)
            nets.append((losses, net))
        np.testing.assert_allclose(nets[0][0], nets[1][0], rtol=1e-5)
    finally:
        tg.set_num_threads(before)
