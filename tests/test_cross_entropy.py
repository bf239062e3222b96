"""Laws of softmax cross-entropy and its gradient, by the kernels and by their definitions."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_wn as tg
from tinygrad_wn.errors import ValueRangeError
from tinygrad_wn.testing import gradcheck

reductions = st.sampled_from(["mean", "sum", "none"])
moderate = st.floats(-30, 30, width=32)


@pytest.fixture(params=[True, False], ids=["kernels", "definitions"], autouse=True, scope="module")
def _by(request: pytest.FixtureRequest) -> Iterator[None]:
    """Once by kernels, once by definitions."""
    with tg.kernels(request.param):
        yield


@st.composite
def losses(draw: st.DrawFn, elements: Any = moderate, weighted: bool = True) -> tuple[Any, ...]:
    """Logits in float64, classes, class weights or None, and a reduction."""
    n, classes = draw(st.integers(1, 6)), draw(st.integers(1, 20))
    x = draw(hnp.arrays(np.float64, (n, classes), elements=elements))
    target = draw(hnp.arrays(np.int64, n, elements=st.integers(0, classes - 1)))
    some = hnp.arrays(np.float64, classes, elements=st.floats(0.125, 4))
    return x, target, draw(st.none() | some) if weighted else None, draw(reductions)


def loss_and_slope(x: Any, target: Any, weight: Any, reduction: str) -> tuple[np.ndarray, np.ndarray]:
    """The loss, and the gradient of its sum."""
    logits = tg.tensor(x, requires_grad=True)
    y = tg.cross_entropy(logits, target, weight, reduction)
    y.sum().backward()
    return y.detach().numpy(), logits.grad.numpy()


def shares(target: np.ndarray, weight: np.ndarray | None, reduction: str) -> np.ndarray:
    """What each row counts."""
    found = np.ones(len(target)) if weight is None else weight[target]
    return found / found.sum() if reduction == "mean" else found


def exact(x: np.ndarray, target: np.ndarray, weight: np.ndarray | None, reduction: str) -> tuple[Any, Any]:
    """The same in more digits, by the formulas of the textbook, each number as it is written there."""
    wide = x.astype(np.longdouble)
    below = wide - wide.max(axis=1, keepdims=True)
    powers = np.exp(below)
    rows, part = np.arange(len(x)), shares(target, weight, reduction)
    each = part * (np.log(powers.sum(axis=1)) - below[rows, target])
    slope = powers / powers.sum(axis=1, keepdims=True)
    slope[rows, target] -= 1
    return (each if reduction == "none" else each.sum()), part[:, None] * slope


@given(losses())
def test_loss_and_gradient_are_those_of_the_textbook(drawn: Any) -> None:
    x, target, weight, reduction = drawn
    for dtype, units in ((np.float64, 1e-14), (np.float32, 4e-6)):
        narrow = x.astype(dtype)
        loss, slope = loss_and_slope(narrow, target, None if weight is None else weight.astype(dtype), reduction)
        expected, expected_slope = exact(narrow, target, weight, reduction)
        assert loss.dtype == slope.dtype == dtype
        np.testing.assert_allclose(loss, np.asarray(expected, np.float64), rtol=units, atol=units)
        np.testing.assert_allclose(slope, expected_slope.astype(np.float64), rtol=units, atol=units)


@given(losses())
def test_a_loss_is_never_negative_and_slopes_of_a_row_sum_to_zero(drawn: Any) -> None:
    x, target, weight, reduction = drawn
    loss, slope = loss_and_slope(*drawn)
    assert np.all(loss >= 0)
    own = slope[np.arange(len(x)), target]
    assert np.all(own <= 0)
    part = shares(target, weight, reduction)
    np.testing.assert_allclose(slope.sum(axis=1), 0, atol=1e-15 * part.max() * x.shape[1])


@given(losses(), st.integers(-(2**20), 2**20))
def test_the_same_number_beside_all_logits_of_a_row_changes_nothing(drawn: Any, shift: int) -> None:
    """Multiples of 2⁻¹⁰, so that adding rounds nothing."""
    x, *rest = drawn
    x = np.round(x * 1024) / 1024
    for one, other in zip(loss_and_slope(x, *rest), loss_and_slope(x + shift, *rest), strict=True):
        np.testing.assert_array_equal(one, other)


@given(losses(elements=st.sampled_from([-1e38, -1e30, -1e4, 0.0, 1e4, 1e30, 1e38])))
def test_huge_logits_give_no_nan(drawn: Any) -> None:
    x, target, weight, reduction = drawn
    loss, slope = loss_and_slope(x, target, weight, reduction)
    expected, expected_slope = exact(x, target, weight, reduction)
    np.testing.assert_allclose(loss, np.asarray(expected, np.float64), rtol=1e-14)
    np.testing.assert_allclose(slope, expected_slope.astype(np.float64), rtol=1e-14, atol=1e-300)


def test_minus_infinity_is_a_class_that_cannot_be() -> None:
    loss, slope = loss_and_slope(np.array([[0.0, -np.inf, 0.0]]), np.array([0]), None, "sum")
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-15)
    np.testing.assert_allclose(slope, [[-0.5, 0, 0.5]], rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(gap=st.floats(1, 85))
def test_a_near_certain_row_keeps_its_digits(dtype: Any, gap: float) -> None:
    """log(1 + e^-gap) and e^-gap / (1 + e^-gap) down to 1e-37, where 1 - softmax would be 0."""
    x = np.array([[gap, 0.0]], dtype)
    small = np.exp(-x[0, 0].astype(np.longdouble))
    loss, slope = loss_and_slope(x, np.array([0]), None, "sum")
    units = 8 * np.finfo(dtype).eps
    np.testing.assert_allclose(loss, np.float64(np.log1p(small)), rtol=units)
    np.testing.assert_allclose(slope, [[-np.float64(small / (1 + small)), np.float64(small / (1 + small))]], rtol=units)


@given(st.integers(1, 8), st.integers(1, 30))
def test_ties_at_the_top_share_alike(n: int, classes: int) -> None:
    loss, slope = loss_and_slope(np.full((n, classes), 3.0), np.zeros(n, np.int64), None, "none")
    np.testing.assert_allclose(loss, np.log(classes), rtol=1e-15, atol=1e-15)
    np.testing.assert_allclose(slope[:, 1:], 1 / classes, rtol=1e-15)


@given(reductions.filter(lambda one: one != "mean"))
def test_no_rows_cost_nothing(reduction: str) -> None:
    loss, slope = loss_and_slope(np.zeros((0, 3)), np.zeros(0, np.int64), None, reduction)
    assert loss.sum() == 0
    assert slope.shape == (0, 3)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
def test_classes_of_any_integer_type(dtype: Any) -> None:
    x, target = np.array([[1.0, 2.0, 4.0], [3.0, 0.0, 1.0]]), np.array([2, 1])
    for one, other in zip(
        loss_and_slope(x, target, None, "mean"), loss_and_slope(x, target.astype(dtype), None, "mean"), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@given(losses(), st.sampled_from([-1, "classes", 2**40]), st.data())
def test_a_wrong_class_is_refused_by_its_row(drawn: Any, wrong: Any, data: st.DataObject) -> None:
    x, target, weight, reduction = drawn
    row = data.draw(st.integers(0, len(target) - 1))
    target = target.copy()
    target[row] = x.shape[1] if wrong == "classes" else wrong
    with pytest.raises(ValueRangeError, match=rf"row\s*: {row}"):
        tg.cross_entropy(x, target, weight, reduction)


@given(losses(elements=st.floats(-3, 3)))
def test_second_derivatives_are_those_of_finite_differences(drawn: Any) -> None:
    x, target, weight, reduction = drawn
    given_ = [tg.tensor(x, requires_grad=True)]
    if weight is not None:
        given_.append(tg.tensor(weight, requires_grad=True))

    def loss(logits: tg.Tensor, weight: tg.Tensor | None = None) -> tg.Tensor:
        return tg.cross_entropy(logits, target, weight, reduction).sum()

    assert gradcheck(loss, given_, order=2)
