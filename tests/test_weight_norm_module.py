"""Weight normalization of layers: there, back, and refused before anything is changed."""

from collections.abc import Callable
from itertools import chain, combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from refusals import message

import tinygrad_wn as tg
from tinygrad_wn import nn
from tinygrad_wn.errors import DTypeError, GradientError, ShapeError, StateError, ValueRangeError, ZeroNormError


class Holder(nn.Module):
    """A layer whose weight has any shape."""

    def __init__(self, weight: Any, requires_grad: bool = True) -> None:
        self.weight: Any = tg.tensor(weight, requires_grad=requires_grad)

    def forward(self, x: Any) -> Any:
        return tg.sum(nn.effective(self.weight) * x)


def mlp(dtype: str = "float32") -> Any:
    return nn.Sequential(nn.Linear(3, 4, dtype=dtype, rng=0), nn.ReLU(), nn.Linear(4, 2, dtype=dtype, rng=1))


def unchanged(net: nn.Module, call: Callable[[], object], kind: type[Exception]) -> str:
    """The message of an error after which the very same tensors are in the same places."""
    before = dict(net.named_parameters())
    text = message(kind, call)
    after = dict(net.named_parameters())
    assert list(before) == list(after)
    assert all(before[name] is after[name] for name in before)
    return text


def scale(values: Any) -> Any:
    """The distance to the next float, entry by entry."""
    return np.spacing(np.abs(values))


@st.composite
def weights(draw: st.DrawFn) -> tuple[Any, Any]:
    """A weight of one to four dimensions at any scale, without a zero slice, and an axis."""
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    shape = draw(hnp.array_shapes(max_dims=4, max_side=4))
    ndim = len(shape)
    every = chain.from_iterable(combinations(range(ndim), n) for n in range(ndim + 1))
    axis = draw(st.sampled_from([None, *range(-ndim, ndim), *every]))
    numbers = st.floats(0.125, 4, width=32) | st.floats(-4, -0.125, width=32)
    top = 100 if dtype is np.float32 else 1000
    return np.ldexp(draw(hnp.arrays(dtype, shape, elements=numbers)), draw(st.integers(-top, top))), axis


def rest_of(axis: Any, ndim: int) -> tuple[int, ...]:
    kept = () if axis is None else tuple(i % ndim for i in (axis if isinstance(axis, tuple) else (axis,)))
    return tuple(i for i in range(ndim) if i not in kept)


# There and back


@given(weights(), st.booleans())
def test_every_entry_of_the_weight_stays_the_same_to_one_ulp(case: Any, compiled: bool) -> None:
    weight, axis = case
    with tg.kernels(compiled):
        layer = nn.weight_norm(Holder(weight), axis=axis)
        assert isinstance(layer.weight, nn.WeightNorm)
        w = layer.weight().numpy()
        assert w.dtype == weight.dtype
        assert np.all(np.abs(w - weight) <= scale(weight))
        folded = nn.fold_weight_norm(layer).weight
    assert_array_equal(folded.numpy(), w)
    assert folded.requires_grad


@given(weights())
def test_v_is_the_weight_and_g_its_norm_over_the_other_axes(case: Any) -> None:
    weight, axis = case
    layer = nn.weight_norm(Holder(weight), axis=axis).weight
    rest = rest_of(axis, weight.ndim)
    assert_array_equal(layer.v.numpy(), weight)
    assert layer.g.shape == tuple(1 if i in rest else n for i, n in enumerate(weight.shape))
    assert layer.g.dtype == weight.dtype
    wide = weight.astype(np.longdouble)
    length = np.sqrt(np.sum(wide * wide, axis=rest, keepdims=True))
    # n squares are summed in float64: the sum is right to n·ε/2, its root to n·ε/4; then g is rounded to its dtype.
    terms = weight.size // layer.g.size
    within = np.finfo(weight.dtype).eps + terms / 4 * np.finfo(np.float64).eps
    assert np.all(abs(layer.g.numpy() - length) <= within * length)


