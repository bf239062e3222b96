"""Functions, classes and contents that a compiled step finds are live: whoever defines one anew gets the new one."""

from collections import OrderedDict, deque
from types import SimpleNamespace

import numpy as np
import pytest

import tinygrad_wn as tg

pytestmark = pytest.mark.once

X = tg.tensor([1.0, -2.0, 4.0])


def define(text, names):
    exec(compile(text, "notebook.py", "exec"), names)


NOTEBOOK = {
    "a function": (
        "def helper(x): return x * 2\ndef function(x): return helper(x)",
        "def helper(x): return x * 10",
    ),
    "a function of a function": (
        "def deep(x): return x * 2\ndef helper(x): return deep(x)\ndef function(x): return helper(x)",
        "def deep(x): return x * 10",
    ),
    "an attribute of a function": (
        "def config(): pass\nconfig.scale = 2.0\ndef function(x): return x * config.scale",
        "config.scale = 10.0",
    ),
    "a method": (
        "class Net:\n  def loss(self, x): return x * 2\nnet = Net()\ndef function(x): return net.loss(x)",
        "Net.loss = lambda self, x: x * 10",
    ),
    "a class": (
        "class Config:\n  scale = 2.0\ndef function(x): return x * Config.scale",
        "class Config:\n  scale = 10.0",
    ),
    "a number of a class": (
        "class Config:\n  scale = 2.0\ndef function(x): return x * Config.scale",
        "Config.scale = 10.0",
    ),
    "an item of a dict of a class": (
        "class Config:\n  table = {'scale': 2.0}\ndef function(x): return x * Config.table['scale']",
        "Config.table['scale'] = 10.0",
    ),
    "a number of a class that is inherited": (
        "class Base:\n  scale = 2.0\nclass Config(Base): pass\ndef function(x): return x * Config.scale",
        "Config.scale = 10.0",
    ),
    "an item of a long list": (
        "rates = [2.0] * 300\ndef function(x): return x * rates[200]",
        "rates[200] = 10.0",
    ),
}


@pytest.mark.parametrize(("before", "after"), NOTEBOOK.values(), ids=NOTEBOOK)
def test_what_is_defined_anew_is_live(before, after):
    names = {"__name__": "__main__"}
    define(before, names)
    step = tg.jit(names["function"])
    for _ in range(2):
        np.testing.assert_array_equal(step(X).numpy(), X.numpy() * 2)
    define(after, names)
    for _ in range(2):
        np.testing.assert_array_equal(step(X).numpy(), X.numpy() * 10)


class Slots:
    """An object without a dict."""

    __slots__ = ("rate",)

    def __init__(self):
        self.rate = 1.0


class Scales:
    """An object that is used by an operator."""

    def __init__(self):
        self.scale = 1.0

    def __mul__(self, x):
        return self.scale * x


CONTENTS = {
    "a set": ({"a"}, lambda one: one.add("b"), len),
    "a deque": (deque([1.0], maxlen=1), lambda one: one.append(3.0), lambda one: one[0]),
    "an ordered dict": (OrderedDict(a=1.0), lambda one: one.update(a=3.0), lambda one: one["a"]),
    "an object with slots": (Slots(), lambda one: setattr(one, "rate", 3.0), lambda one: one.rate),
    "an object with an operator": (Scales(), lambda one: setattr(one, "scale", 3.0), lambda one: one * 1.0),
    "options of an optimizer": (
        tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=0.5),
        lambda one: one.param_groups[0].update(lr=3.0),
        lambda one: one.param_groups[0]["lr"],
    ),
    "a namespace": (SimpleNamespace(rate=1.0), lambda one: setattr(one, "rate", 3.0), lambda one: one.rate),
}


@pytest.mark.parametrize(("one", "change", "use"), CONTENTS.values(), ids=CONTENTS)
def test_contents_are_live(one, change, use):
    step = tg.jit(lambda x: x * float(use(one)))
    for _ in range(2):
        for found in (step(X), step(X)):
            np.testing.assert_array_equal(found.numpy(), X.numpy() * use(one))
        change(one)


def test_objects_inside_of_arguments_are_live():
    one = Slots()
    step = tg.jit(lambda batch: batch["x"] * batch["more"][0].rate)
    for _ in range(2):
        for found in (step({"x": X, "more": [one]}), step({"x": X, "more": [one]})):
            np.testing.assert_array_equal(found.numpy(), X.numpy() * one.rate)
        one.rate = 3.0


@pytest.mark.parametrize("boxed", [lambda x: [x], lambda x: (x,), lambda x: {0: x}], ids=["list", "tuple", "dict"])
def test_a_step_for_containers_is_none_for_bare_arrays(boxed):
    x = np.arange(4, dtype=np.float32).reshape(2, 2)
    step = tg.jit(lambda a: a[0] * 2)
    for _ in range(2):
        for _ in range(3):
            np.testing.assert_array_equal(step(boxed(x)).numpy(), x * 2)
        np.testing.assert_array_equal(tg.scan(step, np.stack([x, x])).numpy(), [x[0] * 2] * 2)
        for _ in range(3):
            np.testing.assert_array_equal(step(x).numpy(), x[0] * 2)
