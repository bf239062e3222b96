"""Batch normalization, of the mean alone and in full: formulas, gradients derived by hand, running values, modes."""

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from refusals import message
from training import step_of

import tinygrad_wn as tg
from tinygrad_wn import nn
from tinygrad_wn.errors import DTypeError, ShapeError, StateError, ValueRangeError
from tinygrad_wn.ops.batch import center, standardize, standardize_pullback
from tinygrad_wn.testing import gradcheck

WIDEST = np.longdouble
LAYERS: list[Callable[..., Any]] = [nn.BatchNorm1d, nn.MeanOnlyBatchNorm1d]
MOMENTA = st.sampled_from([0.1, 0.5, 1.0, 0.0, None])
every_layer = pytest.mark.parametrize("kind", LAYERS, ids=["full", "mean only"])


@st.composite
def batches(draw: st.DrawFn, count: int = 1) -> tuple[Any, ...]:
    """Arrays of one shape (n, c) or (n, c, length), about a mean and with a spread, in one dtype."""
    n, c, length = draw(st.integers(2, 6)), draw(st.integers(1, 4)), draw(st.sampled_from([None, 1, 3]))
    shape = (n, c) if length is None else (n, c, length)
    dtype = draw(st.sampled_from(["float32", "float64"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    offset, spread = draw(st.sampled_from([0.0, 3.0, -1e3])), draw(st.sampled_from([1.0, 1e-2, 1e4]))
    return tuple((offset + spread * rng.standard_normal(shape)).astype(dtype) for _ in range(count))


def rest(x: Any) -> tuple[int, ...]:
    return tuple(i for i in range(x.ndim) if i != 1)


def mean(x: Any) -> Any:
    return np.mean(x, axis=rest(x), keepdims=True)


def standard(x: Any, eps: float) -> Any:
    x = x.astype(WIDEST)
    away = x - mean(x)
    return away / np.sqrt(mean(away**2) + WIDEST(eps))


def close(actual: Any, expected: Any, size: Any = 0.0) -> None:
    """Within two roundings of each number, and of float64 at the `size` of what was subtracted."""
    bound = 2 * np.finfo(actual.dtype).eps * np.abs(expected) + 64 * np.finfo(np.float64).eps * np.max(size, initial=0)
    assert np.all(np.abs(actual - expected) <= bound), (actual, expected)


# Equations 7 and 8, and the gradient of batch normalization


@given(batches(2))
def test_centering_and_its_gradient_are_equations_7_and_8(arrays: Any) -> None:
    x, ct = arrays
    leaf = tg.tensor(x, requires_grad=True)
    y = center(leaf)
    (slope,) = y.gradient(leaf, cotangent=ct)
    wide, wide_ct = x.astype(WIDEST), ct.astype(WIDEST)
    close(y.detach().numpy(), wide - mean(wide), np.abs(x))
    close(slope.numpy(), wide_ct - mean(wide_ct), np.abs(ct))


@given(batches(2), st.sampled_from([1e-5, 0.1]))
def test_standardizing_and_its_gradient_equal_the_formulas_derived_by_hand(arrays: Any, eps: float) -> None:
    x, ct = arrays
    leaf = tg.tensor(x, requires_grad=True)
    y = standardize(leaf, eps=eps)
    (slope,) = y.gradient(leaf, cotangent=ct)
    wide, wide_ct, unit = x.astype(WIDEST), ct.astype(WIDEST), standard(x, eps)
    rate = 1 / np.sqrt(mean((wide - mean(wide)) ** 2) + WIDEST(eps))
    expected = rate * (wide_ct - mean(wide_ct) - unit * mean(wide_ct * unit))
    # the variance of x about a mean is right to the size of x over its spread
    close(y.detach().numpy(), unit, np.abs(x) * rate * (1 + np.abs(unit)))
    close(slope.numpy(), expected, np.max(np.abs(ct)) * rate * (1 + np.max(np.abs(x) * rate)) * (1 + np.max(unit**2)))


@every_layer
@given(batches(2))
def test_the_gradient_sums_to_zero_over_the_batch(kind: Any, arrays: Any) -> None:
    x, ct = arrays
    layer, leaf = kind(x.shape[1], dtype=x.dtype), tg.tensor(x, requires_grad=True)
    (slope,) = layer(leaf).gradient(leaf, cotangent=ct)
    found = slope.numpy().astype(WIDEST)
    rate = 1.0 if kind is nn.MeanOnlyBatchNorm1d else 1 / x.astype(np.float64).std(axis=rest(x))
    rounding = np.finfo(x.dtype).eps * np.sum(np.abs(found), axis=rest(x))  # of the results, and of what was subtracted
    inside = np.finfo(np.float64).eps * x.size * np.max(np.abs(ct)) * rate * (1 + np.abs(x).max() * rate)
    assert np.all(np.abs(np.sum(found, axis=rest(x))) <= rounding + 8 * inside)


@given(batches(2))
def test_the_gradient_of_standardizing_is_at_a_right_angle_to_its_result_where_eps_is_zero(arrays: Any) -> None:
    x, ct = (one.astype(np.float64) for one in arrays)
    leaf = tg.tensor(x, requires_grad=True)
    unit = standardize(leaf, eps=0.0)
    (slope,) = unit.gradient(leaf, cotangent=ct)
    product = np.sum(slope.numpy() * unit.detach().numpy(), axis=rest(x))
    rate = 1 / x.std(axis=rest(x))
    size = x.size * np.max(np.abs(ct)) * rate * (1 + np.abs(x).max() * rate)
    assert np.all(np.abs(product) <= 32 * np.finfo(np.float64).eps * size)


@given(batches(3))
def test_the_gradient_is_linear_and_symmetric(arrays: Any) -> None:
    x, a, b = (one.astype(np.float64) for one in arrays)
    for pull in (center, lambda ct: standardize_pullback(ct, x)):
        left, right = (np.sum(one * pull(other).numpy()) for one, other in ((a, b), (b, a)))
        assert abs(left - right) <= 1e-9 * (1 + np.linalg.norm(a) * np.linalg.norm(pull(b).numpy()))


@given(batches(), st.sampled_from([1.0, -7.0]))
def test_a_shift_of_the_batch_and_a_scale_do_not_matter(arrays: Any, shift: float) -> None:
    (x,) = (one.astype(np.float64) for one in arrays)
    size = np.abs(x).max() + abs(shift)
    assert_allclose(center(x + shift).numpy(), center(x).numpy(), atol=1e-14 * size)
    spread = x.std(axis=rest(x), keepdims=True).min()
    assert_allclose(
        standardize(8 * x + shift, eps=0.0).numpy(), standardize(x, eps=0.0).numpy(), atol=1e-12 * size / spread
    )


def test_in_float32_a_large_mean_takes_nothing_from_what_stands_out_of_it() -> None:
    x = (1e6 + np.arange(1000, dtype="f8").reshape(-1, 1) % 7).astype("f4")
    exact = x.astype(WIDEST) - x.astype(WIDEST).mean()
    assert_array_equal(center(x).numpy(), exact.astype("f4"))
    assert_allclose(standardize(x, eps=0.0).numpy(), exact / np.sqrt(np.mean(exact**2)), rtol=1e-7)


# The layers


@given(batches(), st.booleans())
def test_layers_are_their_formulas_with_weight_and_bias(arrays: Any, whole: bool) -> None:
    (x,) = arrays
    c = x.shape[1]
    wide = (1, c, *[1] * (x.ndim - 2))
    rng = np.random.default_rng(0)
    full, only = nn.BatchNorm1d(c, dtype=x.dtype, affine=whole), nn.MeanOnlyBatchNorm1d(c, dtype=x.dtype, bias=whole)
    weight, bias = np.ones(c), np.zeros(c)
    if whole:
        weight, bias = (rng.standard_normal(c).astype(x.dtype) for _ in range(2))
        full.weight.data, full.bias.data, only.bias.data = weight, bias, bias
    size = np.abs(x).max()
    eps = 8 * np.finfo(x.dtype).eps
    for layer, middle in ((full, standard(x, 1e-5) * weight.reshape(wide)), (only, x - mean(x.astype(WIDEST)))):
        y = layer(x).detach().numpy()
        assert y.dtype == x.dtype
        top = np.abs(middle).max() + np.abs(bias).max()
        assert_allclose(y, middle + bias.reshape(wide), atol=eps * top + 1e-14 * size**2, rtol=eps)


@every_layer
@given(batches(3), MOMENTA)
def test_running_values_follow_the_batches_as_in_pytorch(kind: Any, arrays: Any, momentum: Any) -> None:
    layer = kind(arrays[0].shape[1], momentum=momentum, dtype=arrays[0].dtype)
    center_, spread = np.zeros(layer.num_features), np.ones(layer.num_features)
    for count, x in enumerate(arrays, 1):
        layer(x)
        share = 1 / count if momentum is None else momentum
        wide = x.astype(np.float64)
        center_ = (1 - share) * center_ + share * wide.mean(axis=rest(x))
        spread = (1 - share) * spread + share * wide.var(axis=rest(x), ddof=1)
        assert layer.num_batches_tracked.item() == count
    rtol = 8 * np.finfo(arrays[0].dtype).eps
    assert_allclose(layer.running_mean.numpy(), center_, rtol=rtol, atol=rtol * np.abs(arrays).max())
    if kind is nn.BatchNorm1d:
        assert_allclose(layer.running_var.numpy(), spread, rtol=max(rtol, 1e-9))


@every_layer
@given(batches(2))
def test_after_eval_running_values_are_used_and_stay(kind: Any, arrays: Any) -> None:
    x, other = arrays
    layer = kind(x.shape[1], momentum=1.0, dtype=x.dtype)
    layer(x)
    layer.eval()
    before = layer.state_dict()
    y = layer(other).detach().numpy()
    wide = (1, -1, *[1] * (x.ndim - 2))
    expected = other - before["running_mean"].reshape(wide).astype(WIDEST)
    if kind is nn.BatchNorm1d:
        expected = expected / np.sqrt(before["running_var"].reshape(wide) + WIDEST(1e-5))
    assert_allclose(y, expected, rtol=8 * np.finfo(x.dtype).eps, atol=1e-30)
    assert_array_equal(layer(other[:1]).detach().numpy(), y[:1])  # one row is enough, and the others do not matter
    for name, values in layer.state_dict().items():
        assert_array_equal(values, before[name])


@every_layer
def test_gradients_reach_weight_bias_and_the_layer_before(kind: Any) -> None:
    net = nn.weight_norm(nn.Sequential(nn.Linear(3, 4, bias=False, rng=0), kind(4), nn.Tanh()))
    tg.sum(tg.square(net(tg.randn((6, 3), rng=0)))).backward()
    assert all(p.grad is not None for p in net.parameters())
    assert len(net.parameters()) == (4 if kind is nn.BatchNorm1d else 3)


def test_second_derivatives_of_layers_equal_central_differences() -> None:
    x = np.random.default_rng(0).standard_normal((5, 3))
    for kind in LAYERS:
        layer = kind(3, dtype="float64")
        gradcheck(lambda t, layer=layer: tg.tanh(layer(t)), [x], order=2)


# In compiled steps


def network(kind: Any, dtype: str = "float64", momentum: Any = 0.1) -> Any:
    layers = [nn.Linear(3, 8, bias=False, dtype=dtype, rng=0), kind(8, momentum=momentum, dtype=dtype), nn.Tanh()]
    return nn.weight_norm(nn.Sequential(*layers, nn.Linear(8, 2, dtype=dtype, rng=1)))


def data(count: int, dtype: str = "float64") -> list[Any]:
    rng = np.random.default_rng(3)
    return [(rng.standard_normal((16, 3)).astype(dtype) + 1, rng.integers(0, 2, 16)) for _ in range(count)]


@pytest.mark.once
@pytest.mark.parametrize(
    ("kind", "momentum", "dtype", "bound"),
    [
        (nn.BatchNorm1d, None, "float64", 1e-10),
        (nn.BatchNorm1d, 0.1, "float32", 1e-4),
        (nn.MeanOnlyBatchNorm1d, 0.1, "float64", 1e-10),
        (nn.MeanOnlyBatchNorm1d, None, "float32", 1e-4),
    ],
)
def test_compiled_steps_equal_eager_ones_in_training_and_evaluation(
    kind: Any, momentum: Any, dtype: str, bound: float
) -> None:
    """Each is compiled, so every two options meet, and not every three."""
    nets = [network(kind, dtype, momentum).train() for _ in range(2)]
    steps = [step_of(net, tg.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)) for net in nets]
    compiled = tg.jit(steps.pop())
    steps.append(compiled)
    scores = [nets[0], tg.jit(nets[1].forward)]
    for i, (x, y) in enumerate(data(20, dtype)):
        if i in (5, 12):
            for net in nets:
                net.eval()
            assert_allclose(*(score(x).detach().numpy() for score in scores), rtol=10 * bound, atol=bound)
            for net in nets:
                net.train()
        losses = [step(x, y).item() for step in steps]
        assert_allclose(*losses, rtol=bound)
    for name, values in nets[0].state_dict().items():
        assert_allclose(nets[1].state_dict()[name], values, rtol=10 * bound, atol=bound)
    assert nets[1][1].num_batches_tracked.item() == 20
    assert sum(map(len, compiled.steps.values())) == 1


@pytest.mark.once
@every_layer
def test_eager_code_and_compiled_steps_see_each_others_running_values(kind: Any) -> None:
    net = network(kind)
    compiled = tg.jit(step_of(net, tg.optim.SGD(net.parameters(), lr=0.0)))
    x, y = data(1)[0]
    compiled(x, y)
    compiled(x, y)
    twice = net[1].running_mean.numpy().copy()
    net(x)
    assert_allclose(net[1].running_mean.numpy(), twice + 0.1 * (twice / 0.19 - twice), rtol=1e-12)
    net.load_state_dict(
        {name: 0 * values for name, values in net.state_dict().items() if "running" in name}
        | {name: values for name, values in net.state_dict().items() if "running" not in name}
    )
    compiled(x, y)
    assert_allclose(net[1].running_mean.numpy(), twice / 1.9, rtol=1e-12)
    assert net[1].num_batches_tracked.item() == 4


@every_layer
def test_a_step_with_batch_normalization_never_returns_to_python(kind: Any) -> None:
    net = network(kind, "float32")
    compiled = tg.jit(step_of(net, tg.optim.SGD(net.parameters(), lr=0.1)))
    compiled(*data(1, "float32")[0])
    assert len(compiled._last().parts) == 1


# State, files, weight normalization, data


@every_layer
@settings(max_examples=10)
@given(st.sampled_from(["float32", "float64"]), MOMENTA, st.booleans())
def test_copies_and_files_keep_all_and_compute_the_same(kind: Any, dtype: str, momentum: Any, whole: bool) -> None:
    layer = kind(3, momentum=momentum, dtype=dtype, **({"affine" if kind is nn.BatchNorm1d else "bias": whole}))
    layer(np.random.default_rng(0).standard_normal((5, 3)).astype(dtype))
    net = nn.Sequential(layer).eval()
    with tempfile.TemporaryDirectory() as folder:
        tg.save(net, Path(folder) / "net")
        again = tg.load(Path(folder) / "net")
    x = np.random.default_rng(1).standard_normal((4, 3)).astype(dtype)
    for one in (again, copy.deepcopy(net)):
        assert repr(one) == repr(net)
        assert_array_equal(one(x).detach().numpy(), net(x).detach().numpy())
        assert [n for n, _ in one.named_parameters()] == [n for n, _ in net.named_parameters()]
        for name, values in net.state_dict().items():
            assert_array_equal(one.state_dict()[name], values)
            assert one.state_dict()[name].dtype == values.dtype


def test_a_frozen_weight_of_batch_normalization_stays_frozen_in_a_file() -> None:
    layer = nn.BatchNorm1d(2)
    layer.weight.requires_grad = False
    with tempfile.TemporaryDirectory() as folder:
        tg.save(layer, Path(folder) / "net")
        assert [name for name, _ in tg.load(Path(folder) / "net").named_parameters()] == ["bias"]


def test_weight_normalization_leaves_the_weight_of_batch_normalization_alone() -> None:
    net = nn.weight_norm(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))
    assert list(net.state_dict())[:4] == ["0.weight.v", "0.weight.g", "0.bias", "1.weight"]
    message(StateError, lambda: nn.weight_norm(nn.BatchNorm1d(2)))


def test_data_init_passes_through_batch_normalization() -> None:
    net = nn.Sequential(
        nn.Linear(3, 4, dtype="float64"), nn.BatchNorm1d(4, dtype="float64"), nn.Linear(4, 2, dtype="float64")
    )
    x = np.random.default_rng(0).standard_normal((30, 3))
    y = nn.data_init(nn.weight_norm(net), x, rng=0)(x).detach().numpy()
    assert_allclose(y.mean(axis=0), 0, atol=1e-10)
    assert_allclose(y.std(axis=0), 1, rtol=1e-10)


# What is refused


@every_layer
def test_shapes_that_do_not_fit_are_refused_and_running_values_stay(kind: Any) -> None:
    layer = kind(3)
    for shape in ((4, 2), (3,), (2, 3, 4, 5), ()):
        assert "num_features : 3" in message(ShapeError, lambda shape=shape: layer(tg.ones(shape)))
    for shape in ((1, 3), (1, 3, 1), (0, 3)):
        assert "more than one value" in message(ShapeError, lambda shape=shape: layer(tg.ones(shape)))
    assert layer.num_batches_tracked.item() == 0
    assert layer.eval()(tg.ones((0, 3))).shape == (0, 3)


@every_layer
def test_options_out_of_range_are_refused(kind: Any) -> None:
    for bad in (2.0, "2", None, True):
        message(DTypeError, lambda bad=bad: kind(bad))
    message(ShapeError, lambda: kind(0))
    for bad in (-0.1, 1.1, np.nan):
        assert "momentum" in message(ValueRangeError, lambda bad=bad: kind(2, momentum=bad))
    for bad in (0.0, -1.0, np.inf, np.nan):
        assert "eps" in message(ValueRangeError, lambda bad=bad: nn.BatchNorm1d(2, eps=bad))
