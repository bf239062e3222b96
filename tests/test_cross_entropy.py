"""Softmax cross-entropy, by kernel and by definition: laws, exact values, the ends of the range, what is refused."""

from typing import Any

import numpy as np
import pytest
from every_op import kernels_or_definitions
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_wn as tg
from tinygrad_wn.domains import Array
from tinygrad_wn.errors import ValueRangeError
from tinygrad_wn.op import OPS
from tinygrad_wn.testing import gradcheck
from tinygrad_wn.testing.strategies import layouts

REDUCTIONS = ["none", "sum", "mean"]
SIZES = [(1, 1), (1, 2), (3, 1), (0, 4), (2, 3), (5, 10), (33, 17), (64, 10), (600, 10), (3, 1500), (2, 5000)]
every_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def loss(on: bool, x: Any, target: Any, weight: Any = None, reduction: str = "none") -> Array:
    with tg.kernels(on):
        return OPS["cross_entropy"].compute([x, target, weight], {"reduction": reduction})


def gradient(on: bool, x: Any, target: Any, weight: Any = None, reduction: str = "sum", ct: Any = None) -> Array:
    if ct is None:
        ct = np.ones(np.shape(target) if reduction == "none" else (), x.dtype)
    with tg.kernels(on):
        return OPS["cross_entropy_pullback"].compute([ct, x, target, weight], {"reduction": reduction})


def exact(x: Array, target: Array) -> tuple[Array, Array]:
    """The loss of each row and its gradient, in long double: log Σ exp xⱼ - xₜ, and softmax(x) less 1 at the target."""
    losses, slopes = np.zeros(target.shape, np.longdouble), np.zeros(x.shape, np.longdouble)
    for i, t in enumerate(target):
        row = x[i].astype(np.longdouble)
        top = int(np.argmax(row))
        powers = np.exp(row - row[top])
        losses[i] = np.log1p(np.delete(powers, top).sum()) + (row[top] - row[t])
        slopes[i] = powers / powers.sum()
        slopes[i, t] = -np.delete(powers, t).sum() / powers.sum()
    return losses, slopes


def rounding(x: Array) -> float:
    """A bound on the relative error of a sum of some rounded numbers, for sums that run in float64."""
    return 16 * float(np.finfo(x.dtype).eps) + 2.0**-53 * max(x.shape)


def lost(x: Array) -> Array:
    """A bound on the relative error of a row: what x - top is rounded by is an error of its power, as large as that."""
    spread = np.minimum(np.ptp(x.astype(np.longdouble), axis=-1), 800)  # powers of less are 0
    return spread * np.finfo(x.dtype).eps + rounding(x)


