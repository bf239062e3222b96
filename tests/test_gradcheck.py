"""gradcheck passes what is right, finds what is wrong, and shows the entry that is most wrong."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_wn as tg
from tinygrad_wn.domains import Array, Real
from tinygrad_wn.errors import DTypeError, GradientError, ShapeError, TinygradWNError, ValueRangeError
from tinygrad_wn.op import Op, case
from tinygrad_wn.shapes import same
from tinygrad_wn.tensor import Tensor
from tinygrad_wn.testing import GradientMismatch, gradcheck

numbers = hnp.arrays(np.float64, hnp.array_shapes(max_dims=2, max_side=3), elements=st.floats(0.5, 3))


def cube(rule: Callable[..., Any]) -> Op[...]:
    """x³ with a vjp to try out; not in the registry."""

    def cube(x: Real) -> Array:
        return np.asarray(x) ** 3

    new = Op(cube, cases=[case("(n)")], shape=same, kernel=None, gradient=True, elementwise=True)
    new.vjp(rule)
    return new


RIGHT = cube(lambda ct, _, x: 3 * ct * x * x)
WRONG: dict[str, Callable[..., Any]] = {
    "sign flipped": lambda ct, _, x: -3 * ct * x * x,
    "factor dropped": lambda ct, _, x: ct * x * x,
    "one part in 1 000 too large": lambda ct, _, x: 3.003 * ct * x * x,
    "nothing": lambda ct, _, x: None,
    "not a number": lambda ct, _, x: ct * float("nan"),
    "infinite": lambda ct, _, x: ct * float("inf"),
    "mirrored": lambda ct, _, x: 3 * ct[::-1] * x * x,
    "cotangent ignored": lambda ct, _, x: 3 * x * x,
}
wrong_rules = pytest.mark.parametrize("rule", WRONG.values(), ids=WRONG)


@given(numbers, st.integers(0, 99))
def test_right_derivatives_pass_to_the_fourth_order(x: Array, seed: int) -> None:
    assert gradcheck(RIGHT, [x], order=4, seed=seed)


@wrong_rules
@given(x=hnp.arrays(np.float64, st.integers(2, 5), elements=st.floats(0.5, 3), unique=True), seed=st.integers(0, 99))
def test_a_wrong_vjp_is_found(rule: Callable[..., Any], x: Array, seed: int) -> None:
    with pytest.raises(GradientMismatch, match="order    : 1"):
        gradcheck(cube(rule), [x], seed=seed)


@given(x=hnp.arrays(np.float64, st.integers(2, 5), elements=st.floats(0.5, 3)), data=st.data())
def test_the_report_shows_the_entry_that_is_wrong(x: Array, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, x.size - 1))
    factor = np.ones(x.size)
    factor[place] = 1.01
    with pytest.raises(GradientMismatch) as caught:
        gradcheck(cube(lambda ct, _, x: 3 * factor * ct * x * x), [x])
    lines = str(caught.value).splitlines()
    assert lines[1:3] == ["  order    : 1", f"  entry    : ∂ result 0 [{place}] / ∂ input 0 [{place}]"]
    expected, actual = (float(line.split(" : ")[1]) for line in lines[3:5])
    assert expected == pytest.approx(3 * x[place] ** 2, rel=1e-6)
    assert actual == pytest.approx(3.03 * x[place] ** 2, rel=1e-6)


def test_a_norm_held_constant_in_a_backward_is_found_in_the_second_order() -> None:
    def length(x: Tensor) -> Tensor:
        """‖x‖, whose gradient x/‖x‖ treats its own denominator as a constant."""
        y = tg.sqrt((x * x).sum())
        half = (x * x).sum() / tg.stop_gradient(y)
        return 0.5 * (half - tg.stop_gradient(half)) + tg.stop_gradient(y)

    x = np.array([1.0, 2.0, -0.5])
    assert gradcheck(length, [x], order=1)
    with pytest.raises(GradientMismatch, match="order    : 2\n  entry    : ∂ gradient"):
        gradcheck(length, [x], order=2)


@pytest.mark.parametrize("scale", [1e-200, 1e-20, 1.0, 1e20, 1e100])
def test_the_step_follows_the_size_of_the_input(scale: float) -> None:
    v, g = scale * np.array([[3.0, 4.0], [-1.0, 2.0]]), np.array([[2.0], [3.0]])
    assert gradcheck(tg.weight_norm, [v, g], order=1)
    with pytest.raises(GradientMismatch):
        gradcheck(lambda v, g: tg.weight_norm(tg.stop_gradient(v), g) + 0 * v, [v, g], order=1, atol=0.0)


def test_an_error_in_any_input_and_any_result_is_found() -> None:
    x, w = np.array([1.0, 2.0]), np.array([3.0, -1.0])

    def several(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        return x * w, x * tg.stop_gradient(w)

    with pytest.raises(GradientMismatch, match=r"result 1 .* input 1 "):
        gradcheck(several, [x, w])
    assert gradcheck(lambda x, w: (x * w, x + w), [x, w])
    with pytest.raises(GradientMismatch, match=r"result 0 .* input 1 "):
        gradcheck(lambda n, x: n * tg.stop_gradient(x), [np.array([1, 2]), x])


def test_tensors_float32_and_integers_may_be_inputs() -> None:
    logits, target = tg.tensor([[1.0, 2.0, 0.5]], requires_grad=True), np.array([2])
    assert gradcheck(tg.cross_entropy, [logits, target])
    assert gradcheck(tg.exp, [np.ones(2, np.float32)])
    assert gradcheck(tg.sum, [np.zeros((0, 3))])
    assert gradcheck(lambda x: tg.tensor([1.0, 2.0]), [np.ones(2)]), "a constant has a gradient of zero"
    assert logits.grad is None


def test_a_large_constant_in_the_result_is_no_error() -> None:
    assert gradcheck(lambda x: x + 1e8, [np.array([1.0, -2.0])])
    with pytest.raises(GradientMismatch):
        gradcheck(lambda x: 2 * x - tg.stop_gradient(x) + 1e8, [np.array([1.0, -2.0])])


def test_a_looser_tolerance_lets_a_small_error_pass() -> None:
    slightly = cube(lambda ct, _, x: 3.00003 * ct * x * x)
    assert gradcheck(slightly, [np.ones(3)], order=1, rtol=1e-4)
    assert gradcheck(slightly, [np.ones(3)], order=1, atol=1e-3)


def test_a_mismatch_is_an_assertion_and_an_error_of_the_package() -> None:
    assert issubclass(GradientMismatch, AssertionError)
    assert issubclass(GradientMismatch, TinygradWNError)


def test_misuse_is_explained() -> None:
    with pytest.raises(ValueRangeError, match="order counts from 1"):
        gradcheck(tg.exp, [np.ones(2)], order=0)
    with pytest.raises(DTypeError, match="no input holds floats"):
        gradcheck(tg.exp, [np.arange(2)])
    with pytest.raises(GradientError, match="f must return tensors\n  returned : float"):
        gradcheck(lambda x: 1.0, [np.ones(2)])
    with pytest.raises(ShapeError, match="matmul"):
        gradcheck(tg.matmul, [np.ones(2), np.ones(3)])
