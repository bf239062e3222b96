"""Layers: what each computes, how it begins, and what it refuses."""

import gc
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from refusals import message

import tinygrad_wn as tg
from tinygrad_wn import nn
from tinygrad_wn.errors import DTypeError, ShapeError, ValueRangeError

DTYPES = st.sampled_from(["float32", "float64"])
SIZES = st.integers(1, 5)
SEEDS = st.integers(0, 2**32)
NUMBERS = st.floats(-4, 4, width=32)


# Linear


@given(SIZES, SIZES, st.booleans(), DTYPES, SEEDS, hnp.array_shapes(min_dims=0, max_dims=2, max_side=3))
def test_linear_is_x_times_the_transposed_weight_plus_bias_in_its_dtype(
    n: int, m: int, bias: bool, dtype: str, seed: int, batch: tuple[int, ...]
) -> None:
    layer: Any = nn.Linear(n, m, bias, dtype=dtype, rng=seed)
    assert layer.weight.shape == (m, n)
    assert {p.dtype for p in layer.parameters()} == {np.dtype(dtype)}
    assert list(layer.state_dict()) == ["weight", "bias"] if bias else ["weight"]
    if bias:
        assert_array_equal(layer.state_dict()["bias"], np.zeros(m))
        layer.bias.data = np.arange(m).astype(dtype)
    x = np.random.default_rng(seed).standard_normal((*batch, n)).astype(dtype)
    y = layer(tg.tensor(x))
    expected = x @ layer.state_dict()["weight"].T + (np.arange(m) if bias else 0)
    assert y.dtype == dtype
    assert y.shape == (*batch, m)
    assert_allclose(y.numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bad", [0, -1])
def test_sizes_below_one_are_refused(bad: int) -> None:
    assert f"in_features  : {bad}" in message(ShapeError, lambda: nn.Linear(bad, 2))
    assert f"out_features : {bad}" in message(ShapeError, lambda: nn.Linear(2, bad))


@pytest.mark.parametrize("bad", [2.0, "2", None, True])
def test_sizes_that_are_not_integers_are_refused(bad: Any) -> None:
    assert repr(bad) in message(DTypeError, lambda: nn.Linear(bad, 2))
    assert repr(bad) in message(DTypeError, lambda: nn.Linear(2, bad))


def test_numpy_integers_are_sizes() -> None:
    sizes: Any = np.int64(2), np.int32(3)
    layer = nn.Linear(*sizes)
    assert repr(layer) == "Linear(in_features=2, out_features=3, bias=True)"


def test_integer_parameters_are_refused() -> None:
    message(DTypeError, lambda: nn.Linear(2, 2, dtype="int64"))


def test_an_input_of_the_wrong_size_is_named_with_all_shapes() -> None:
    text = message(ShapeError, lambda: nn.Linear(3, 2)(tg.ones((5, 4))))
    assert "[5, 4]" in text
    assert "[2, 3]" in text


# Initial values


@given(SEEDS, DTYPES)
def test_a_seed_repeats_initial_values_and_the_package_generator_moves_on(seed: int, dtype: str) -> None:
    def weight(rng: Any) -> Any:
        return nn.Linear(4, 3, dtype=dtype, rng=rng).state_dict()["weight"]

    assert_array_equal(weight(seed), weight(seed))
    assert_array_equal(weight(seed), weight(np.random.default_rng(seed)))
    tg.seed(seed)
    first, second = weight(None), weight(None)
    assert not np.array_equal(first, second)
    tg.seed(seed)
    assert_array_equal(weight(None), first)
    assert_array_equal(weight(seed), first)


@pytest.mark.parametrize("shape", [(200, 100), (50, 20, 4, 5)], ids=str)
@pytest.mark.parametrize("name", ["he_normal", "he_uniform", "glorot_normal", "glorot_uniform"])
def test_initial_values_have_the_variance_and_the_form_of_the_papers(name: str, shape: tuple[int, ...]) -> None:
    x = getattr(nn.init, name)(shape, 0, "float64")
    assert x.requires_grad
    assert x.dtype == np.float64
    positions = math.prod(shape[2:])
    fan_in, fan_out = shape[1] * positions, shape[0] * positions
    variance = 2 / fan_in if name.startswith("he") else 2 / (fan_in + fan_out)
    values = x.numpy() / math.sqrt(variance)
    assert abs(values.mean()) < 0.03
    assert abs(values.var() - 1) < 0.03
    kurtosis = (values**4).mean()
    assert abs(kurtosis - (3 if name.endswith("normal") else 1.8)) < 0.15
    if name.endswith("uniform"):
        assert abs(values).max() <= math.sqrt(3)


@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 0), (2, 2, 0)], ids=str)
@pytest.mark.parametrize("name", ["he_normal", "he_uniform", "glorot_normal", "glorot_uniform"])
def test_initial_values_need_outputs_and_inputs(name: str, shape: tuple[int, ...]) -> None:
    assert f"shape : {list(shape)}" in message(ShapeError, lambda: getattr(nn.init, name)(shape))


def test_the_weight_of_linear_is_he_uniform() -> None:
    drawn = nn.init.he_uniform((3, 4), 7)
    assert_array_equal(nn.Linear(4, 3, rng=7).state_dict()["weight"], drawn.numpy())


# Sequential


def test_sequential_applies_layers_in_order_and_is_a_sequence() -> None:
    a, b, c = nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)
    net = nn.Sequential(a, b, c)
    x = tg.randn(4, 2)
    assert_array_equal(net(x).numpy(), c(b(a(x))).numpy())
    assert len(net) == 3
    assert list(net) == [a, b, c]
    assert net[-1] is c
    assert isinstance(net[1:], nn.Sequential)
    assert list(net[1:]) == [b, c]
    with pytest.raises(IndexError):
        net[3]
    assert nn.Sequential()(x) is x


