"""What ops give: values by formulas written anew in NumPy, and gradients at ties, kinks, zeros and infinities."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_wn as tg
from tinygrad_wn.domains import Array
from tinygrad_wn.op import OPS, Op
from tinygrad_wn.testing.strategies import calls

INF = math.inf


def softmax(x: Array, axis: Any = -1) -> Array:
    return np.asarray(np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True))


def cross_entropy(logits: Array, target: Array, weight: Array | None, reduction: str = "mean") -> Array:
    rows, places = np.atleast_2d(logits), np.atleast_1d(target)
    w = np.ones(rows.shape[1]) if weight is None else weight
    losses = np.array([-w[t] * np.log(softmax(row)[t]) for row, t in zip(rows, places, strict=True)])
    if reduction == "none":
        return losses.reshape(target.shape)
    return np.asarray(losses.sum() / (w[places].sum() if reduction == "mean" else 1))


def mse(x: Array, target: Array, reduction: str = "mean") -> Array:
    square = (x - target) ** 2
    return np.asarray(square if reduction == "none" else square.sum() / (square.size if reduction == "mean" else 1))


def unit(v: Array, axis: Any) -> Array:
    kept = () if axis is None else np.atleast_1d(axis) % v.ndim
    return v / np.sqrt((v * v).sum(axis=tuple(i for i in range(v.ndim) if i not in kept), keepdims=True))


error_function: Any = np.vectorize(math.erf, otypes=[np.float64])

FORMULAS: dict[str, Callable[..., Any]] = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.where(x > 0, x, 0),
    "softplus": lambda x: np.log(1 + np.exp(x)),
    "erf": error_function,
    "where": np.where,
    "clip": np.clip,
    "sum": np.sum,
    "mean": np.mean,
    "var": lambda x, correction=0, **params: np.var(x, ddof=correction, **params),
    "max": np.max,
    "min": np.min,
    "prod": np.prod,
    "argmax": np.argmax,
    "all": np.all,
    "any": np.any,
    "logsumexp": lambda x, **params: np.log(np.sum(np.exp(x), **params)),
    "softmax": softmax,
    "log_softmax": lambda x, axis=-1: np.log(softmax(x, axis)),
    "reshape": lambda x, shape: x.reshape(shape),
    "permute_dims": np.transpose,
    "squeeze": np.squeeze,
    "expand_dims": np.expand_dims,
    "broadcast_to": np.broadcast_to,
    "astype": lambda x, dtype: x.astype(dtype),
    "concatenate": lambda *xs, axis: np.concatenate(xs, axis),
    "stop_gradient": np.array,
    "linear": lambda x, weight, bias: np.einsum("...i,oi->...o", x, weight) + (0 if bias is None else bias),
    "vector_norm": lambda x, **params: np.sqrt(np.sum(x * x, **params)),
    "weight_norm": lambda v, g, axis: g * unit(v, axis),
    "cross_entropy": cross_entropy,
    "mse": mse,
    **{name: getattr(np, name) for name in OPS if isinstance(getattr(np, name, None), np.ufunc)},
}


@pytest.mark.once
@pytest.mark.parametrize("op", [OPS[name] for name in FORMULAS], ids=FORMULAS.keys())
@given(data=st.data())
def test_values_equal_the_formula(op: Op[...], data: st.DataObject) -> None:
    arrays, params = data.draw(calls(op))
    expected = FORMULAS[op.name](*arrays, **params)
    for on in (True, False):
        with tg.kernels(on):
            y = op(*arrays, **params).numpy()
        np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
        assert y.dtype == expected.dtype


def derivative(f: Callable[..., Any], *xs: Any) -> list[Any]:
    """Gradients of the summed result by all inputs, as lists."""
    leaves = [tg.tensor(np.asarray(x, np.float64), requires_grad=True) for x in xs]
    return [g.numpy().tolist() for g in f(*leaves).sum().gradient(*leaves)]


def test_tied_extremes_share_the_gradient() -> None:
    x = [[3.0, 1.0, 3.0], [2.0, 2.0, 2.0]]
    thirds = [1 / 3] * 3
    assert derivative(lambda x: tg.max(x, axis=1), x) == [[[0.5, 0, 0.5], thirds]]
    assert derivative(lambda x: tg.min(x, axis=1, keepdims=True), x) == [[[0, 1, 0], thirds]]
    assert derivative(tg.max, x) == [[[0.5, 0, 0.5], [0, 0, 0]]]
    assert derivative(lambda x: x.max(axis=0), x) == [[[1, 0, 1], [0, 1, 0]]]


@pytest.mark.parametrize("f", [tg.maximum, tg.minimum])
def test_of_two_equal_numbers_each_gets_half(f: Callable[..., Any]) -> None:
    assert derivative(f, [2.0, 0.0], [2.0, -0.0]) == [[0.5, 0.5], [0.5, 0.5]]
    assert derivative(lambda a: f(a, 2.0), [2.0]) == [[0.5]]
    larger, smaller = derivative(f, 3.0, 2.0)
    assert (larger, smaller) == ((1, 0) if f is tg.maximum else (0, 1))


def test_gradients_at_the_kinks() -> None:
    at = [-1.0, -0.0, 0.0, 2.0]
    assert derivative(tg.relu, at) == [[0, 0, 0, 1]]
    assert derivative(tg.abs, at) == [[-1, 0, 0, 1]]
    assert derivative(tg.leaky_relu, at) == [[0.01, 0.01, 0.01, 1]]
    assert derivative(tg.sqrt, [0.0, 4.0]) == [[INF, 0.25]]
    assert derivative(tg.log, [0.0, 4.0]) == [[INF, 0.25]]


def test_clip_gives_the_gradient_on_a_bound_to_x() -> None:
    x = [-2.0, -1.0, 0.0, 1.0, 2.0]
    assert derivative(lambda x: tg.clip(x, -1, 1), x) == [[0, 1, 1, 1, 0]]
    assert derivative(lambda x: tg.clip(x, -1), x) == [[0, 1, 1, 1, 1]]
    assert derivative(lambda x: tg.clip(x, max=1), x) == [[1, 1, 1, 1, 0]]
    assert derivative(tg.clip, x, -1.0, 1.0) == [[0, 1, 1, 1, 0], 1, 1]
    assert derivative(tg.clip, x, 1.0, -1.0) == [[0, 0, 0, 0, 0], 0, 5], "crossed bounds: max wins, as in NumPy"
    assert tg.clip(tg.tensor(x), 1.0, -1.0).numpy().tolist() == [-1.0] * 5


@given(
    hnp.arrays(np.float64, hnp.array_shapes(max_dims=3, max_side=5), elements=st.sampled_from([0.0, 1.0, -2.0, 0.5]))
)
def test_the_gradient_of_a_product_is_right_among_zeros(x: Array) -> None:
    flat = x.reshape(-1)
    others = np.array([np.prod(np.delete(flat, i)) for i in range(flat.size)]).reshape(x.shape)
    assert derivative(tg.prod, x) == [others.tolist()]
    last = tg.jacobian(lambda x: tg.prod(x, axis=-1))(x).numpy()
    for place in np.ndindex(*x.shape):
        row = x[place[:-1]]
        assert last[place[:-1]][place] == np.prod(np.delete(row, place[-1]))
        assert np.count_nonzero(last[place[:-1]]) <= row.size


def test_second_derivatives_of_a_product_are_right_among_zeros() -> None:
    found = tg.hessian(tg.prod)(np.array([0.0, 0.0, 3.0])).numpy()
    np.testing.assert_array_equal(found, [[0, 3, 0], [3, 0, 0], [0, 0, 0]])


def test_powers_of_zero() -> None:
    exponents = [0.0, 0.5, 1.0, 2.0, 3.0]
    to_base, to_exponent = derivative(tg.power, [0.0] * 5, exponents)
    assert to_base == [0, INF, 1, 0, 0]
    assert to_exponent == [0, 0, 0, 0, 0]
    assert [derivative(lambda x, n=n: x**n, 0.0)[0] for n in exponents] == [0, INF, 1, 0, 0]
    assert (tg.tensor(0.0) ** 0.0).item() == 1.0


@given(st.floats(-3, 3), st.integers(-3, 4))
def test_powers_with_a_python_exponent_take_any_base(x: float, n: int) -> None:
    base = np.float64(x if abs(x) > 0.01 else 0.5)
    for f in (lambda x: x**n, lambda x: tg.power(x, np.float64(n))):
        np.testing.assert_allclose(tg.grad(f)(base).item(), n * base ** (n - 1), rtol=1e-13)
        np.testing.assert_allclose(tg.grad(tg.grad(f))(base).item(), n * (n - 1) * base ** (n - 2), rtol=1e-13)


def test_mixed_second_derivative_of_a_power_at_exponent_zero() -> None:
    mixed = tg.grad(lambda b: tg.grad(lambda a: a**b)(np.float64(2.0)))(np.float64(0.0))
    assert mixed.item() == 0.5


def test_minus_infinity_masks_an_entry() -> None:
    x = [0.0, -INF, 0.0]
    assert derivative(tg.logsumexp, x) == [[0.5, 0.0, 0.5]]
    assert tg.softmax(np.array(x)).numpy().tolist() == [0.5, 0.0, 0.5]
    assert derivative(lambda x: tg.softmax(x)[0], x) == [[0.25, 0.0, -0.25]]
    assert tg.log_softmax(np.array(x)).numpy()[1] == -INF
    (slope,) = derivative(lambda x: tg.cross_entropy(x, 0), x)
    assert slope == [-0.5, 0.0, 0.5]


def test_logsumexp_of_infinities() -> None:
    assert tg.logsumexp(np.array([-INF, -INF])).item() == -INF
    assert tg.logsumexp(np.array([INF, 0.0])).item() == INF
    assert np.isnan(tg.logsumexp(np.array([np.nan, 0.0])).item())


@pytest.mark.parametrize("shift", [-1e4, 0.0, 1e4])
def test_the_softmax_family_neither_overflows_nor_underflows(shift: float) -> None:
    x = np.array([1.0, 2.0, 4.0])
    np.testing.assert_allclose(tg.softmax(x + shift).numpy(), softmax(x), rtol=1e-11)
    np.testing.assert_allclose(tg.log_softmax(x + shift).numpy(), np.log(softmax(x)), rtol=1e-11)
    np.testing.assert_allclose(tg.logsumexp(x + shift).item(), np.log(np.exp(x).sum()) + shift, rtol=1e-13)
    np.testing.assert_allclose(tg.cross_entropy(x + shift, 1).item(), -np.log(softmax(x)[1]), rtol=1e-11)
    assert tg.sigmoid(np.array([-1e4, 1e4])).numpy().tolist() == [0.0, 1.0]
    assert tg.softplus(np.array([-1e4, 1e4])).numpy().tolist() == [0.0, 1e4]


def test_small_numbers_keep_their_digits() -> None:
    for f in (tg.expm1, tg.log1p, tg.tanh, tg.sin):
        assert f(np.array([1e-20])).numpy().tolist() == [1e-20]
    assert tg.sigmoid(np.array(-50.0)).item() == pytest.approx(math.exp(-50), rel=1e-14)


def test_a_vector_of_zeros_has_norm_zero_and_gradients_of_zero_in_every_order() -> None:
    zero = np.zeros(3)
    assert tg.linalg.vector_norm(zero).item() == 0.0
    assert tg.grad(tg.linalg.vector_norm)(zero).numpy().tolist() == [0, 0, 0]
    assert tg.hessian(tg.linalg.vector_norm)(zero).numpy().tolist() == [[0, 0, 0]] * 3


def test_not_a_number_wins_and_nothing_warns() -> None:
    for f in (tg.max, tg.min, tg.sum, tg.prod, tg.mean):
        assert np.isnan(f(np.array([1.0, np.nan])).item())
    assert np.isnan(tg.maximum(np.nan, 1.0).item())
    assert np.isnan(tg.mean(np.zeros(0)).item())
    assert np.isnan((tg.tensor(0.0) / 0.0).item())
    assert (tg.tensor(1.0) / 0.0).item() == INF


def test_a_stopped_gradient_and_a_step_pass_nothing() -> None:
    assert derivative(lambda x: x * tg.stop_gradient(x), [3.0]) == [[3.0]]
    assert derivative(lambda x: x * tg.sign(x) + x * (x > 0), [3.0, -2.0]) == [[2.0, -1.0]]
    assert derivative(lambda a, b: a % b, [5.0, -5.0], [3.0, 3.0]) == [[1, 1], [-1, 2]]
    assert derivative(lambda a, b: a - (a // b) * b, [5.0, -5.0], [3.0, 3.0]) == [[1, 1], [-1, 2]]


def test_two_python_numbers_beside_one_float32_array_stay_weak() -> None:
    assert tg.clip(1.5, 0.0, tg.ones(2)).dtype == np.float32
    assert tg.clip(tg.ones(2), 0.0, 0.5).dtype == np.float32
    assert tg.where(tg.tensor([True, False]), tg.ones(2), 0.0).dtype == np.float32