def test_state_is_named_after_v_and_g_and_keeps_its_order() -> None:
    net = nn.weight_norm(mlp())
    assert list(net.state_dict()) == [
        *("0.weight.v", "0.weight.g", "0.bias"),
        *("2.weight.v", "2.weight.g", "2.bias"),
    ]
    assert net.state_dict()["0.weight.g"].shape == (4, 1)
    assert list(nn.fold_weight_norm(net).state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_network_computes_the_same_with_weight_normalization_and_without_again(dtype: str) -> None:
    net = mlp(dtype)
    x = np.random.default_rng(0).standard_normal((7, 3)).astype(dtype)
    before = net(x).numpy()
    assert nn.weight_norm(net) is net
    within = 1e-6 if dtype == "float32" else 1e-15
    assert net(x).dtype == dtype
    assert_allclose(net(x).numpy(), before, rtol=10 * within, atol=within)
    normalized = net(x).numpy()
    assert nn.fold_weight_norm(net) is net
    assert_allclose(net(x).numpy(), normalized, rtol=0, atol=within * np.abs(normalized).max())


def test_gradients_reach_v_and_g_by_the_formulas() -> None:
    layer = nn.weight_norm(Holder([[3.0, 4.0], [0.0, 2.0]])).weight
    ct = np.array([[1.0, 2.0], [3.0, 4.0]], "float32")
    tg.sum(layer() * ct).backward()
    v, g = layer.v.numpy(), layer.g.numpy()
    length = np.linalg.norm(v, axis=1, keepdims=True)
    dg = np.sum(ct * v, axis=1, keepdims=True) / length
    assert_allclose(layer.g.grad.numpy(), dg, rtol=1e-6)
    assert_allclose(layer.v.grad.numpy(), g / length * ct - g * dg / length**2 * v, rtol=1e-6, atol=1e-7)


def test_a_step_changes_length_and_direction() -> None:
    net = nn.weight_norm(mlp())
    optimizer = tg.optim.SGD(net.parameters(), lr=0.1)
    before = net.state_dict()
    nn.cross_entropy(net(tg.randn(8, 3, rng=0)), tg.tensor([0, 1] * 4)).backward()
    optimizer.step()
    after = net.state_dict()
    assert all(not np.array_equal(before[name], after[name]) for name in before)


def test_another_parameter_can_be_normalized() -> None:
    layer: Any = nn.Linear(2, 3)
    layer.bias.data = np.array([3.0, 0.0, 4.0], "float32")
    nn.weight_norm(layer, "bias", axis=None)
    assert list(layer.state_dict()) == ["weight", "bias.v", "bias.g"]
    assert layer.state_dict()["bias.g"].tolist() == [5.0]
    assert_allclose(layer(tg.zeros(2)).numpy(), [3, 0, 4], rtol=1e-6)


def test_only_layers_that_have_the_parameter_are_changed() -> None:
    last: Any = nn.Linear(2, 2)
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Sequential(last, nn.Tanh()))
    last.bias.data = np.ones(2, "float32")
    nn.weight_norm(net, "bias")
    assert list(net.state_dict()) == ["0.weight", "1.0.weight", "1.0.bias.v", "1.0.bias.g"]


def test_a_layer_that_is_there_twice_is_changed_once() -> None:
    shared = nn.Linear(2, 2)
    net = nn.weight_norm(nn.Sequential(shared, nn.ReLU(), shared))
    assert [name for name, _ in net.named_parameters()] == ["0.weight.v", "0.weight.g", "0.bias"]
    nn.fold_weight_norm(net)
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias"]


def test_layers_that_share_a_weight_still_share_it() -> None:
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    b.weight = a.weight
    net = nn.weight_norm(nn.Sequential(a, b))
    assert a.weight is b.weight
    nn.fold_weight_norm(net)
    assert isinstance(a.weight, tg.Tensor)
    assert a.weight is b.weight


