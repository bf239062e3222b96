"""Schedules against their formulas, and gradients clipped by their norm."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from refusals import message
from test_optim import NUMBERS, leaf

import tinygrad_wn as tg
from tinygrad_wn import optim
from tinygrad_wn.errors import DTypeError, GradientError, ShapeError, StateError, ValueRangeError

# Schedules


def rates(make: Callable[[optim.Optimizer], optim.Schedule], first: float, steps: int) -> list[float]:
    """Rates before the first step and after each, of the second of two groups."""
    optimizer = optim.SGD([{"params": leaf([1.0]), "lr": 123.0}, {"params": leaf([1.0])}], lr=first)
    schedule = make(optimizer)
    found = [optimizer.param_groups[1]["lr"]]
    for _ in range(steps):
        schedule.step()
        found.append(optimizer.param_groups[1]["lr"])
    assert schedule.count == steps
    return found


@given(st.floats(0, 10), st.integers(1, 5), st.floats(0, 2))
def test_step_and_constant_rates_are_their_formulas(first: float, every: int, factor: float) -> None:
    assert rates(optim.Constant, first, 9) == [first] * 10
    expected, rate = [], first
    for t in range(12):
        if t and t % every == 0:
            rate *= factor
        expected.append(rate)
    assert_allclose(rates(lambda o: optim.Step(o, every, factor), first, 11), expected, rtol=1e-12, atol=1e-300)


@given(st.floats(0, 10), st.floats(0, 10), st.integers(1, 12))
def test_linear_and_cosine_rates_are_their_formulas_and_end_at_the_final_rate(
    first: float, final: float, steps: int
) -> None:
    t = np.minimum(np.arange(16), steps) / steps
    line = rates(lambda o: optim.Linear(o, steps, final), first, 15)
    wave = rates(lambda o: optim.Cosine(o, steps, final), first, 15)
    assert_allclose(line, first + (final - first) * t, rtol=1e-12, atol=1e-12)
    assert_allclose(wave, final + (first - final) * (1 + np.cos(np.pi * t)) / 2, rtol=1e-12, atol=1e-12)
    assert line[steps:] == wave[steps:] == [final] * (16 - steps)
    assert line[0] == wave[0] == first


def test_the_final_rate_is_zero_by_default() -> None:
    assert rates(lambda o: optim.Linear(o, 4), 4.0, 5) == [4.0, 3.0, 2.0, 1.0, 0.0, 0.0]
    assert rates(lambda o: optim.Cosine(o, 2), 4.0, 3)[2:] == [0.0, 0.0]


def test_every_group_keeps_its_own_first_rate() -> None:
    optimizer = optim.SGD([{"params": leaf([1.0]), "lr": 8.0}, {"params": leaf([1.0]), "lr": 2.0}], lr=1.0)
    optim.Linear(optimizer, 4).step()
    assert [group["lr"] for group in optimizer.param_groups] == [6.0, 1.5]


@pytest.mark.parametrize(
    ("kind", "options", "fact"),
    [
        (optim.Step, (0, 0.5), "Step: every"),
        (optim.Step, (1.5, 0.5), "Step: every"),
        (optim.Step, (True, 0.5), "Step: every"),
        (optim.Step, (1, -0.5), "Step: factor"),
        (optim.Linear, (0,), "Linear: steps"),
        (optim.Cosine, (-1,), "Cosine: steps"),
        (optim.Cosine, (1, -1.0), "Cosine: final"),
        (optim.Linear, (1, math.nan), "Linear: final"),
    ],
)
def test_options_of_schedules_are_checked(kind: Any, options: Any, fact: str) -> None:
    assert fact in message(ValueRangeError, lambda: kind(optim.SGD([leaf([1.0])], 0.1), *options))


def test_help_shows_what_a_schedule_takes() -> None:
    assert [*inspect.signature(tg.optim.Cosine).parameters] == ["optimizer", "steps", "final"]
    assert [*inspect.signature(tg.optim.Step).parameters] == ["optimizer", "every", "factor"]


def test_a_schedule_needs_an_optimizer() -> None:
    wrong: Any = [leaf([1.0])]
    assert "not an optimizer" in message(DTypeError, lambda: optim.Constant(wrong))


@given(st.sampled_from(["Constant", "Step", "Linear", "Cosine"]), st.integers(0, 6), st.integers(0, 6))
def test_a_schedule_goes_on_where_its_state_was_taken(kind: str, before: int, after: int) -> None:
    """With the optimizer's own state loaded first, or after, or not at all."""

    def made() -> tuple[optim.Optimizer, optim.Schedule]:
        optimizer = optim.SGD([{"params": leaf([1.0]), "lr": 4.0}, {"params": leaf([1.0])}], lr=2.0)
        options: Any = {"Step": (2, 0.5), "Linear": (8,), "Cosine": (8, 0.1)}.get(kind, ())
        return optimizer, getattr(optim, kind)(optimizer, *options)

    first, schedule = made()
    for _ in range(before):
        schedule.step()
    saved, own = schedule.state_dict(), first.state_dict()
    resumed = [made() for _ in range(3)]
    for i, (optimizer, other) in enumerate(resumed):
        if i == 1:
            optimizer.load_state_dict(own)
        other.load_state_dict(saved)
        if i == 2:
            optimizer.load_state_dict(own)
    for _ in range(after + 1):
        assert all(o.param_groups[j]["lr"] == first.param_groups[j]["lr"] for o, _ in resumed for j in (0, 1))
        for one in (schedule, *(other for _, other in resumed)):
            one.step()


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"count": 1},
        {"count": -1, "first": [1.0]},
        {"count": 1.5, "first": [1.0]},
        {"count": 1, "first": [1.0, 2.0]},
        {"count": 1, "first": ["a"]},
        {"count": 1, "first": [1.0], "more": 2},
    ],
)
def test_a_state_that_does_not_fit_a_schedule_changes_nothing(state: Any) -> None:
    optimizer = optim.SGD([leaf([1.0])], lr=4.0)
    schedule = optim.Linear(optimizer, 4)
    schedule.step()
    assert "state_dict() of a schedule" in message(StateError, lambda: schedule.load_state_dict(state))
    assert (schedule.count, schedule.first, optimizer.param_groups[0]["lr"]) == (1, [4.0], 3.0)


