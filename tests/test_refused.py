"""What would happen in the first call of a compiled step alone is refused, with its line, and changes nothing."""

import functools
import random
import sys
from collections import defaultdict, deque
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import tinygrad_wn as tg
from tinygrad_wn import nn

pytestmark = pytest.mark.once

SETTINGS, SEEN, LONG, BY_NAME, LAST, NAMES = {"rate": 0.5}, [], [0] * 5000, defaultdict(list), deque(maxlen=2), {"a"}
RNG, OLD, COUNTS = np.random.default_rng(0), np.random.RandomState(0), np.zeros(3, np.float32)
X = tg.tensor([1.0, -2.0, 4.0])


class Scaled:
    """An object that counts its calls."""

    def __init__(self):
        self.count = 0

    def counts(self, x):
        self.count += 1
        return x * 2


def written():
    count = 0

    def writes(x):
        nonlocal count
        count += 1
        return x * 2

    return writes


def writes_dict(x):
    SETTINGS["seen"] = 1
    return x * 2


def appends(x):
    y = x * 2
    SEEN.append(y)
    return y


class Keeps(nn.Module):
    """A module that keeps what it computed."""

    def __init__(self):
        self.last, self.calls = None, 0

    def forward(self, x):
        self.last = x * 2
        return self.last


class Appears(nn.Module):
    """A module that keeps what it computed, in an attribute that it had not before."""

    def forward(self, x):
        self.output = x * 2
        return self.output


class Draws:
    """An object with a generator of its own."""

    def __init__(self):
        self.random, self.python = np.random.default_rng(0), random.Random(0)

    def noisy(self, x):
        return x + self.random.standard_normal(3).astype(np.float32)

    def choosy(self, x):
        return x * self.python.choice([1.0, 2.0])

    def keeps(self, x):
        self.loss = (x * 2).sum()
        return self.loss


class Counts(nn.Module):
    """A module that counts its calls."""

    def __init__(self):
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x * 2


def fills(x):
    BY_NAME["loss"].append(x * 2)
    return x * 2


def pushes(x):
    LAST.append(x * 2)
    return x * 2


def adds_a_name(x):
    NAMES.add("b")
    return x * 2


def appends_to_many(x):
    LONG.append(x * 2)
    return x * 2


def counts_in_an_array(x):
    COUNTS[0] += 1
    return x * COUNTS


def from_nowhere(x):
    return x + np.random.default_rng().standard_normal(3).astype(np.float32)


def draws_with(rng, x):
    return x * rng.uniform()


WRITES = {
    "a number of a closure": (written(), "count is written to", "        count += 1"),
    "an item of a dict": (writes_dict, "a dict is changed", "def writes_dict"),
    "a list": (appends, "a list is changed", "def appends"),
    "a list in a defaultdict": (fills, "a dict is changed", "def fills"),
    "a deque": (pushes, "a deque is changed", "def pushes"),
    "a set": (adds_a_name, "a set is changed", "def adds_a_name"),
    "a long list": (appends_to_many, "a list is changed", "def appends_to_many"),
    "an array": (counts_in_an_array, "an array is changed", "def counts_in_an_array"),
    "an attribute": (Scaled().counts, "count is written to", "self.count += 1"),
    "a tensor kept by a module": (Keeps(), "last is written to", "self.last = x * 2"),
    "a tensor in a new attribute of a module": (Appears(), "output is written to", "self.output = x * 2"),
    "a tensor in a new attribute": (Draws().keeps, "loss is written to", "self.loss = (x * 2).sum()"),
    "a count of a module": (lambda x: nn.Sequential(Counts())(x) + COUNTER(x), "calls is written", "self.calls += 1"),
    "Python's random numbers": (lambda x: x * random.random(), "random numbers are drawn", "random.random()"),
    "NumPy's random numbers": (lambda x: x * vars(np.random)["normal"](), "random numbers are drawn", '["normal"]()'),
    "a generator": (lambda x: x * RNG.uniform(), "random numbers are drawn", "RNG.uniform()"),
    "an old generator": (lambda x: x * OLD.uniform(), "random numbers are drawn", "OLD.uniform()"),
    "a generator in an attribute": (Draws().noisy, "random numbers are drawn", "def noisy"),
    "a generator of Python": (Draws().choosy, "random numbers are drawn", "def choosy"),
    "a generator that is an argument": (
        functools.partial(draws_with, RNG),
        "random numbers are drawn",
        "def draws_with",
    ),
    "a generator without a seed": (from_nowhere, "generator without a seed", "np.random.default_rng().standard"),
    "the package's random numbers": (lambda x: x * tg.randn(3), "drawing random numbers", "tg.randn(3)"),
}
COUNTER = Counts()