@pytest.mark.parametrize("wanted", [True, False])
def test_a_frozen_weight_stays_frozen(wanted: bool) -> None:
    layer = nn.weight_norm(Holder([[3.0, 4.0]], requires_grad=wanted))
    assert [layer.weight.v.requires_grad, layer.weight.g.requires_grad] == [wanted, wanted]
    assert nn.fold_weight_norm(layer).weight.requires_grad == wanted


def test_a_weight_of_which_one_part_is_frozen_folds_into_a_parameter() -> None:
    for frozen in ("v", "g"):
        layer = nn.weight_norm(Holder([[3.0, 4.0]]))
        getattr(layer.weight, frozen).requires_grad = False
        assert nn.fold_weight_norm(layer).weight.requires_grad


def test_the_old_weight_is_left_alone() -> None:
    layer = Holder([[3.0, 4.0]])
    old = layer.weight
    nn.weight_norm(layer).weight.v.data = [[1.0, 1.0]]
    assert old.numpy().tolist() == [[3.0, 4.0]]


# WeightNorm itself


def test_weight_norm_modules_keep_tensors_and_turn_arrays_into_parameters() -> None:
    v = tg.tensor([[1.0, 2.0]])
    made = nn.WeightNorm(v, np.ones((1, 1), "float64"))
    assert made.v is v
    assert made.g.requires_grad
    assert made.g.dtype == np.float64
    axes: list[Any] = [None, (0,), -2, np.int64(0)]
    shown = [repr(nn.WeightNorm(v, [[1.0]], axis)) for axis in axes]
    assert shown == ["WeightNorm(axis=None)", "WeightNorm(axis=(0,))", "WeightNorm(axis=-2)", "WeightNorm(axis=0)"]


def test_g_of_another_shape_is_refused_when_the_module_is_made() -> None:
    assert "g must have shape [2, 1]" in message(ShapeError, lambda: nn.WeightNorm(np.ones((2, 3)), np.ones((2, 3))))
    assert "out of range" in message(ShapeError, lambda: nn.WeightNorm(np.ones((2, 3)), np.ones((2, 1)), axis=2))


# Refused before anything is changed


