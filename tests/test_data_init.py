"""Data-dependent initialization: every unit standardized on the batch, and four bugs of other libraries kept out."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st
from numpy.testing import assert_array_equal
from training import step_of

import tinygrad_wn as tg
from tinygrad_wn import nn
from tinygrad_wn.errors import ValueRangeError

SEEDS = st.integers(0, 2**32)
BOUND = 1e-10


def mlp(sizes: list[int], normalized: bool = True, bias: bool = True, dtype: str = "float64", seed: int = 0) -> Any:
    layers: list[nn.Module] = []
    for i, (size, out) in enumerate(pairwise(sizes)):
        layers += [nn.Linear(size, out, bias, dtype=dtype, rng=seed + i), nn.Tanh()]
    net = nn.Sequential(*layers[:-1])
    return nn.weight_norm(net) if normalized else net


def batch(rows: int, size: int, seed: int = 0, offset: float = 0.0, spread: float = 1.0) -> Any:
    return offset + spread * np.random.default_rng(seed).standard_normal((rows, size))


def before_activations(net: nn.Sequential, x: Any) -> list[Any]:
    """What each Linear gives, in float64, a column for each unit."""
    found = []
    for layer in net:
        x = layer(x)
        if isinstance(layer, nn.Linear):
            found.append(x.detach().numpy().astype(float).reshape(-1, x.shape[-1]))
    return found


def off(t: Any, scale: float = 1.0) -> Any:
    """The larger of |mean| and |std/scale - 1| of each unit, with the scale as the unit of the mean."""
    return np.maximum(np.abs(t.mean(axis=0)) / scale, np.abs(t.std(axis=0) / scale - 1))


# What it promises


@given(
    st.lists(st.integers(1, 6), min_size=2, max_size=5),
    st.lists(st.sampled_from([nn.ReLU, nn.Tanh, nn.GELU]), min_size=3, max_size=3),
    st.lists(st.booleans(), min_size=4, max_size=4),
    st.sampled_from([1.0, 0.1, 3.0]),
    st.sampled_from([0.05, 1.0, None]),
    st.tuples(st.integers(2, 40), SEEDS, st.sampled_from([0.0, 1.0, -300.0]), st.sampled_from([1.0, 1e-3, 1e6])),
)
def test_every_unit_of_every_layer_has_mean_zero_and_the_scale_asked_for(
    sizes: list[int], activations: Any, normalized: list[bool], scale: float, std: Any, drawn: Any
) -> None:
    rows, seed, offset, spread = drawn
    layers: list[Any] = []
    for i, (size, out) in enumerate(pairwise(sizes)):
        one = nn.Linear(size, out, dtype="float64", rng=seed + i)
        layers += [nn.weight_norm(one) if normalized[i] else one, activations[i % 3]()]
    net = nn.Sequential(*layers[:-1])
    x = spread * (offset + batch(rows, sizes[0], seed))
    kept = net.parameters()
    try:
        assert nn.data_init(net, x, scale, std=std, rng=seed) is net
    except ValueRangeError:  # two rows may be equal behind a ReLU
        assume(False)
    assume(all(np.all(np.abs(p.numpy()) <= 1e4 * scale) for name, p in net.named_parameters() if "bias" in name))
    for t in before_activations(net, x):
        assert np.all(off(t, scale) <= BOUND)
    assert all(p is q for p, q in zip(kept, net.parameters(), strict=True))


class Shift(nn.Module):
    def __init__(self, by: float) -> None:
        self.by = by

    def forward(self, x: Any) -> Any:
        return x + self.by


@pytest.mark.once
@pytest.mark.parametrize("normalized", [True, False])
@given(st.sampled_from([1e-140, 1.0, 3.7, 1e100]), st.sampled_from([1, 8, 60]), st.sampled_from([0.1, 1.0, 3.0]))
def test_the_bound_holds_where_means_are_ten_thousand_spreads_and_summed_over_many_rows(
    normalized: bool, size: float, count: int, scale: float
) -> None:
    signs = np.array([[(-1.0) ** (i & j).bit_count() for j in range(1, 64)] for i in range(64)])
    x = size * (1e4 + np.tile(signs[:, :count], (64, 1)))  # columns at right angles, of one spread
    first, second = nn.Linear(count, 5, dtype="float64"), nn.Linear(5, 4, dtype="float64")
    for layer in (first, second):
        units, inputs = layer.weight.shape
        rows = np.arange(units)
        layer.weight.data = np.where(np.arange(inputs) == (rows % inputs)[:, None], (-2.0) ** rows[:, None], 0)
    net: Any = nn.Sequential(first, Shift(1e4 * scale), second)
    net = nn.data_init(nn.weight_norm(net) if normalized else net, x, scale, std=None)
    for t in before_activations(net, x):
        assert np.all(off(t, scale) <= BOUND)
    assert np.all(np.abs(np.abs(first.bias.numpy()) / scale - 1e4) <= 1e-6)
    assert np.all(off(tg.jit(net.__call__)(x).detach().numpy(), scale) <= BOUND)


@given(SEEDS, st.sampled_from([0.5, 1.0, 2.0]))
def test_g_and_b_are_equations_5_and_6(seed: int, scale: float) -> None:
    x = 2 + batch(20, 3, seed)
    layer: Any = nn.data_init(nn.weight_norm(nn.Linear(3, 4, dtype="float64")), x, scale, rng=seed)
    v = np.random.default_rng(seed).normal(0, 0.05, (4, 3))
    assert_array_equal(layer.weight.v.numpy(), v)
    t = x @ (v / np.linalg.norm(v, axis=1, keepdims=True)).T
    np.testing.assert_allclose(layer.weight.g.numpy()[:, 0], scale / t.std(axis=0), rtol=1e-12)
    np.testing.assert_allclose(layer.bias.numpy(), -scale * t.mean(axis=0) / t.std(axis=0), rtol=1e-12)


@given(SEEDS)
def test_with_and_without_weight_normalization_it_gives_the_same_function(seed: int) -> None:
    x = batch(30, 3, seed, offset=1)
    nets = [nn.data_init(mlp([3, 5, 2], normalized), x, rng=seed) for normalized in (True, False)]
    np.testing.assert_allclose(*(net(x).detach().numpy() for net in nets), rtol=1e-9, atol=1e-9)


def test_v_is_drawn_from_the_normal_numbers_of_the_paper_or_kept() -> None:
    x = batch(20, 300)
    layer: Any = nn.data_init(mlp([300, 200]), x, rng=0)[0]
    v = layer.weight.v.numpy()
    assert abs(v.std() / 0.05 - 1) < 0.02
    assert abs(v.mean()) < 0.001
    nn.data_init(layer, x, std=None)
    assert_array_equal(layer.weight.v.numpy(), v)
    tg.seed(3)
    first = nn.data_init(layer, x).state_dict()["weight.v"]
    tg.seed(3)
    assert_array_equal(nn.data_init(layer, x).state_dict()["weight.v"], first)
    assert_array_equal(nn.data_init(layer, x, rng=3).state_dict()["weight.v"], first)


@given(SEEDS, st.integers(-320, 200), st.booleans())
def test_a_batch_of_any_size_is_standardized_or_refused_for_what_it_is(seed: int, k: int, normalized: bool) -> None:
    net = mlp([3, 4], normalized)
    x = batch(50, 3, seed) * 10.0**k
    if k >= -300:
        assert off(nn.data_init(net, x, rng=0)(x).detach().numpy()).max() < 1e-10
    else:  # 1/σ, or σ itself, is no float64
        with pytest.raises(ValueRangeError, match=r"1/σ is not finite|σ = 0"):
            nn.data_init(net, x * 1e-10, rng=0)


def test_float32_networks_are_standardized_as_well_as_float32_goes() -> None:
    for normalized in (True, False):
        net = mlp([8, 16, 4], normalized, dtype="float32")
        x = batch(64, 8, offset=10).astype("float32")
        nn.data_init(net, x, rng=0)
        assert {p.dtype for p in net.parameters()} == {np.dtype("float32")}
        for t in before_activations(net, x):
            assert np.all(off(t) <= 1e-4)  # ε |μ|/σ √in, with |μ|/σ near 100


def test_all_axes_but_the_last_are_the_batch() -> None:
    x = batch(24, 3, offset=1).reshape(2, 3, 4, 3)
    net = nn.data_init(mlp([3, 4, 2]), x, rng=0)
    assert all(np.all(off(t) <= BOUND) for t in before_activations(net, x))


def test_without_a_bias_the_spread_alone_is_set() -> None:
    for normalized in (True, False):
        layer = nn.data_init(mlp([3, 4], normalized, bias=False), x := batch(20, 3, offset=2), rng=0)
        (t,) = before_activations(layer, x)
        assert np.all(np.abs(t.std(axis=0) - 1) <= BOUND)
        assert np.all(np.abs(t.mean(axis=0)) > 1e-3)


def test_layers_are_started_in_the_order_in_which_the_model_calls_them() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            self.last = nn.Linear(4, 2, dtype="float64", rng=0)
            self.first = nn.Linear(3, 4, dtype="float64", rng=1)

        def forward(self, x: Any) -> Any:
            return self.last(tg.relu(self.first.forward(x)))

    net, x = nn.weight_norm(Backwards()), batch(30, 3, offset=1)
    nn.data_init(net, x, rng=0)
    first = net.first(x)
    for t in (first, net.last(tg.relu(first))):
        assert np.all(off(t.detach().numpy()) <= BOUND)


def test_a_layer_of_your_own_that_follows_its_g_and_b_is_started_too() -> None:
    class Blocks(nn.Module):
        """Units of a weight with three axes."""

        def __init__(self) -> None:
            self.weight: Any = nn.init.he_normal((5, 2, 3), 0, "float64")
            self.bias = tg.zeros(5, "float64", requires_grad=True)

        def forward(self, x: Any) -> Any:
            return tg.linear(x, nn.effective(self.weight).reshape(5, 6), self.bias)

    for normalized in (True, False):
        layer = nn.weight_norm(Blocks()) if normalized else Blocks()
        x = batch(30, 6, offset=1)
        assert np.all(off(nn.data_init(layer, x, rng=1)(x).detach().numpy()) <= BOUND)


def test_the_optimizer_and_a_compiled_step_still_have_the_parameters() -> None:
    net, x, y = mlp([3, 4, 2]), batch(16, 3), np.array([0, 1] * 8)
    optimizer = tg.optim.SGD(net.parameters(), lr=0.0)

    step = tg.jit(step_of(net, optimizer))
    first = step(x, y).item()
    nn.data_init(net, x, 3.0, rng=0)
    assert step(x, y).item() == pytest.approx(tg.cross_entropy(net(x), y).item(), rel=1e-12)
    assert step(x, y).item() != first
    assert sum(map(len, step.steps.values())) == 1


# Four bugs that other libraries had: each is tried on a batch on which the right way passes and the bug does not


def started(x: Any, weights: list[Any], bug: str) -> list[Any]:
    """Pre-activations of a network with ReLU between its layers, after an initialization with one bug, or none."""
    parameters = []
    h = x
    for v in weights:
        length = np.linalg.norm(v, axis=1)
        seen = h @ (v if bug == "raw kernel" else v / length[:, None]).T
        judged = np.maximum(seen, 0) if bug == "after the activation" else seen
        assume(np.all(judged.std(axis=0) > 0))  # a bug may see a unit that is off for every row
        g, b = 1 / judged.std(axis=0), -judged.mean(axis=0) / judged.std(axis=0)
        if bug == "no bias":
            b = np.zeros_like(b)
        parameters.append((v / length[:, None] * g[:, None], b))
        y = h @ parameters[-1][0].T + b
        h = np.maximum(seen if bug == "un-updated output" else y, 0)
    found = []
    for w, b in parameters:
        found.append(x @ w.T + b)
        x = np.maximum(found[-1], 0)
    return found


BUGS = {
    "raw kernel": "TensorFlow Addons took the statistics of x·v, and scaled v/‖v‖ by them",
    "after the activation": "the statistics were those of φ(t)",
    "un-updated output": "pixel-cnn gave the next layer t, not (t - μ)/σ",
    "no bias": "mean-teacher started b at 0: in evaluation, a running mean that starts at 0 too stood for μ",
}


@pytest.mark.parametrize("bug", BUGS)
@settings(max_examples=10)
@given(SEEDS)
def test_a_historical_bug_is_kept_out(bug: str, seed: int) -> None:
    x = batch(50, 4, seed, offset=3, spread=5)
    rng = np.random.default_rng(seed)
    weights = [rng.normal(0, 0.05, shape) for shape in ((6, 4), (3, 6))]
    assert all(np.all(off(t) <= BOUND) for t in started(x, weights, "none"))
    assert max(off(t).max() for t in started(x, weights, bug)) > 1e-3
    layers = [nn.Linear(4, 6, dtype="float64"), nn.ReLU(), nn.Linear(6, 3, dtype="float64")]
    net = nn.data_init(nn.weight_norm(nn.Sequential(*layers)), x, rng=seed)
    ours = before_activations(net, x)
    assert all(np.all(off(t) <= BOUND) for t in ours)
    for mine, right in zip(ours, started(x, weights, "none"), strict=True):
        np.testing.assert_allclose(mine, right, rtol=1e-8, atol=1e-8)
