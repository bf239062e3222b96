"""What a compiled step takes for granted between two calls: arguments, who wants gradients, who holds a result."""

import contextlib
import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygrad_wn as tg
from tinygrad_wn.op import OPS

WITHOUT_ROOM = """
import resource
import numpy as np
import tinygrad_wn as tg
from tinygrad_wn.op import OPS

tg.set_num_threads({threads})
a, b = np.ones((8300, 1100), np.float32), np.ones((8300, 128), np.float32)
product = tg.jit(lambda a, b: a.T @ b)
before = [product(a, b).numpy().copy() for _ in range(2)]
pages = int(open("/proc/self/statm").read().split()[0])
limits = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (resource.getpagesize() * pages + (1 << 23), limits[1]))
try:
    product(a, b)
except MemoryError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, limits)
assert (product(a, b).numpy() == before).all()
"""


def trained_square(lr):
    """A parameter, and a compiled step of gradient descent on Σ x w²."""
    w = tg.tensor([1.0, 2.0], requires_grad=True)
    optimizer = tg.optim.SGD([w], lr=lr)

    @tg.jit
    def step(x):
        optimizer.zero_grad()
        loss = (x * w * w).sum()
        loss.backward()
        optimizer.step()
        return loss

    return w, step


@pytest.mark.once
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="tells how much memory a process has on Linux only")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_step_that_finds_no_memory_says_so_and_runs_again_when_there_is_some(threads):
    code, env = WITHOUT_ROOM.format(threads=threads), {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("a compiled step found no memory to work in")


def test_a_step_without_arguments_is_not_the_one_with_some():
    w = tg.tensor([1.0, 2.0])
    step = tg.jit(lambda x=None, times=2: w * times if x is None else w * x)
    for _ in range(3):
        assert step().numpy().tolist() == [2, 4]
    assert step(tg.tensor([3.0, 3.0])).numpy().tolist() == [3, 6]
    assert step(None, 5).numpy().tolist() == [5, 10]


def test_a_parameter_that_is_frozen_stays_as_it_is_until_it_is_trained_again():
    p, q = (tg.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    optimizer = tg.optim.SGD([p, q], lr=0.1)

    @tg.jit
    def step(x):
        optimizer.zero_grad()
        loss = (x * p * q).sum()
        loss.backward()
        optimizer.step()
        return loss

    for wanted in (True, True, True, False, False, True, True):
        p.requires_grad = wanted
        before = [x.numpy().copy() for x in (p, q)]
        step(tg.ones(2))
        assert [bool(np.any(x.numpy() != old)) for x, old in zip((p, q), before, strict=True)] == [wanted, True]
    assert len(step.steps) == 1


def test_a_result_that_somebody_can_still_see_is_not_written_again():
    step = tg.jit(lambda x: (x * x).sum())
    seen = [lambda y: y, lambda y: y.numpy(), lambda y: memoryview(y.numpy()), lambda y: y.detach(), lambda y: {"y": y}]
    seen += [lambda y: y.numpy().reshape(1), lambda y: y.detach().numpy()[None], lambda y: iter([y])]
    held = [(k, look(step(tg.full(3, float(k))))) for k, look in enumerate(seen) for _ in range(3)]
    w = tg.tensor(1.0, requires_grad=True)
    products = [step(tg.full(3, float(k))) * w for k in range(4)]
    for k, found in held:
        value = found["y"] if isinstance(found, dict) else next(found) if hasattr(found, "__next__") else found
        assert float(np.asarray(value).reshape(())) == 3 * k * k
    for k, y in enumerate(products):
        assert y.gradient(w)[0].item() == 3 * k * k


def test_a_result_comes_without_what_was_done_to_the_one_before():
    step = tg.jit(lambda x: (x * x).sum())
    for k in range(5):
        y = step(tg.full(3, float(k)))
        assert (y.item(), y.requires_grad, y.grad) == (3 * k * k, False, None)
        y.requires_grad = True
        (y * 2.0).backward()
        y.data = -1.0
        del y


def test_a_graph_from_before_a_step_that_writes_refuses_and_one_from_after_does_not():
    w, step = trained_square(lr=0.1)

    for _ in range(4):
        early = (w * w).sum()
        _, pull = tg.vjp(lambda v: (v * w).sum(), tg.ones(2))
        step(tg.ones(2))
        late = (w * w).sum()
        for refused in (
            early.backward,
            lambda y=early: y.gradient(w, create_graph=True),
            lambda p=pull: p(tg.ones(())),
        ):
            with pytest.raises(tg.errors.GradientError, match="overwritten"):
                refused()
        (slope,) = late.gradient(w, create_graph=True)
        np.testing.assert_array_equal(slope.detach().numpy(), 2 * w.numpy())
        np.testing.assert_array_equal(slope.sum().gradient(w)[0].numpy(), [2, 2])


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("drawn", [False, True])
def test_an_argument_that_requires_a_gradient_makes_a_step_of_its_own(first, drawn):
    """Whether the fast way, the same with numbers that are drawn in each call, or by its signature."""
    w = tg.tensor([1.0, 2.0], requires_grad=True)
    noise, twin = (tg.nn.Dropout(0.5, rng=0) for _ in range(2))

    @tg.jit
    def slope(x):
        (x * x * w).sum().backward()
        w.grad = None
        found = x * 0 - 1 if x.grad is None else x.grad + 0
        return found + noise(tg.ones(2)) if drawn else found

    for wanted in (first, first, first, not first, first, not first, not first):
        found = slope(tg.tensor([3.0, 5.0], requires_grad=wanted))
        expected = np.array([6, 20] if wanted else [-1, -1])
        np.testing.assert_array_equal(found.numpy(), expected + (twin(tg.ones(2)).numpy() if drawn else 0))


def test_whatever_is_true_says_that_an_argument_requires_a_gradient():
    square = tg.jit(lambda x: (x * x).sum() * (2 if x.requires_grad else 1))
    for wanted in (False, False, False, 1, np.True_, 0):
        assert square(tg.tensor([3.0], requires_grad=wanted)).item() == (18 if wanted else 9)
    assert square(tg.tensor([3.0], requires_grad=True) * 1).item() == 18


def test_an_argument_that_is_given_twice_gathers_both_gradients():
    def slope(x, y, *, z):
        (x * y * z).sum().backward()
        return x.grad + 0

    fast = tg.jit(slope)
    for _ in range(2):
        one, two, three = (tg.tensor([value, 1.0], requires_grad=True) for value in (2.0, 3.0, 5.0))
        for xs in ((one, two, three), (one, one, two), (one, two, one), (two, two, two), (three, two, two)):
            expected = slope(*xs[:2], z=xs[2])
            for x in xs:
                x.grad = None
            np.testing.assert_array_equal(fast(*xs[:2], z=xs[2]).numpy(), expected.numpy())


def test_a_scan_runs_no_step_that_was_recorded_otherwise():
    w = tg.tensor([1.0, 2.0], requires_grad=True)

    def marked(x):
        y = x * w
        if y.requires_grad:
            OPS["add"].into((x,), x, 1.0)
            return y * 10
        return y

    step = tg.jit(marked)
    for _ in range(2):
        assert tg.scan(step, tg.ones((6, 2))).numpy().tolist() == [[10, 20]] * 6
        with tg.no_grad():
            assert tg.scan(step, tg.ones((6, 2))).numpy().tolist() == [[1, 2]] * 6


@pytest.mark.parametrize("first", [False, True])
def test_a_step_without_recording_is_not_the_one_with_it(first):
    w, step = trained_square(lr=0.25)

    sides = [tg.jit(lambda x: x + w * (1 if (x * w).requires_grad else 0)), step]
    for wanted in (first, first, not first, not first, first, True):
        before = w.numpy().copy()
        with contextlib.nullcontext() if wanted else tg.no_grad():
            assert sides[0](tg.zeros(2)).numpy().tolist() == (before if wanted else 0 * before).tolist()
            if wanted:
                step(tg.ones(2))
            else:
                with pytest.raises(tg.errors.GradientError, match="no_grad"):
                    step(tg.ones(2))
        assert w.numpy().tolist() == (before - 0.5 * before if wanted else before).tolist()


@tg.jit
def double(x):
    return 2 * x


def triple(x):
    return 3 * x


class Scaled:
    def __init__(self) -> None:
        self.by = tg.tensor([3.0])
        self.scale = tg.jit(self.times)

    def times(self, x):
        return self.by * x


def test_a_compiled_function_is_pickled_by_its_name_and_a_method_goes_with_its_object():
    assert pickle.loads(pickle.dumps(double)) is double
    assert copy.deepcopy(double) is double
    one = Scaled()
    assert one.scale(tg.ones(1)).item() == 3
    for other in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        other.by.data = [5.0]
        assert [x.scale(tg.ones(1)).item() for x in (one, other, one)] == [3, 5, 3]
    for other in (copy.deepcopy(tg.jit(triple)), pickle.loads(pickle.dumps(tg.jit(triple)))):
        assert other(tg.ones(1)).item() == 3
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(tg.jit(lambda x: x))


def test_transforms_differentiate_through_compiled_functions():
    square = tg.jit(lambda x: (x * x).sum())
    x = tg.tensor([1.0, 2.0, 3.0])
    for _ in range(3):
        square(x)
        np.testing.assert_array_equal(tg.grad(square)(x).numpy(), [2.0, 4.0, 6.0])
        (bent,) = tg.hvp(lambda x: square(x) * square(x), (x,), (x,))
        np.testing.assert_array_equal(bent.numpy(), 12 * 14 * x.numpy())
        assert tg.jvp(square, (x,), (x,))[1].item() == 28.0
    rows = tg.tensor([[1.0], [2.0]])
    np.testing.assert_array_equal(tg.grad(lambda r: tg.scan(square, r).sum())(rows).numpy(), [[2.0], [4.0]])


@pytest.mark.parametrize("normalized", [False, True])
def test_what_a_relu_cuts_is_there_for_others_who_read_it(normalized):
    layer = tg.nn.Linear(9, 20, rng=0)
    layer = tg.nn.weight_norm(layer) if normalized else layer
    step = tg.jit(lambda x: tg.relu(h := layer(x)) - 0.5 * h)
    x = tg.tensor(np.random.default_rng(0).normal(size=(8, 9)).astype("f"))
    for _ in range(2):
        h = layer(x).numpy()
        np.testing.assert_allclose(step(x).numpy(), np.maximum(h, 0) - 0.5 * h, rtol=1e-5, atol=1e-6)


def test_dropout_draws_once_a_call_whatever_form_the_rows_have():
    x = np.random.default_rng(0).standard_normal((12, 5)).astype(np.float32)
    forms = [x[:6], x[::2], np.asfortranarray(x[:6]), x[:6], x[:4], x[::3], x[6:]]
    found = []
    for turn in (tg.jit, lambda function: function):
        layer = tg.nn.Dropout(0.5, rng=7)
        step = turn(lambda rows, layer=layer: layer(rows) + 0)
        found.append([step(rows).numpy().tolist() for rows in forms for _ in range(2)])
    assert found[0] == found[1]


def test_parameters_that_have_gone_more_steps_than_others_are_corrected_by_their_own_count():
    found = []
    for turn in (tg.jit, lambda function: function):
        p, q = (tg.tensor([1.0, 2.0], "float64", requires_grad=True) for _ in range(2))
        optimizer = tg.optim.Adam([p, q], lr=0.1)

        @turn
        def step(x, p=p, q=q, optimizer=optimizer):
            optimizer.zero_grad()
            loss = (x * p * q).sum()
            loss.backward()
            optimizer.step()
            return loss

        for i in range(6):
            step(np.ones(2))
            if i == 2:
                q.grad = None
                p.grad = tg.ones(2, "float64")
                optimizer.step()
        assert [state["step"].item() for state in optimizer.state] == [7, 6]
        found.append([x.numpy() for x in (p, q)])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12)
