"""Modules and layers: where state is found, what loading refuses, and what each layer computes."""

import copy
import gc
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal

import tinygrad_wn as tg
from tinygrad_wn import nn
from tinygrad_wn.errors import DTypeError, ShapeError, StateError, ValueRangeError

DTYPES = st.sampled_from(["float32", "float64"])
SIZES = st.integers(1, 5)
SEEDS = st.integers(0, 2**32)
NUMBERS = st.floats(-4, 4, width=32)


def parameter(*values: float) -> tg.Tensor:
    return tg.tensor(list(values), requires_grad=True)


def message(kind: type[Exception], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    return str(caught.value)


def small_net(rng: int = 0) -> Any:
    return nn.Sequential(nn.Linear(3, 4, rng=rng), nn.Sequential(nn.Tanh(), nn.Linear(4, 2, bias=False, rng=rng + 1)))


class Nested(nn.Module):
    """State in every place where it is looked for, and values that are not state."""

    def __init__(self) -> None:
        self.direct = parameter(1.0)
        self.list = [parameter(2.0), 7, nn.Sequential(nn.Linear(1, 1, bias=False))]
        self.tuple = (parameter(3.0), [parameter(4.0)])
        self.dict = {"a": parameter(5.0), 3: {"b": parameter(6.0)}}
        self.mean = tg.tensor([7.0])
        self.count = tg.tensor([8])
        self.title = "no tensor"
        self.array = np.ones(2)
        self.nothing = None


# Where state is found


def test_state_is_found_in_attributes_lists_tuples_dicts_and_modules_and_named_by_the_way() -> None:
    state = Nested().state_dict()
    names = ["direct", "list.0", "list.2.0.weight", "tuple.0", "tuple.1.0", "dict.a", "dict.3.b", "mean", "count"]
    assert list(state) == names
    values = {name: array.item() for name, array in state.items() if name != "list.2.0.weight"}
    assert list(values.values()) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_parameters_are_the_state_that_requires_a_gradient() -> None:
    module = Nested()
    names = [name for name, _ in module.named_parameters()]
    assert names == [name for name in module.state_dict() if name not in ("mean", "count")]
    assert all(p is q for p, (_, q) in zip(module.parameters(), module.named_parameters(), strict=True))
    module.direct.requires_grad = False
    assert [name for name, _ in module.named_parameters()] == names[1:]
    assert "direct" in module.state_dict()


def test_a_module_that_is_used_twice_counts_once_under_its_first_name() -> None:
    shared = nn.Linear(2, 2)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias"]
    assert [name for name, _ in net.named_modules()] == ["", "0", "1"]


def test_a_tensor_that_two_layers_share_counts_once() -> None:
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    b.weight = a.weight
    net = nn.Sequential(a, b)
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias", "1.bias"]


def test_modules_that_refer_to_each_other_in_a_circle_are_walked_and_shown() -> None:
    child: Any = nn.Linear(1, 1)
    parent = nn.Sequential(child)
    child.parent = parent
    assert list(parent.state_dict()) == ["0.weight", "0.bias"]
    assert list(child.state_dict()) == ["weight", "bias"]
    assert "..." in repr(parent)


def test_a_subclass_of_sequential_keeps_the_state_it_adds() -> None:
    class Scaled(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Linear(1, 1, bias=False))
            self.scale = parameter(2.0)

    assert list(Scaled().state_dict()) == ["0.weight", "scale"]


def test_two_tensors_of_one_name_are_refused() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            self.a = {"b": parameter(1.0), "c": {"d": parameter(2.0)}, "c.d": parameter(3.0)}

    assert "two tensors are named 'a.c.d'" in message(StateError, Twice().state_dict)


def test_a_chain_of_modules_deeper_than_the_recursion_limit_is_walked() -> None:
    net = nn.Sequential(nn.Linear(1, 1))
    for _ in range(3000):
        net = nn.Sequential(net)
    assert len(net.parameters()) == 2
    assert len(net.eval().named_modules()) == 3002


# Copies, and loading


def test_state_is_copied_out_and_in() -> None:
    a, b = small_net(0), small_net(5)
    state = a.state_dict()
    b.load_state_dict(state)
    for name, array in state.items():
        array[...] = 9
        assert not np.array_equal(array, dict(a.named_parameters())[name].numpy())
        assert not np.array_equal(array, dict(b.named_parameters())[name].numpy())
    x = tg.randn(5, 3)
    assert_array_equal(a(x).numpy(), b(x).numpy())


@given(st.data())
def test_loading_names_everything_that_does_not_fit_and_changes_nothing(data: st.DataObject) -> None:
    net = small_net()
    before = net.state_dict()
    state: dict[str, Any] = {name: array + 1 for name, array in before.items()}
    names = sorted(state)
    spoil = data.draw(st.dictionaries(st.sampled_from(names), st.sampled_from(["drop", "shape", "dtype"]), min_size=1))
    for name, how in spoil.items():
        given_array = state.pop(name)
        if how == "shape":
            state[name] = given_array[None]
        elif how == "dtype":
            state[name] = given_array.astype("float64")
    state["strange"] = np.ones(1)
    order = data.draw(st.permutations(list(state)))
    text = message(StateError, lambda: net.load_state_dict({name: state[name] for name in order}))
    for name in names:
        assert (repr(name) in text) == (name in spoil)
    for name, how in spoil.items():
        shape = list(before[name].shape)
        expected = {
            "drop": "missing in the state",
            "shape": f"model float32 {shape}, state float32 {[1, *shape]}",
            "dtype": f"model float32 {shape}, state float64 {shape}",
        }[how]
        assert any(repr(name) in line and expected in line for line in text.splitlines())
    assert "'strange'" in text
    assert "not in the model" in text
    for name, array in net.state_dict().items():
        assert_array_equal(array, before[name])


def test_tensors_can_be_loaded_as_well_as_arrays() -> None:
    a, b = small_net(0), small_net(5)
    b.load_state_dict(dict(a.named_parameters()))
    assert_array_equal(a[0].weight.numpy(), b[0].weight.numpy())


def test_loading_keeps_the_tensors_so_that_an_optimizer_still_has_them() -> None:
    a, b = small_net(0), small_net(5)
    kept = a.parameters()
    a.load_state_dict(b.state_dict())
    assert all(p is q for p, q in zip(kept, a.parameters(), strict=True))
    assert_array_equal(kept[0].numpy(), b.parameters()[0].numpy())


@pytest.mark.parametrize("how", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_a_copy_computes_the_same_shares_nothing_and_stays_tied(how: Callable[[Any], Any]) -> None:
    shared = nn.Linear(3, 3, rng=0)
    net = nn.Sequential(shared, nn.Dropout(0.5, rng=1), shared, nn.LeakyReLU(0.2), nn.GELU(), nn.Sigmoid())
    net = nn.weight_norm(nn.Sequential(net, nn.Linear(3, 2, rng=2)))
    new = how(net)
    assert [n for n, _ in new.named_parameters()] == [n for n, _ in net.named_parameters()]
    x = tg.randn(4, 3)
    assert_array_equal(new(x).numpy(), net(x).numpy())
    assert repr(new) == repr(net)
    for p in new.parameters():
        p.data = p.numpy() + 1
    assert all(np.all(p.numpy() == q.numpy() + 1) for p, q in zip(new.parameters(), net.parameters(), strict=True))


# Modes, gradients, repr


def test_train_and_eval_reach_every_module_and_return_the_module() -> None:
    net = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()))
    assert net.training
    assert net.eval() is net
    assert [m.training for _, m in net.named_modules()] == [False] * 4
    assert net.train() is net
    assert [m.training for _, m in net.named_modules()] == [True] * 4


def test_zero_grad_forgets_all_gradients() -> None:
    net = small_net()
    tg.sum(net(tg.ones((2, 3)))).backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_repr_is_a_tree() -> None:
    net = nn.Sequential(
        nn.Linear(2, 3), nn.LeakyReLU(), nn.Sequential(nn.Linear(3, 1, bias=False, dtype="float64"), nn.Dropout(0.1))
    )
    nn.weight_norm(net[0])
    assert repr(net) == (
        "Sequential(\n"
        "  (0): Linear(\n"
        "    in_features=2, out_features=3, bias=True\n"
        "    (weight): WeightNorm(axis=0)\n"
        "  )\n"
        "  (1): LeakyReLU(negative_slope=0.01)\n"
        "  (2): Sequential(\n"
        "    (0): Linear(in_features=3, out_features=1, bias=False, dtype='float64')\n"
        "    (1): Dropout(p=0.1)\n"
        "  )\n"
        ")"
    )
    assert repr(nn.Sequential()) == "Sequential()"


def test_a_module_without_forward_says_so() -> None:
    class Empty(nn.Module):
        pass

    assert "Empty has no forward" in message(DTypeError, Empty())


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