def test_a_zero_slice_is_named_with_its_layer_and_nothing_is_changed() -> None:
    net = mlp()
    net[2].weight.data = [[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]
    text = unchanged(net, lambda: nn.weight_norm(net), ZeroNormError)
    assert "'weight' of layer '2'" in text
    assert "slices : [1, :]" in text


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
def test_a_norm_that_is_not_finite_is_named_with_its_layer(bad: float) -> None:
    net = mlp()
    net[2].weight.data = np.full((2, 4), bad, "float32")
    text = unchanged(net, lambda: nn.weight_norm(net), ValueRangeError)
    assert "'weight' of layer '2' has a norm that is not finite" in text


@pytest.mark.parametrize("axis", [2, -3, (0, 5), (0, 0), 0.5, "0"])
def test_an_axis_that_is_not_there_is_refused(axis: Any) -> None:
    net = mlp()
    text = unchanged(net, lambda: nn.weight_norm(net, axis=axis), ShapeError)
    assert "layer '0'" in text
    assert "float32 [4, 3]" in text


def test_a_second_weight_normalization_is_refused() -> None:
    net = mlp()
    nn.weight_norm(net[2])
    text = unchanged(net, lambda: nn.weight_norm(net), StateError)
    assert "'weight' of layer '2' is weight-normalized already" in text
    assert "fold_weight_norm" in text


@pytest.mark.parametrize("name", ["v", "g"])
def test_the_parts_of_a_weight_norm_are_no_weights(name: str) -> None:
    net = nn.weight_norm(mlp())
    unchanged(net, lambda: nn.weight_norm(net, name), StateError)


def test_a_name_that_no_layer_has_is_refused_with_those_that_are_there() -> None:
    net = mlp()
    text = unchanged(net, lambda: nn.weight_norm(net, "wight"), StateError)
    assert "no layer has a tensor 'wight'" in text
    assert "bias, weight" in text
    assert "none" in message(StateError, lambda: nn.weight_norm(nn.Sequential(nn.ReLU())))


def test_integer_and_computed_weights_are_refused() -> None:
    assert "float32 or float64" in message(DTypeError, lambda: nn.weight_norm(Holder([[1, 2]], requires_grad=False)))
    layer = Holder([[3.0, 4.0]])
    layer.weight = layer.weight * 2
    assert "is computed" in message(GradientError, lambda: nn.weight_norm(layer))


def test_folding_without_a_weight_norm_is_refused() -> None:
    net = mlp()
    assert "no layer is weight-normalized" in unchanged(net, lambda: nn.fold_weight_norm(net), StateError)


def test_folding_twice_and_an_unknown_name_are_refused() -> None:
    net = nn.weight_norm(mlp())
    text = unchanged(net, lambda: nn.fold_weight_norm(net, "wight"), StateError)
    assert "no layer has a WeightNorm 'wight'" in text
    assert "weight-normalized : weight" in text
    unchanged(net, lambda: nn.fold_weight_norm(net, "bias"), StateError)
    nn.fold_weight_norm(net, "weight")
    unchanged(net, lambda: nn.fold_weight_norm(net, "weight"), StateError)


def test_a_name_folds_the_parameters_of_that_name_alone() -> None:
    layer: Any = nn.Linear(2, 3)
    layer.bias.data = np.ones(3, "float32")
    nn.weight_norm(nn.weight_norm(layer), "bias", axis=None)
    nn.fold_weight_norm(layer, "bias")
    assert list(layer.state_dict()) == ["weight.v", "weight.g", "bias"]


@given(weights())
def test_the_folded_weight_is_weight_norm_of_v_and_g_bit_for_bit(case: Any) -> None:
    weight, axis = case
    layer = nn.weight_norm(Holder(weight), axis=axis)
    g = 3 * layer.weight.g.numpy()
    layer.weight.g.data = g
    expected = tg.weight_norm(weight, g, axis).numpy()
    assert_array_equal(nn.fold_weight_norm(layer).weight.numpy(), expected)


@given(st.integers(0, 2**32), st.integers(1, 40), st.sampled_from(["float32", "float64"]))
def test_outputs_of_a_folded_layer_are_within_rounding_of_the_normalized_one(seed: int, size: int, dtype: str) -> None:
    layer: Any = nn.weight_norm(nn.Linear(size, 5, dtype=dtype, rng=seed))
    x = np.random.default_rng(seed).standard_normal((7, size)).astype(dtype)
    before = layer(x).detach().numpy()
    after = nn.fold_weight_norm(layer)(x).detach().numpy()
    # both round each of `size` products and their sum, and w: normwise, by |x||w| row by row
    bound = (size + 4) * np.finfo(dtype).eps * np.linalg.norm(x, axis=1, keepdims=True)
    assert np.all(abs(after - before) <= bound * np.linalg.norm(layer.weight.numpy(), axis=1))


def test_folding_a_slice_that_became_zero_names_the_layer_and_changes_nothing() -> None:
    net = nn.weight_norm(mlp())
    net[2].weight.v.data = np.zeros((2, 4), "float32")
    text = unchanged(net, lambda: nn.fold_weight_norm(net), ZeroNormError)
    assert "'weight' of layer '2'" in text
    assert isinstance(net[0].weight, nn.WeightNorm)


@pytest.mark.parametrize("function", [nn.weight_norm, nn.fold_weight_norm])
def test_what_is_not_a_module_is_refused(function: Callable[[Any], Any]) -> None:
    assert "not a module" in message(DTypeError, lambda: function(tg.ones((2, 2))))