@pytest.mark.parametrize("bad", [nn.ReLU, tg.relu, [nn.ReLU()], None], ids=repr)
def test_what_is_not_a_module_is_no_layer(bad: Any) -> None:
    assert "layer 1 is not a module" in message(DTypeError, lambda: nn.Sequential(nn.ReLU(), bad))


# Activations

ACTIVATIONS: list[tuple[nn.Module, Callable[[Any], Any]]] = [
    (nn.ReLU(), lambda x: np.maximum(x, 0)),
    (nn.LeakyReLU(), lambda x: np.where(x > 0, x, 0.01 * x)),
    (nn.LeakyReLU(0.3), lambda x: np.where(x > 0, x, 0.3 * x)),
    (nn.Tanh(), np.tanh),
    (nn.Sigmoid(), lambda x: 1 / (1 + np.exp(-x))),
    (nn.GELU(), lambda x: x * (1 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2))) / 2),
]


@pytest.mark.parametrize(("layer", "formula"), ACTIVATIONS, ids=lambda one: repr(one)[:20])
@given(values=hnp.arrays(np.float64, hnp.array_shapes(max_side=4), elements=NUMBERS), dtype=DTYPES)
def test_activations_are_their_formulas(layer: Any, formula: Any, values: Any, dtype: str) -> None:
    y = layer(tg.tensor(values.astype(dtype)))
    assert y.dtype == dtype
    assert_allclose(y.numpy(), formula(values), rtol=1e-6, atol=1e-6)


def test_losses_of_nn_are_those_of_the_package() -> None:
    assert nn.cross_entropy is tg.cross_entropy
    assert nn.mse is tg.mse


# Dropout


@given(st.floats(0, 0.9), SEEDS, DTYPES)
def test_dropout_keeps_or_drops_each_entry_and_scales_what_it_keeps(p: float, seed: int, dtype: str) -> None:
    x = tg.tensor(np.arange(1, 101).astype(dtype), requires_grad=True)
    y = nn.Dropout(p, rng=seed)(x)
    kept = y.numpy() != 0
    assert y.dtype == dtype
    assert kept.all() or p
    assert_allclose(y.numpy()[kept], x.numpy()[kept] / (1 - p), rtol=1e-6)
    (slope,) = tg.sum(y).gradient(x)
    assert_allclose(slope.numpy(), kept / (1 - p), rtol=1e-6)


def test_dropout_drops_the_share_p_and_keeps_the_mean() -> None:
    y = nn.Dropout(0.3, rng=0)(tg.ones(100_000)).numpy()
    assert abs((y == 0).mean() - 0.3) < 0.01
    assert abs(y.mean() - 1) < 0.01


def test_dropout_draws_the_same_whatever_its_layout_and_from_places_that_do_not_matter_to_each_other() -> None:
    x = tg.ones((40, 50))
    kept = [nn.Dropout(0.4, rng=9)(one).numpy() != 0 for one in (x, tg.tensor(np.asfortranarray(x.numpy())))]
    assert_array_equal(*kept)
    assert_array_equal(kept[0][:20], nn.Dropout(0.4, rng=9)(tg.ones((20, 50))).numpy() != 0)
    signs = 2.0 * kept[0].ravel() - 1
    for apart in range(1, 60):  # correlations of 2000 fair choices stay below 5 / √2000
        both = (signs - signs.mean()) / signs.std()
        assert abs(np.mean(both[apart:] * both[:-apart])) < 5 / np.sqrt(signs.size)


def test_dropout_draws_anew_at_each_call_and_a_seed_repeats_the_row() -> None:
    x = tg.ones(100)
    a, b = nn.Dropout(rng=3), nn.Dropout(rng=3)
    first, second = a(x).numpy(), a(x).numpy()
    assert not np.array_equal(first, second)
    assert_array_equal(first, b(x).numpy())
    assert_array_equal(second, b(x).numpy())


def test_dropout_without_a_seed_draws_from_the_package_generator() -> None:
    layer = nn.Dropout()
    tg.seed(5)
    first = layer(tg.ones(50)).numpy()
    tg.seed(5)
    assert_array_equal(layer(tg.ones(50)).numpy(), first)


def test_dropout_does_nothing_in_evaluation_or_with_p_zero_and_draws_nothing() -> None:
    x = tg.ones(4)
    assert nn.Dropout(0.9).eval()(x) is x
    assert nn.Dropout(0)(x) is x
    tg.seed(0)
    nn.Dropout(0)(x)
    nn.Dropout(0.5).eval()(x)
    after = tg.randn(3).numpy()
    tg.seed(0)
    assert_array_equal(after, tg.randn(3).numpy())


def test_dropout_takes_arrays_and_removes_infinities() -> None:
    y = nn.Dropout(0.5, rng=0)(np.full(20, np.inf, "float32"))
    assert set(y.numpy()) == {0.0, np.inf}


@pytest.mark.parametrize("p", [-0.1, 1, 1.5, math.nan])
def test_a_probability_of_dropout_out_of_range_is_refused(p: float) -> None:
    assert f"p    : {p}" in message(ValueRangeError, lambda: nn.Dropout(p))


# Training


def test_a_step_leaves_no_garbage() -> None:
    net = nn.weight_norm(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(0.1), nn.Linear(4, 2)))
    optimizer = tg.optim.Adam(net.parameters())

    def step() -> None:
        optimizer.zero_grad()
        nn.cross_entropy(net(tg.ones((5, 3))), tg.tensor([0, 1, 0, 1, 0])).backward()
        optimizer.step()

    step()
    gc.collect()
    gc.disable()
    try:
        step()
        assert gc.collect() == 0
    finally:
        gc.enable()
