"""Random programs of several ops equal eager ones: results, gradients, and what they write in place."""

from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, event, given, settings, strategies as st
from numpy.testing import assert_array_equal
from program_strategy import programs
from programs import Program
from rounding import flat, near, reach

import tinygrad_wn as tg
from tinygrad_wn.errors import GradientError, TinygradWNError, ZeroNormError
from tinygrad_wn.op import OPS
from tinygrad_wn.tensor import wrap

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("many_steps")]

PHASES = [Phase.explicit, Phase.reuse, Phase.generate]
"""Programs are shown as they were drawn: each try to make one smaller would be compiled."""

some = settings(max_examples=max(settings.default.max_examples // 4, 1), deadline=None, phases=PHASES)
both = pytest.mark.parametrize("dtype", ["float32", "float64"])


def held(program: Program, seed: int) -> None:
    """Call a program and its compiled twin four times, the third time with other values everywhere."""
    compiled = tg.jit(program)
    first = [x._data.copy() for x in program.outside]
    other = [np.round(np.random.default_rng(seed).normal(0, 1.5, x.shape), 1) for x in program.outside]
    for call in range(4):

        def outcome(function: Any, call: int = call) -> Any:
            for x, values in zip(program.outside, other if call == 2 else first, strict=True):
                x._data[...] = values
            arguments = program.fresh(np.random.default_rng(seed) if call == 2 else None)
            try:
                found = flat(function(*arguments))
            except TinygradWNError as error:
                found = [type(error)]
            return found + flat([*arguments, *program.outside])

        expected = outcome(program)
        bounds = reach(lambda: outcome(program), expected)
        near(outcome(compiled), expected, bounds)
        sharp = [y for y, bound in zip(expected, bounds, strict=True) if sharply(y, bound)]
        event("all results are compared sharply" if len(sharp) == len(expected) else "some results may be far away")
    assert sum(map(len, compiled.steps.values())) == 1


def sharply(y: Any, bound: float) -> bool:
    """Whether a bound says something."""
    return not isinstance(y, np.ndarray) or bound <= 1e-3 * (1 + np.linalg.norm(np.nan_to_num(y.astype(float))))


@both
@some
@given(data=st.data())
def test_random_programs_and_their_gradients_equal_eager_ones(dtype: str, data: st.DataObject) -> None:
    held(data.draw(programs(dtype)), data.draw(st.integers(0, 99)))


@both
@some
@given(data=st.data())
def test_random_programs_that_overwrite_their_leaves_equal_eager_ones(dtype: str, data: st.DataObject) -> None:
    held(data.draw(programs(dtype, writes=True)), data.draw(st.integers(0, 99)))


def assert_same(compiled: Any, function: Any, *calls: tuple[Any, ...]) -> None:
    """A compiled function on several calls' arguments, one after the other, against eager; bit for bit."""
    for arguments in calls:
        near(flat(compiled(*arguments)), expected := flat(function(*arguments)), [0.0] * len(expected))


def test_slices_of_a_batch_that_is_a_slice_of_a_data_set_are_those_of_each_call() -> None:
    rows = np.arange(20.0).reshape(10, 2)

    def split(x: Any, y: Any) -> Any:
        return x[:1] * 1, x[1:] * 1, y.T * 1, y[:, 1] * 1

    assert_same(tg.jit(split), split, (rows[:4], rows[4:6]), (rows[4:8], rows[:2]), (rows[:4] + 50, rows[2:4]))


def test_arguments_that_were_one_array_in_the_first_call_need_not_be_one_later() -> None:
    x, y = np.array([1.0, 2.0]), np.array([5.0, 7.0])
    assert_same(tg.jit(lambda a, b: a * 10 + b), lambda a, b: a * 10 + b, (x, x), (x, y), (y, x), (y, y))


def test_a_tensor_from_outside_stays_itself_when_it_was_an_argument_as_well() -> None:
    w, x = tg.tensor([1.0, 2.0]), tg.tensor([5.0, 7.0])
    assert_same(tg.jit(lambda a: a * 10 + w), lambda a: a * 10 + w, (w,), (x,), (w,))


def test_what_is_read_in_two_orders_is_read_before_it_is_overwritten() -> None:
    p = tg.tensor([1.0, 2.0, 3.0, 4.0])

    def step(c: Any) -> Any:
        results = p[::-1] * c, p * c
        OPS["add"].into((p,), p, 1.0)
        return results

    compiled = tg.jit(step)
    for k in range(3):
        turned, straight = compiled(np.float32(2.0))
        assert_array_equal(straight.numpy(), [2.0 + 2 * k, 4.0 + 2 * k, 6.0 + 2 * k, 8.0 + 2 * k])
        assert_array_equal(turned.numpy(), straight.numpy()[::-1])


@pytest.mark.parametrize("form", ["whole", "turned", "gaps"])
def test_what_a_step_writes_to_an_argument_arrives_there_in_any_layout(form: str) -> None:
    def step(p: Any, g: Any) -> Any:
        OPS["sgd_update"].into((p,), 0.5, p, g)
        return p * 2

    def fresh(k: int) -> tg.Tensor:
        base = np.arange(24.0).reshape(4, 6) + k
        return wrap({"whole": base[:2, :3].copy(), "turned": base[:3, :2].T, "gaps": base[::2, ::2]}[form])

    compiled = tg.jit(step)
    for k in range(3):
        p, q, g = fresh(k), fresh(k), tg.ones((2, 3), dtype="float64")
        assert_array_equal(compiled(p, g).numpy(), step(q, g).numpy())
        assert_array_equal(p.numpy(), q.numpy())


def test_a_walk_back_over_an_argument_that_a_step_overwrote_is_refused() -> None:
    compiled = tg.jit(lambda p: OPS["add"].into((p,), p, 1.0))
    for _ in range(3):
        p = tg.tensor([1.0, 2.0], requires_grad=True)
        y = (p * p).sum()
        compiled(p)
        with pytest.raises(GradientError, match="overwritten"):
            y.backward()


def test_an_argument_is_as_it_was_when_a_step_fails_after_writing_to_it() -> None:
    @tg.jit
    def step(p: Any, v: Any) -> Any:
        OPS["add"].into((p,), p, 1.0)
        return tg.weight_norm(v, tg.ones((1, 1), dtype="float64"))

    for v in ([[1.0, 2.0]], [[3.0, 4.0]]):
        step(np.zeros(2), np.array(v))
    p = np.array([1.0, 2.0])
    with pytest.raises(ZeroNormError):
        step(p, np.zeros((1, 2)))
    assert_array_equal(p, [1.0, 2.0])


OWN_VIEWS = {
    "one number of it": lambda p: p[:1],
    "backwards": lambda p: p[::-1],
    "a column": lambda p: p.reshape(2, 2)[:, :1].reshape(2)[[0, 1, 0, 1]],
    "the next": lambda p: p[[1, 2, 3, 0]],
}


@pytest.mark.parametrize("name", OWN_VIEWS)
def test_a_call_that_overwrites_what_it_reads_in_another_order_reads_first(name: str) -> None:
    def step(p: Any) -> Any:
        OPS["add"].into((p,), p, OWN_VIEWS[name](p))

    compiled = tg.jit(step)
    for _ in range(3):
        p, q = (tg.tensor([1.0, 2.0, 4.0, 8.0]) for _ in range(2))
        compiled(p)
        step(q)
        assert_array_equal(p.numpy(), q.numpy())


def test_a_product_is_done_before_it_overwrites_a_factor() -> None:
    a = np.random.default_rng(0).integers(-4, 5, (40, 40)).astype(float)
    compiled = tg.jit(lambda p, b: OPS["matmul"].into((p,), p, b))
    for _ in range(3):
        p = a.copy()
        compiled(p, a + 1)
        assert_array_equal(p, a @ (a + 1))


@pytest.mark.parametrize("normalized", [False, True])
def test_one_row_goes_back_through_a_layer_with_as_many_outputs_as_inputs(normalized: bool) -> None:
    v, g = tg.tensor([[1.0, 2.0], [-2.0, 4.0]]), tg.tensor([[3.0], [5.0]])

    def loss(x: Any) -> Any:
        return (tg.weight_norm_linear(x, v, g) if normalized else tg.linear(x, v)).sum()

    x = tg.tensor([1.0, -1.0])
    compiled = tg.jit(tg.grad(loss))
    for _ in range(2):
        np.testing.assert_allclose(compiled(x).numpy(), tg.grad(loss)(x).numpy(), rtol=1e-6)


@pytest.mark.parametrize("of_w", [lambda w: w**2, lambda w: w**3, lambda w: 2.0**w, lambda w: w**w])
def test_powers_have_second_derivatives_through_weight_norm(of_w: Any) -> None:
    v, g, d = np.array([[3.0, 4.0]]), np.array([[2.0]]), np.array([[1.0, 0.5]])

    def product(v: Any, d: Any) -> Any:
        return tg.hvp(lambda v: (of_w(tg.weight_norm(v, g)) * np.array([1.0, 3.0])).sum(), (v,), (d,))

    compiled = tg.jit(product)
    for _ in range(2):
        np.testing.assert_allclose(compiled(v, d)[0].numpy(), product(v, d)[0].numpy(), rtol=1e-12)