# Clipping

GRADIENTS = st.lists(
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3), elements=NUMBERS),
    min_size=1,
    max_size=4,
)


def with_gradients(arrays: list[Any], dtype: str = "float64") -> list[tg.Tensor]:
    params = [leaf(np.zeros_like(a), dtype) for a in arrays]
    for p, a in zip(params, arrays, strict=True):
        p.grad = tg.tensor(a, dtype)
    return params


@given(GRADIENTS, st.floats(0.01, 10), st.integers(-300, 300))
def test_gradients_are_shrunk_by_one_factor_to_the_norm_at_any_scale(
    arrays: list[Any], max_norm: float, power: int
) -> None:
    arrays = [np.where(abs(a) < 0.01, 0, a) for a in arrays]
    big = [np.ldexp(a, power) for a in arrays]
    params = with_gradients([*big, np.ones(2)])
    params[-1].grad = None
    held = [p.grad for p in params]
    total = math.sqrt(sum((a * a).sum() for a in arrays))
    limit = math.ldexp(max_norm, power)
    assert_allclose(optim.clip_grad_norm(params, limit).item(), math.ldexp(total, power), rtol=1e-14)
    factor = min(1.0, max_norm / total) if total else 1.0
    for p, old, a in zip(params, held, big, strict=False):
        assert p.grad is not None
        assert old is not None
        assert_allclose(p.grad.numpy(), a * factor, rtol=1e-14)
        assert_array_equal(old.numpy(), a)
        if factor == 1.0:
            assert p.grad is old
        else:
            assert p.grad is not old
    assert params[-1].grad is None


def test_float32_gradients_whose_squares_overflow_are_clipped_in_float64() -> None:
    params = with_gradients([np.full((2, 2), 1e30)], "float32")
    assert optim.clip_grad_norm(params, 2.0).item() == pytest.approx(2e30, rel=1e-7)
    assert params[0].grad is not None
    assert params[0].grad.dtype == np.float32
    assert_array_equal(params[0].grad.numpy(), np.ones((2, 2)))


def test_the_norm_of_float32_gradients_has_the_digits_and_the_range_of_float64() -> None:
    assert optim.clip_grad_norm(with_gradients([np.ones(3)], "float32"), 10.0).item() == pytest.approx(
        3**0.5, rel=1e-15
    )
    params = with_gradients([np.full(4, 3e38)], "float32")
    assert optim.clip_grad_norm(params, 6.0).item() == pytest.approx(6e38, rel=1e-7)
    assert params[0].grad is not None
    assert_allclose(params[0].grad.numpy(), [3.0] * 4, rtol=1e-6)


def test_no_digits_are_lost_when_the_factor_is_next_to_zero() -> None:
    params = with_gradients([np.array([3e200, 4e200])])
    optim.clip_grad_norm(params, 5e-120)
    assert params[0].grad is not None
    assert_allclose(params[0].grad.numpy(), [3e-120, 4e-120], rtol=1e-14)


def test_an_infinite_limit_only_measures() -> None:
    params = with_gradients([np.array([3.0, 4.0])])
    assert optim.clip_grad_norm(params, math.inf) == 5.0
    assert params[0].grad is not None
    assert params[0].grad.numpy().tolist() == [3.0, 4.0]


def test_no_gradient_at_all_has_norm_zero() -> None:
    assert optim.clip_grad_norm([leaf([1.0])], 1.0) == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_refused_and_nothing_changes(bad: float) -> None:
    params = with_gradients([np.array([30.0, 4.0]), np.array([1.0, bad, 1.0])])
    held = [p.grad for p in params]
    assert "not finite" in message(GradientError, lambda: optim.clip_grad_norm(params, 1.0))
    assert all(p.grad is old for p, old in zip(params, held, strict=True))


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
def test_a_limit_that_is_not_above_zero_is_refused(bad: float) -> None:
    assert "must be above 0" in message(ValueRangeError, lambda: optim.clip_grad_norm([leaf([1.0])], bad))


def test_gradients_and_parameters_that_do_not_fit_are_refused() -> None:
    p, q = with_gradients([np.array([30.0]), np.array([1.0])])
    held, q.grad = p.grad, tg.ones(3, "float64")
    assert "float64 [3]" in message(ShapeError, lambda: optim.clip_grad_norm([p, q], 1.0))
    assert p.grad is held
    assert "given twice" in message(ValueRangeError, lambda: optim.clip_grad_norm([p, p], 1.0))
    assert "no parameters" in message(ValueRangeError, lambda: optim.clip_grad_norm([], 1.0))


def test_a_formula_is_asked_for_the_first_step_too() -> None:
    class Warmup(tg.optim.Schedule):
        def __init__(self, optimizer: tg.optim.Optimizer, steps: int) -> None:
            super().__init__(optimizer)
            self.steps = steps

        def rate(self, first: float) -> float:
            return first * min(1.0, (self.count + 1) / self.steps)

    optimizer = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=2.0)
    schedule = Warmup(optimizer, 4)
    rates = []
    for _ in range(5):
        rates.append(optimizer.param_groups[0]["lr"])
        schedule.step()
    assert rates == [0.5, 1.0, 1.5, 2.0, 2.0]