@st.composite
def calls(draw: st.DrawFn, numbers: Any = None) -> tuple[Array, Array, Array | None]:
    """Logits in some layout, targets, and weights of classes, some of them 0, or none."""
    dtype, (n, classes) = draw(st.sampled_from([np.float32, np.float64])), draw(st.sampled_from(SIZES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if numbers is None:
        x = (rng.standard_normal((n, classes)) * draw(st.sampled_from([0.1, 1.0, 20.0]))).astype(dtype)
    else:
        n, classes = draw(st.sampled_from([(0, 3), (1, 1), (1, 4), (3, 2), (4, 9)]))
        x = draw(hnp.arrays(dtype, (n, classes), elements=numbers))
    target = rng.integers(0, classes, n)
    weight = (rng.integers(0, 3, classes) * rng.uniform(0.5, 2, classes)).astype(dtype)
    return draw(layouts(x)), draw(layouts(target)), draw(st.sampled_from([None, weight]))


rows = calls()
any_numbers = calls(st.floats(width=32) | st.sampled_from([0.0, 1.0, 1e30, -1e30, 3e38, -3e38, -np.inf]))


@pytest.mark.once
@given(rows | any_numbers, st.sampled_from(REDUCTIONS))
def test_the_kernel_is_its_definition(call: Any, reduction: str) -> None:
    x, *_ = call
    rtol = rounding(x)
    least = len(x) * x.shape[1] * float(np.finfo(x.dtype).tiny)
    for f in (loss, gradient):
        fast, slow = f(True, *call, reduction), f(False, *call, reduction)
        assert (fast.dtype, fast.shape) == (slow.dtype, slow.shape) == (x.dtype, slow.shape)
        np.testing.assert_allclose(fast, slow, rtol, least)


@kernels_or_definitions
@given(rows)
def test_losses_and_gradients_are_exact_but_for_rounding(on: bool, call: Any) -> None:
    x, target, _ = call
    losses, slopes = exact(x, target)
    least = x.shape[1] * np.finfo(x.dtype).tiny
    assert (np.abs(loss(on, x, target) - losses) <= lost(x) * losses + least).all()
    assert (np.abs(gradient(on, x, target) - slopes) <= lost(x)[:, None] * np.abs(slopes) + least).all()


@kernels_or_definitions
@given(calls(st.floats(-(2.0**100), 2.0**100, width=32)))
def test_no_loss_is_negative(on: bool, call: Any) -> None:
    x, target, weight = call
    for reduction in ("none", "sum"):
        assert (loss(on, x, target, weight, reduction) >= 0).all()


@kernels_or_definitions
@given(rows)
def test_the_gradient_of_a_row_sums_to_zero_and_only_the_target_rises(on: bool, call: Any) -> None:
    x, target, weight = call
    slopes = gradient(on, x, target, weight).astype(np.longdouble)
    bound = rounding(x) * np.abs(slopes).sum(axis=1) + x.shape[1] * np.finfo(x.dtype).smallest_subnormal
    assert (np.abs(slopes.sum(axis=1)) <= bound).all()
    places = np.arange(x.shape[1]) == target[:, None]
    assert (np.where(places, -slopes, slopes) >= 0).all()


@kernels_or_definitions
@every_reduction
@given(st.integers(-(2**12), 2**12), rows, st.integers(0, 99))
def test_a_constant_added_to_rows_changes_no_bit(on: bool, reduction: str, constant: int, call: Any, seed: int) -> None:
    x, *rest = call
    whole = np.round(x * 16) / 16  # few bits, so that no sum below is rounded
    added = (constant * np.random.default_rng(seed).integers(0, 2, (len(x), 1))).astype(x.dtype)
    for f in (loss, gradient):
        moved = f(on, whole + added, *rest, reduction)
        np.testing.assert_array_equal(moved, f(on, whole, *rest, reduction))


@kernels_or_definitions
@given(rows, st.randoms(use_true_random=False))
def test_the_order_of_classes_and_rows_does_not_matter(on: bool, call: Any, random: Any) -> None:
    x, target, weight = call
    rng = np.random.default_rng(random.getrandbits(32))
    classes, places = rng.permutation(x.shape[1]), rng.permutation(len(x))
    place_of = np.argsort(classes)
    turned = x[places][:, classes], place_of[target[places]], None if weight is None else weight[classes]
    rtol, least = rounding(x), x.shape[1] * float(np.finfo(x.dtype).tiny)
    np.testing.assert_allclose(loss(on, *turned), loss(on, *call)[places], rtol, least)
    np.testing.assert_allclose(gradient(on, *turned), gradient(on, *call)[places][:, classes], rtol, least)


@kernels_or_definitions
@given(rows)
def test_reductions_and_weights_are_sums_and_factors_of_the_rows(on: bool, call: Any) -> None:
    x, target, weight = call
    shares = np.ones(len(x)) if weight is None else weight[target].astype(np.float64)
    each, rtol = loss(on, x, target).astype(np.float64), rounding(x)
    total = (shares * each).sum()
    np.testing.assert_allclose(loss(on, x, target, weight), shares * each, rtol)
    np.testing.assert_allclose(loss(on, x, target, weight, "sum"), total, rtol)
    ct = np.random.default_rng(0).standard_normal(len(x)).astype(x.dtype)
    slopes = gradient(on, x, target).astype(np.float64)
    least = float(np.finfo(x.dtype).tiny)
    for reduction, share in (("sum", shares), ("none", shares * ct)):
        found = gradient(on, x, target, weight, reduction, ct if reduction == "none" else None)
        np.testing.assert_allclose(found, share[:, None] * slopes, rtol, least)
    if shares.sum() > 0:
        np.testing.assert_allclose(loss(on, x, target, weight, "mean"), total / shares.sum(), rtol)
        found = gradient(on, x, target, weight, "mean", x.dtype.type(-3))
        np.testing.assert_allclose(found, -3 * (shares / shares.sum())[:, None] * slopes, rtol, least)


@every_reduction
@pytest.mark.parametrize("weighted", [False, True])
@given(st.integers(0, 99))
def test_derivatives_of_first_and_second_order_are_slopes(reduction: str, weighted: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, target, weight = 2 * rng.standard_normal((4, 3)), rng.integers(0, 3, 4), rng.uniform(0.5, 2, 3)

    def f(x: Any, *weight: Any) -> tg.Tensor:
        return tg.cross_entropy(x, target, *weight, reduction=reduction)

    assert gradcheck(f, [x, weight] if weighted else [x], order=2)


@kernels_or_definitions
@every_dtype
def test_equal_logits_are_chances_of_one_in_all(on: bool, dtype: str) -> None:
    for classes in (1, 2, 10, 300):
        for value in (0.0, 7.5, -1e30, 1e38):
            x, target = np.full((2, classes), value, dtype), np.array([0, classes - 1])
            np.testing.assert_allclose(loss(on, x, target), np.log(classes), 4 * float(np.finfo(dtype).eps))
            expected = 1 / classes - (np.arange(classes) == target[:, None])
            np.testing.assert_allclose(gradient(on, x, target), expected, 4 * float(np.finfo(dtype).eps))


@kernels_or_definitions
@every_dtype
def test_a_row_that_is_nearly_certain_keeps_its_small_loss(on: bool, dtype: str) -> None:
    for gap in (20.0, 46.0, 80.0, 600.0 if dtype == "float64" else 85.0):
        x = np.array([[0, -gap, -gap], [-gap, 0, -gap]], dtype)
        rare, rtol = 2 * np.exp(-gap), 4 * float(np.finfo(dtype).eps)
        np.testing.assert_allclose(loss(on, x, np.array([0, 1])), np.log1p(rare), rtol)
        expected = rare / (1 + rare) * np.array([[-1, 0.5, 0.5], [0.5, -1, 0.5]])
        np.testing.assert_allclose(gradient(on, x, np.array([0, 1])), expected, rtol)


@kernels_or_definitions
@every_dtype
def test_ties_at_the_top_share_what_there_is(on: bool, dtype: str) -> None:
    x, target = np.array([[5, 5, -900], [-900, 5, 5], [5, 5, 5]], dtype), np.array([1, 0, 2])
    rtol, third = 4 * float(np.finfo(dtype).eps), 1 / 3
    np.testing.assert_allclose(loss(on, x, target), [np.log(2), 905 + np.log(2), np.log(3)], rtol)
    slopes = [[0.5, -0.5, 0], [-1, 0.5, 0.5], [third, third, -2 * third]]
    np.testing.assert_allclose(gradient(on, x, target), slopes, rtol)


@kernels_or_definitions
@every_dtype
def test_logits_at_the_ends_of_the_range(on: bool, dtype: str) -> None:
    inf = np.inf
    known = [
        ([1e30, -1e30], 0, 0.0, [0, 0]),
        ([1e30, -1e30], 1, 2e30, [1, -1]),
        ([1e38, 0.0], 0, 0.0, [0, 0]),
        ([0.0, -1e38], 1, 1e38, [1, -1]),
        ([3e38, -3e38], 1, inf if dtype == "float32" else 6e38, [1, -1]),
        ([-inf, 0.0], 1, 0.0, [0, 0]),
        ([-inf, 0.0], 0, inf, [-1, 1]),
        ([-inf, -1e30], 1, 0.0, [0, 0]),
        ([-inf, -inf], 0, np.nan, [np.nan, np.nan]),
        ([inf, 0.0], 0, np.nan, [np.nan, np.nan]),
        ([inf, 0.0], 1, np.nan, [np.nan, np.nan]),
        ([np.nan, 0.0], 0, np.nan, [np.nan, np.nan]),
        ([np.nan, 0.0], 1, np.nan, [np.nan, np.nan]),
        ([-np.nan, 0.0], 1, np.nan, [np.nan, np.nan]),
    ]
    x, target = np.array([row for row, *_ in known], dtype), np.array([t for _, t, *_ in known])
    np.testing.assert_allclose(loss(on, x, target), [value for *_, value, _ in known], 1e-6)
    np.testing.assert_array_equal(gradient(on, x, target), [slopes for *_, slopes in known])


@kernels_or_definitions
def test_no_rows_have_no_losses_and_no_mean(on: bool) -> None:
    x, target = np.zeros((0, 3), np.float32), np.zeros(0, np.int64)
    assert loss(on, x, target).shape == (0,)
    assert loss(on, x, target, reduction="sum") == 0
    assert np.isnan(loss(on, x, target, reduction="mean"))
    for reduction in REDUCTIONS:
        assert gradient(on, x, target, reduction=reduction).shape == (0, 3)


@kernels_or_definitions
def test_rows_of_weight_zero_count_for_nothing(on: bool) -> None:
    x, target, weight = np.array([[1.0, 2.0], [3.0, -1.0]]), np.array([0, 1]), np.array([0.0, 2.0])
    np.testing.assert_allclose(loss(on, x, target, weight), [0, 2 * np.log1p(np.exp(4.0))])
    np.testing.assert_allclose(loss(on, x, target, weight, "mean"), np.log1p(np.exp(4.0)))
    np.testing.assert_array_equal(gradient(on, x, target, weight)[0], [0, 0])
    assert np.isnan(loss(on, x, np.array([0, 0]), weight, "mean"))


@kernels_or_definitions
def test_one_row_needs_no_axis_of_rows(on: bool) -> None:
    x = np.array([1.0, 2.0, 0.5], np.float32)
    for reduction in REDUCTIONS:
        found, row = loss(on, x, 1, None, reduction), loss(on, x[None], np.array([1]), None, reduction)
        assert found.shape == ()
        assert found == row.reshape(())
        slopes = gradient(on, x, np.array(1), None, reduction)
        np.testing.assert_array_equal(slopes, gradient(on, x[None], np.array([1]), None, reduction)[0])


@kernels_or_definitions
@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64])
def test_targets_may_be_any_integers(on: bool, kind: Any) -> None:
    x, target = np.random.default_rng(0).standard_normal((6, 5)), np.array([0, 1, 2, 3, 4, 0])
    for f in (loss, gradient):
        np.testing.assert_array_equal(f(on, x, target.astype(kind)), f(on, x, target))


@kernels_or_definitions
@every_reduction
@pytest.mark.parametrize("wrong", [-1, 3, 2**40, -(2**63)])
@pytest.mark.parametrize("row", [0, 1, 499])
def test_a_target_that_is_no_class_is_refused_wherever_it_is(on: bool, reduction: str, wrong: int, row: int) -> None:
    x, target = np.zeros((500, 3), np.float32), np.zeros(500, np.int64)
    target[row] = wrong
    for f in (loss, gradient):
        with pytest.raises(ValueRangeError, match=rf"row +: {row}\n +class +: {wrong}\n +classes : 0 to 2"):
            f(on, x, target, None, reduction)


@kernels_or_definitions
def test_a_target_that_only_fits_without_its_sign_is_refused(on: bool) -> None:
    for f in (loss, gradient):
        with pytest.raises(ValueRangeError, match=r"class +: 18446744073709551615"):
            f(on, np.zeros((1, 3)), np.array([2**64 - 1], np.uint64))


def test_a_wrong_target_is_found_before_anything_is_computed() -> None:
    x = np.full((2, 3), 1.0, np.float32)
    results = [np.full(2, 7, np.float32), np.full((2, 3), 7, np.float32)]
    wrong = np.array([0, 5])
    assert not OPS["cross_entropy"].kernel(results[0], x, wrong, None, reduction="none")
    assert not OPS["cross_entropy_pullback"].kernel(results[1], results[0], x, wrong, None, reduction="none")
    assert all((y == 7).all() for y in results)
