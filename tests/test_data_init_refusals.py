"""Data-dependent initialization: what it refuses, with nothing changed."""

import re
from functools import partial
from typing import Any

import numpy as np
import pytest
from refusals import message, unchanged
from test_data_init import batch, mlp

import tinygrad_wn as tg
from tinygrad_wn import nn
from tinygrad_wn.errors import DTypeError, ShapeError, StateError, ValueRangeError


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_unit_without_spread_is_named_with_its_layer(normalized: bool, dtype: str) -> None:
    net = mlp([3, 4, 2], normalized, dtype=dtype)
    same = np.repeat(batch(1, 3, offset=0.3), 37, axis=0).astype(dtype)
    text = unchanged(net, lambda: nn.data_init(net, same), ValueRangeError)
    assert "layer '0': σ = 0" in text
    assert "units : 0, 1, 2, 3" in text
    assert "hint" in text
    assert "rows  : 1" in unchanged(net, lambda: nn.data_init(net, same[:1]), ValueRangeError)
    assert "rows  : 1" in unchanged(net, lambda: nn.data_init(net, same[0]), ValueRangeError)
    assert "rows  : 0" in unchanged(net, lambda: nn.data_init(net, same[:0]), ValueRangeError)


def test_a_unit_that_dies_in_a_later_layer_leaves_the_first_layer_unchanged() -> None:
    net = nn.weight_norm(nn.Sequential(nn.Linear(3, 4), Constant(), nn.Linear(4, 12)))
    text = unchanged(net, lambda: nn.data_init(net, batch(9, 3).astype("float32")), ValueRangeError)
    assert "layer '2'" in text
    assert "7 and 4 more" in text


class Constant(nn.Module):
    def forward(self, x: Any) -> Any:
        return x * 0 + 1


def test_values_that_are_not_finite_are_refused() -> None:
    for bad in (np.nan, np.inf):
        x = batch(9, 3)
        x[2, 1] = bad
        net = mlp([3, 4])
        assert "not finite" in unchanged(net, lambda net=net, x=x: nn.data_init(net, x), ValueRangeError)
    net = mlp([3, 4], dtype="float32")
    text = unchanged(net, lambda: nn.data_init(net, (1e-42 * batch(9, 3)).astype("float32")), ValueRangeError)
    assert "1/σ is not finite in float32" in text


def test_a_layer_that_is_called_twice_is_refused() -> None:
    shared = nn.Linear(3, 3, dtype="float64")
    net = nn.Sequential(shared, nn.Tanh(), shared)
    text = unchanged(net, lambda: nn.data_init(net, batch(9, 3)), StateError)
    assert "layer '0' is called twice" in text
    nn.data_init(nn.Sequential(shared, nn.Tanh()), batch(9, 3))


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("part", ["weight", "bias"])
def test_layers_that_share_a_tensor_are_refused(normalized: bool, part: str) -> None:
    a, b = nn.Linear(3, 3, dtype="float64"), nn.Linear(3, 3, dtype="float64")
    setattr(b, part, getattr(a, part))
    net: Any = nn.Sequential(a, nn.Tanh(), b)
    net = nn.weight_norm(net) if normalized else net
    assert "layers '0' and '2' share a tensor" in unchanged(net, lambda: nn.data_init(net, batch(9, 3)), StateError)


def test_a_layer_that_is_never_called_is_named() -> None:
    net = mlp([3, 4, 2])
    net.spare = nn.Linear(2, 2)
    text = unchanged(net, lambda: nn.data_init(net, batch(9, 3)), StateError)
    assert "did not call all its layers" in text
    assert "left : 'spare'" in text


def test_a_layer_that_does_not_follow_its_g_and_b_is_refused() -> None:
    class Rectified(nn.Linear):
        def forward(self, x: Any) -> Any:
            return tg.relu(super().forward(x))

    class Strange(nn.Linear):
        def forward(self, x: Any) -> Any:
            return super().forward(x)[:, :1]

    for kind, error, text in ((Rectified, StateError, "is not x·wᵀ + b"), (Strange, ShapeError, "the units")):
        net = nn.Sequential(nn.weight_norm(kind(3, 4, dtype="float64", rng=0)))
        assert text in unchanged(net, lambda net=net: nn.data_init(net, batch(30, 3)), error)


def test_one_g_for_several_units_and_normalized_biases_are_refused() -> None:
    for axis in (1, None, (0, 1)):
        net = nn.weight_norm(mlp([3, 4], normalized=False), axis=axis)
        assert "one g for each unit" in unchanged(net, lambda net=net: nn.data_init(net, batch(9, 3)), ShapeError)
    for axis in (-2, (0,)):
        nn.data_init(nn.weight_norm(mlp([3, 4], normalized=False), axis=axis), batch(9, 3))
    layer: Any = nn.Linear(3, 2)
    layer.bias.data = [1.0, 1.0]
    nn.weight_norm(layer, "bias")
    assert "bias is weight-normalized" in message(StateError, lambda: nn.data_init(layer, batch(9, 3)))


def test_models_without_layers_and_options_out_of_range_are_refused() -> None:
    assert "no layer has a weight" in message(StateError, lambda: nn.data_init(nn.ReLU(), batch(9, 3)))
    assert "not a module" in message(DTypeError, lambda: nn.data_init(batch(9, 3), mlp([3, 2])))
    for bad in (0, -1, np.nan, np.inf):
        assert "init_scale" in message(ValueRangeError, lambda bad=bad: nn.data_init(mlp([3, 2]), batch(9, 3), bad))
        assert "std" in message(ValueRangeError, lambda bad=bad: nn.data_init(mlp([3, 2]), batch(9, 3), std=bad))


def test_an_input_that_does_not_fit_changes_nothing() -> None:
    net = mlp([3, 4, 2])
    text = unchanged(net, lambda: nn.data_init(net, batch(9, 5)), ShapeError)
    assert re.search(r"\[9, 5\]", text)


def test_a_forward_that_was_set_on_a_layer_stays() -> None:
    layer: Any = mlp([3, 4])
    vars(layer[0])["forward"] = partial(nn.Linear.forward, layer[0])
    kept = layer[0].forward
    nn.data_init(layer, batch(9, 3))
    assert layer[0].forward is kept