@pytest.mark.parametrize(("function", "what", "line"), WRITES.values(), ids=WRITES)
def test_what_would_happen_in_the_first_call_alone_is_refused_with_its_line(function, what, line):
    with pytest.raises(tg.errors.CompileError, match=what) as caught:
        tg.jit(function)(X)
    file, _, number = next(part for part in str(caught.value).splitlines() if " line" in part).rpartition(":")
    assert file.endswith("test_refused.py")
    assert line in Path(__file__).read_text(encoding="utf-8").splitlines()[int(number) - 1]


@pytest.mark.parametrize(("before", "then"), [("count = 0", "count += 1"), ("", "count = x * 2")])
def test_a_global_that_is_written_to_is_refused_with_its_line(before, then, tmp_path, monkeypatch):
    lines = [before, "def step(x):", "    global count", f"    {then}", "    return x * 2"]
    monkeypatch.delitem(sys.modules, "counting_steps", raising=False)
    (tmp_path / "counting_steps.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(tg.errors.CompileError, match=r"count is written to(.|\n)*steps\.py:4"):
        tg.jit(import_module("counting_steps").step)(X)


def test_a_generator_that_is_an_argument_is_refused():
    with pytest.raises(tg.errors.CompileError, match="random numbers are drawn"):
        tg.jit(draws_with)(np.random.default_rng(0), X)


@pytest.mark.parametrize("noisy", [False, True])
def test_dropout_may_draw_from_a_generator_and_the_step_may_not(noisy):
    rng = np.random.default_rng(0)
    thin = nn.Dropout(0.5, rng=rng)

    def function(x):
        scale = 1 + rng.uniform() if noisy else 2.0 + 0.0 * len(str(rng))
        return thin(x) * scale

    if noisy:
        with pytest.raises(tg.errors.CompileError, match="random numbers are drawn"):
            tg.jit(function)(X)
    else:
        step = tg.jit(function)
        found = [step(X).numpy().copy() for _ in range(8)]
        rng.bit_generator.state = np.random.default_rng(0).bit_generator.state
        np.testing.assert_array_equal(found, [function(X).numpy() for _ in range(8)])


def test_a_generator_with_a_seed_gives_the_same_in_each_call():
    def function(x):
        return x * np.random.default_rng(3).standard_normal(3).astype(np.float32)

    for one in (function, lambda x: x * tg.randn(3, rng=3), lambda x: x * tg.randn(3, rng=np.int64(3))):
        step = tg.jit(one)
        for _ in range(2):
            np.testing.assert_array_equal(step(X).numpy(), one(X).numpy())


def test_a_refusal_that_the_function_catches_is_raised_all_the_same():
    def function(x):
        try:
            rate = float(x.sum())
        except tg.errors.CompileError:
            rate = 1.0
        return x * rate

    with pytest.raises(tg.errors.CompileError, match="a Python number"):
        tg.jit(function)(X)


def test_gradients_that_would_add_up_and_parameters_that_would_not_be_trained_are_refused():
    w = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    optimizer = tg.optim.SGD([w], lr=0.1)

    def adds(x):
        loss = (w * x).sum()
        loss.backward()
        optimizer.step()
        return loss

    def given_as_argument(p, x):
        optimizer.zero_grad()
        loss = (p * x).sum()
        loss.backward()
        optimizer.step()
        return loss

    def reads(x):
        loss = (w * x).sum()
        loss.backward()
        optimizer.step()
        return loss + w.grad.sum()

    for function in (adds, reads):
        with pytest.raises(tg.errors.CompileError, match="without zero_grad"):
            tg.jit(function)(X)
        w.grad = None
    before = w.numpy().copy()
    with pytest.raises(tg.errors.CompileError, match="given as an argument"):
        tg.jit(given_as_argument)(w, X)
    np.testing.assert_array_equal(w.numpy(), before)


def test_an_array_of_another_byte_order_is_refused():
    array = np.ones(3, ">f4")
    with pytest.raises(tg.errors.CompileError, match="of another byte order"):
        tg.jit(lambda x: x * array)(X)


@pytest.mark.parametrize("make", [tg.optim.SGD, functools.partial(tg.optim.SGD, momentum=0.9), tg.optim.Adam])
def test_what_a_refused_call_wrote_is_given_back(make):
    net = nn.weight_norm(nn.Sequential(nn.Linear(3, 4, rng=0), nn.BatchNorm1d(4), nn.Linear(4, 1, rng=1)))
    optimizer = make(net.parameters(), lr=0.1)
    schedule = tg.optim.Cosine(optimizer, 10)

    def step(x, refused=True):
        optimizer.zero_grad()
        loss = tg.square(net(x)).mean()
        loss.backward()
        optimizer.step()
        schedule.step()
        return loss.item() if refused else loss

    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    step(x, refused=False)
    states = (net.state_dict, optimizer.state_dict, schedule.state_dict)
    before = [{name: np.array(value) for name, value in one().items()} for one in states]
    for _ in range(2):
        with pytest.raises(tg.errors.CompileError, match="a Python number"):
            tg.jit(step)(x)
    for one, old in zip(states, before, strict=True):
        for name, value in one().items():
            np.testing.assert_array_equal(np.array(value), old[name], err_msg=name)


def net_and_optimizer():
    net = nn.weight_norm(nn.Linear(3, 2, rng=0))
    return net, tg.optim.SGD(net.parameters(), lr=0.1)


def test_gradients_that_nothing_in_the_step_reads_are_refused():
    net, optimizer = net_and_optimizer()

    def backward(x, extra=None):
        optimizer.zero_grad()
        loss = tg.square(net(x)).mean()
        loss.backward()
        return loss if extra is None else (loss, extra())

    x = np.ones((4, 3), np.float32)
    with pytest.raises(tg.errors.CompileError, match="nothing in it reads"):
        tg.jit(backward)(x)
    assert all(p.grad is None for p in net.parameters())
    read = [optimizer.step, lambda: net.bias.grad, lambda: tg.square(net.bias.grad).sum()]
    for extra in read:
        tg.jit(functools.partial(backward, extra=extra))(x)


def test_a_step_that_cannot_be_compiled_gives_back_what_it_wrote(monkeypatch):
    net, optimizer = net_and_optimizer()

    def step(x):
        optimizer.zero_grad()
        loss = tg.square(net(x)).mean()
        loss.backward()
        optimizer.step()
        return loss

    def fails(*_):
        raise RuntimeError("no machine code today")

    before = [p.numpy().copy() for p in net.parameters()]
    monkeypatch.setattr(import_module("tinygrad_wn.compiled.jit"), "Step", fails)
    with pytest.raises(RuntimeError, match="today"):
        tg.jit(step)(np.ones((4, 3), np.float32))
    for p, old in zip(net.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.numpy(), old)
        assert p.grad is None


@pytest.mark.parametrize(
    "draws", [lambda: nn.Linear(1, 1).bias, lambda: tg.tensor(tg.generator().random(1)), lambda: tg.seed(5)]
)
def test_draws_from_the_generator_of_the_package_are_refused(draws):
    tg.seed(0)
    with pytest.raises(tg.errors.CompileError, match="random numbers are drawn"):
        tg.jit(lambda x: (draws(), x * 2)[1])(X)
