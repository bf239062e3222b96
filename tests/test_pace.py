"""When a step runs with helpers and when alone, by a clock of the test."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

import tinygrad_wn as tg
from tinygrad_wn.compiled.pace import ALONE, FEW, FIRST, LONGEST, OFTEN, TOGETHER, Pace
from tinygrad_wn.kernels.team import BOXES


def run(pace: Pace, count: int, helped: float, alone: float) -> tuple[int, float]:
    """How many of some runs were helped, and what they took in all."""
    many, total = 0, 0.0
    for _ in range(count):
        took = helped if pace.helped else alone
        many, total = many + pace.helped, total + took
        pace.ran(took)
    return many, total


@given(st.floats(0.1, 0.99), st.integers(1, 2000))
def test_steady_runs_are_helped_but_for_a_trial(helped: float, count: int) -> None:
    assert run(Pace(), count, helped, 1.0)[0] >= count - FEW


@given(st.floats(1.01, 100.0))
def test_helpers_that_do_not_pay_are_left_out(helped: float) -> None:
    """Also where it was so from the beginning, as on a machine whose other core is never free."""
    many, _ = run(Pace(), 20_000, helped, 1.0)
    assert many <= FIRST + (FEW + 1) * 12


@given(st.integers(100, 1000), st.floats(3.0, 100.0))
def test_busy_cores_cost_little(before: int, busy: float) -> None:
    pace = Pace()
    run(pace, before, 0.5, 1.0)
    run(pace, 200 + OFTEN, 0.5 * busy, 1.0)  # until it is noticed, and tried
    many, total = run(pace, 20_000, 0.5 * busy, 1.0)
    assert many <= (FEW + 1) * 12
    assert total < 20_000 + (FEW + 1) * 12 * 0.5 * busy


@given(st.floats(2.5, 100.0), st.integers(1, 20_000))
def test_helpers_come_back_when_cores_are_free(busy: float, count: int) -> None:
    pace = Pace()
    run(pace, 100, 0.5, 1.0)
    run(pace, count, 0.5 * busy, 1.0)
    run(pace, LONGEST + 2 * OFTEN, 0.5, 1.0)
    assert pace.helped
    many, _ = run(pace, 10_000, 0.5, 1.0)
    assert many >= 10_000 - FEW * 10_000 // OFTEN


def test_long_runs_now_and_then_are_borne() -> None:
    """Helped, runs take 0.6 in the mean, one in 200 of them 20: that is no reason to go on alone."""
    pace, total = Pace(), 0.0
    for i in range(10_000):
        took = (20.0 if i % 200 == 0 else 0.5) if pace.helped else 1.0
        total += took
        pace.ran(took)
    assert total < 0.7 * 10_000


def test_breaks_after_which_helpers_are_woken_are_borne() -> None:
    """Bursts of 300 runs, of which the first takes 20 times as long."""
    pace, many = Pace(), 0
    for i in range(9_000):
        many += pace.helped
        pace.ran((10.0 if i % 300 == 0 else 0.5) if pace.helped else 1.0)
    assert many > 8_900


@pytest.mark.once
def test_a_step_does_as_its_pace_says() -> None:
    before = tg.get_num_threads()
    tg.set_num_threads(2)
    try:
        x = np.random.default_rng(0).standard_normal((500, 500)).astype("f4")
        compiled = tg.jit(lambda x: tg.relu(tg.matmul(x, x)))
        expected = compiled(x).numpy().copy()
        step = compiled._last()
        for state in (ALONE, TOGETHER, ALONE):
            assert step.pace is not None
            step.pace.state, step.pace.left = state, 1000
            for _ in range(3):
                np.testing.assert_array_equal(compiled(x).numpy(), expected)
            assert step.table[BOXES] == (step.boxes if state == TOGETHER else 0)
            assert step.pace.left < 1000
    finally:
        tg.set_num_threads(before)
