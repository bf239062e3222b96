"""What `zero` makes of slices of v with norm 0: w, every derivative, and, to the last bit, all other slices.

"A run without the zero slice" is the same run with numbers in its place; and, where slices are rows, the run on the
other rows alone. Derivatives come by four ways: back, back twice, forward, and forward through a gradient.
"""

from collections.abc import Callable
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from every_op import kernels_or_definitions
from hypothesis import given, strategies as st

import tinygrad_wn as tg
from tinygrad_wn import nn, optim
from tinygrad_wn.domains import Array
from tinygrad_wn.errors import ShapeError, ValueRangeError, ZeroNormError
from tinygrad_wn.ops.norm import g_shape, weight_norm_pullback

pytestmark = pytest.mark.usefixtures("many_steps")

forms = pytest.mark.parametrize("fused", [True, False], ids=["fused", "composed"])
policies = pytest.mark.parametrize(("zero", "fill"), [("zero", 0.0), ("nan", np.nan)])


def rest_of(axis: Any, ndim: int) -> tuple[int, ...]:
    kept = () if axis is None else tuple(i % ndim for i in (axis if isinstance(axis, tuple) else (axis,)))
    return tuple(i for i in range(ndim) if i not in kept)


@st.composite
def problems(draw: st.DrawFn) -> tuple[dict[str, Array], Any, Array]:
    """v, g, a cotangent and directions, drawn as a seed for speed; an axis; and which slices, if any, are to be 0."""
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    ndim = len(shape)
    every = chain.from_iterable(combinations(range(ndim), n) for n in range(ndim + 1))
    axis = draw(st.sampled_from([None, *range(-ndim, ndim), *every]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    of_g = g_shape(shape, axis)
    shapes = {"v": shape, "g": of_g, "ct": shape, "a": shape, "b": of_g}
    data = {name: rng.standard_normal(one).astype(dtype) for name, one in shapes.items()}
    # entries of either sign that are 0, of which at least one number of each slice is left
    first = np.indices(shape)[list(rest_of(axis, ndim))].sum(axis=0) == 0
    for name in ("v", "ct"):
        nothing = rng.random(shape) < draw(st.sampled_from([0.0, 0.3]))
        data[name] = np.where(nothing & ~first, rng.choice([0.0, -0.0], shape), data[name]).astype(dtype)
    dead = rng.random(of_g) < draw(st.sampled_from([0.3, 0.6, 1.0]))
    return data, axis, dead


def all_of(v: Any, g: Any, ct: Any, a: Any, b: Any, weight: Callable[[Any, Any], Any]) -> list[Any]:
    """w, both gradients, and derivatives of higher order: of both gradients back, and forward."""

    def cubed(v: Any, g: Any) -> Any:
        w = weight(v, g)
        return (w * w * w * ct).sum()

    def slopes(v: Any, g: Any, ct: Any) -> Any:
        _, back = tg.vjp(weight, v, g)
        return tuple(back(ct))

    _, back = tg.vjp(slopes, v, g, ct)
    w, pushed = tg.jvp(weight, (v, g), (a, b))
    return [w, pushed, *slopes(v, g, ct), *back(a, b), *tg.hvp(cubed, (v, g), (a, b))]


def found_by(data: dict[str, Array], axis: Any, fused: bool = True, zero: str = "raise") -> list[Array]:
    """All of that for `tg.weight_norm`."""
    given_ = {name: tg.tensor(x) for name, x in data.items()}
    found = all_of(**given_, weight=lambda v, g: tg.weight_norm(v, g, axis, fused=fused, zero=zero))
    return [y.numpy() for y in found]


def bits(x: Array) -> Array:
    return np.ascontiguousarray(x).view(f"u{x.itemsize}")


def the_same(found: Array, expected: Array, where: Array) -> None:
    """Bit for bit, in some places."""
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    there = np.broadcast_to(where, found.shape)
    np.testing.assert_array_equal(bits(found)[there], bits(expected)[there])


def killed(data: dict[str, Array], dead: Array) -> dict[str, Array]:
    """The same with slices of v that are 0."""
    return data | {"v": np.where(dead, -data["v"] * 0, data["v"])}


@policies
@forms
@kernels_or_definitions
@given(problems())
def test_a_zero_slice_is_filled_in_every_order_and_all_others_stay_as_they_are(
    zero: str, fill: float, fused: bool, on: bool, problem: tuple[dict[str, Array], Any, Array]
) -> None:
    data, axis, dead = problem
    with tg.kernels(on):
        without = found_by(data, axis, fused)
        found = found_by(killed(data, dead), axis, fused, zero)
    for y, expected in zip(found, without, strict=True):
        the_same(y, expected, ~dead)
        values = y[np.broadcast_to(dead, y.shape)]
        np.testing.assert_array_equal(values, np.full_like(values, fill))


@policies
@forms
@given(problems())
def test_a_policy_changes_no_bit_where_no_slice_is_zero(
    zero: str, fill: float, fused: bool, problem: tuple[dict[str, Array], Any, Array]
) -> None:
    data, axis, _ = problem
    for y, expected in zip(found_by(data, axis, fused, zero), found_by(data, axis, fused), strict=True):
        the_same(y, expected, np.array(True))


@policies
@kernels_or_definitions
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(seed=st.integers(0, 2**32), rows=st.integers(2, 70), columns=st.integers(1, 40), dead=st.integers(0, 69))
def test_a_row_of_zeros_might_as_well_not_be_there(
    zero: str, fill: float, on: bool, dtype: str, seed: int, rows: int, columns: int, dead: int
) -> None:
    rng = np.random.default_rng(seed)
    shapes = {"v": columns, "g": 1, "ct": columns, "a": columns, "b": 1}
    data = {name: rng.standard_normal((rows, n)).astype(dtype) for name, n in shapes.items()}
    row = np.arange(rows)[:, None] == dead % rows
    with tg.kernels(on):
        alone = found_by({name: x[~row[:, 0]] for name, x in data.items()}, 0)
        found = found_by(killed(data, row), 0, zero=zero)
    for y, expected in zip(found, alone, strict=True):
        the_same(y[~row[:, 0]], expected, np.array(True))
        np.testing.assert_array_equal(y[row[:, 0]], np.full_like(y[:1], fill))


@kernels_or_definitions
@forms
def test_what_reaches_a_zero_slice_goes_nowhere_even_if_it_is_not_finite(fused: bool, on: bool) -> None:
    v, g = np.array([[0.0, 0.0], [3.0, 4.0]], "f4"), np.array([[np.inf], [5.0]], "f4")
    ct = np.array([[np.nan, np.inf], [1.0, 0.0]], "f4")
    data = {"v": v, "g": g, "ct": ct, "a": np.where(v == 0, np.inf, 1).astype("f4"), "b": g}
    with tg.kernels(on):
        found = found_by(data, 0, fused, "zero")
    for y in found:
        np.testing.assert_array_equal(y[0], 0)
        assert np.isfinite(y[1]).all()


@given(st.integers(0, 2**32), st.integers(2, 130), st.integers(1, 70))
def test_a_row_that_nothing_reaches_changes_no_bit_of_its_neighbours(seed: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    v, ct = (rng.standard_normal((rows, columns)).astype("f4") for _ in range(2))
    g, quiet = rng.standard_normal((rows, 1)).astype("f4"), rng.random((rows, 1)) < 0.3
    every, some = (weight_norm_pullback(x, v, g, axis=0) for x in (ct, np.where(quiet, 0, ct).astype("f4")))
    for y, expected in zip(some, every, strict=True):
        the_same(y.numpy(), expected.numpy(), ~quiet)
        assert not np.any(y.numpy()[quiet[:, 0]])


def test_a_row_that_its_cotangent_is_across_has_the_bits_that_it_has_alone() -> None:
    rng = np.random.default_rng(0)
    v, ct = np.zeros((2, 64, 9), "f4")
    v[:, 0], ct[:, 1:] = rng.uniform(1, 2, 64), rng.standard_normal((64, 8))
    g = rng.standard_normal((64, 1)).astype("f4")
    v[-1] *= np.float32(2.0**-60)  # a row that has to be measured makes all rows of the block go another way
    together = weight_norm_pullback(ct, v, g, axis=0)
    alone = weight_norm_pullback(ct[:-1], v[:-1], g[:-1], axis=0)
    for y, expected in zip(together, alone, strict=True):
        the_same(y.numpy()[:-1], expected.numpy(), np.array(True))


# Compiled steps


CALLS: list[Any] = [((6, 7), 0, "float32", True), ((2, 3, 4), (0, 2), "float64", True), ((4, 5), 1, "float64", False)]
ORDERS = ["backward", "forward", "second"]
STEPS = [(call, order, "zero", 0.0) for call in CALLS for order in ORDERS]
STEPS += [(call, order, "nan", np.nan) for call, order in zip(CALLS, ORDERS, strict=True)]
"""Each is compiled, so not all of them are there twice: both policies are the same ops but for one factor."""


@pytest.mark.once
@pytest.mark.parametrize(("call", "order", "zero", "fill"), STEPS, ids=str)
def test_compiled_steps_follow_the_policy_in_machine_code_alone(call: Any, order: str, zero: str, fill: float) -> None:
    shape, axis, dtype, fused = call

    def weight(v: Any, g: Any) -> Any:
        return tg.weight_norm(v, g, axis, fused=fused, zero=zero)

    def backward(v: Any, g: Any, a: Any, b: Any) -> Any:
        w, back = tg.vjp(weight, v, g)
        return (w, *back(a))

    def forward(v: Any, g: Any, a: Any, b: Any) -> Any:
        return tg.jvp(weight, (v, g), (a, b))

    def second(v: Any, g: Any, a: Any, b: Any) -> Any:
        return tg.hvp(lambda v, g: tg.exp(weight(v, g)).sum(), (v, g), (a, b))

    function = {"backward": backward, "forward": forward, "second": second}[order]
    step, rng, of_g = tg.jit(function), np.random.default_rng(0), g_shape(shape, axis)
    v, g, a, b = (tg.tensor(rng.standard_normal(one).astype(dtype)) for one in (shape, of_g, shape, of_g))
    step(tg.zeros(shape, dtype), g, a, b)
    without = step(v, g, a, b)
    for dead in (rng.random(of_g) < 0.3, rng.random(of_g) < 0.6, np.zeros(of_g, bool), np.ones(of_g, bool)):
        zeros = tg.where(dead, 0.0, v)
        for y, expected, other in zip(step(zeros, g, a, b), function(zeros, g, a, b), without, strict=True):
            found, eager = y.numpy(), expected.numpy()
            the_same(found, other.numpy(), ~dead)
            size = np.max(np.abs(eager), initial=1.0, where=np.isfinite(eager))
            np.testing.assert_allclose(found, eager, rtol=0, atol=64 * np.finfo(dtype).eps * size)
            values = found[np.broadcast_to(dead, found.shape)]
            np.testing.assert_array_equal(values, np.full_like(values, fill))
    assert [len(one.text.parts) for known in step.steps.values() for one in known] == [1]


# Layers


def network(zero: str, axis: int = 0) -> Any:
    """Two weight-normalized layers; unit 1 of the first has a v of norm 0."""
    net: Any = nn.Sequential(nn.Linear(3, 4, rng=0), nn.Tanh(), nn.Linear(4, 2, rng=1))
    net[0].weight.data = np.where(np.arange(4)[:, None] == 1, 0, net[0].weight.numpy())
    return nn.weight_norm(net, axis=axis, zero=zero)


def loss_of(net: Any, x: Any, y: Any) -> Any:
    return nn.cross_entropy(net(x), y)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_unit_without_direction_stays_silent_while_the_others_learn(compiled: bool) -> None:
    net = network("zero")
    net[0].weight.g.data = np.ones((4, 1))
    optimizer = optim.SGD(net.parameters(), lr=0.5, momentum=0.9)
    x, y = tg.randn(16, 3, rng=2), tg.tensor(np.arange(16) % 2)
    before = net.state_dict()

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_of(net, x, y)
        loss.backward()
        optimizer.step()
        return loss

    run = tg.jit(step) if compiled else step
    losses = [run(x, y).item() for _ in range(5)]
    assert losses[-1] < losses[0]
    after = net.state_dict()
    np.testing.assert_array_equal(after["0.weight.v"][1], 0)
    np.testing.assert_array_equal(after["0.weight.g"][1], 1)
    np.testing.assert_array_equal(net[0].weight().numpy()[1], 0)
    assert np.all(after["0.weight.v"][[0, 2, 3]] != before["0.weight.v"][[0, 2, 3]])


def test_a_layer_gives_nan_for_a_unit_without_direction_and_the_others_as_ever() -> None:
    net, x = network("nan"), tg.randn(5, 3, rng=2)
    y = net[0](x).numpy()
    assert np.isnan(y[:, 1]).all()
    silent = network("zero")[0](x).numpy()
    np.testing.assert_array_equal(y[:, [0, 2, 3]], silent[:, [0, 2, 3]])
    np.testing.assert_array_equal(silent[:, 1], 0)


class Composed(nn.Linear):
    """A layer that composes its weight from primitive ops."""

    def forward(self, x: Any) -> Any:
        weight: Any = self.weight
        return tg.linear(x, tg.weight_norm(weight.v, weight.g, weight.axis, fused=False), self.bias)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize(("axis", "kind"), [(0, nn.Linear), (1, nn.Linear), (0, Composed)])
def test_an_error_names_the_layer_the_slice_and_what_to_do(axis: int, kind: Any, compiled: bool) -> None:
    inner: Any = nn.Sequential(nn.Linear(3, 2, rng=0), kind(2, 2, rng=0))
    net = nn.weight_norm(nn.Sequential(nn.ReLU(), inner), axis=axis)
    run: Any = tg.jit(net.__call__) if compiled else net
    run(tg.ones((1, 3)))
    v = inner[1].weight.v.numpy().copy()
    v[(slice(None),) * axis + (1,)] = 0
    inner[1].weight.v.data = v
    with pytest.raises(ZeroNormError) as caught:
        run(tg.ones((1, 3)))
    text = str(caught.value)
    assert text.startswith("weight_norm")
    assert "v      : float32 [2, 2]\n" in text
    assert "layer  : 1.1.weight\n" in text
    assert f"slices : {['[1, :]', '[:, 1]'][axis]}\n" in text
    assert 'zero="zero"' in text
    assert 'zero="nan"' in text
    assert text.count("layer") == 1


def test_the_policy_is_kept_by_options_files_folding_and_retraction(tmp_path: Path) -> None:
    for zero in ("zero", "nan"):
        net = network(zero)
        assert net[0].weight.options() == {"axis": 0, "zero": zero}
        tg.save(net, tmp_path / "net.npz")
        again = tg.load(tmp_path / "net.npz")
        assert again[0].weight.zero == again[2].weight.zero == zero
        x = tg.randn(5, 3, rng=0)
        np.testing.assert_array_equal(again(x).numpy(), net(x).numpy())
        nn.retract(again)
        np.testing.assert_array_equal(again[0].weight.v.numpy()[1], 0)
        tg.interop.load_pytorch_state(again, tg.interop.pytorch_state(network("zero"), "folded"))
        np.testing.assert_array_equal(again[0].weight.v.numpy()[1], 0)
        optimizer = optim.SGD(net.parameters(), lr=0.1)
        recorder = tg.NormRecorder(net, optimizer, 1)
        optimizer.step()
        assert recorder.table()["norm"][1] == 0
        weight = net[0].weight().numpy()
        np.testing.assert_array_equal(nn.fold_weight_norm(net)[0].weight.numpy(), weight)
        np.testing.assert_array_equal(weight[1], np.full(3, {"zero": 0, "nan": np.nan}[zero], "f4"))
    assert nn.weight_norm(nn.Linear(2, 2)).weight.options() == {"axis": 0}


@policies
def test_a_compiled_layer_follows_a_policy_that_is_set_later(zero: str, fill: float) -> None:
    layer: Any = nn.weight_norm(nn.Linear(3, 2, rng=0))
    step, x = tg.jit(layer.__call__), tg.ones((1, 3))
    step(x)
    layer.weight.v.data = np.array([[0, 0, 0], [1, 2, 3]])
    with pytest.raises(ZeroNormError):
        step(x)
    layer.weight.zero = zero
    y = step(x).numpy()
    np.testing.assert_array_equal(y[:, 0], fill)
    np.testing.assert_allclose(y, layer(x).numpy(), rtol=1e-6)


@policies
def test_a_layer_as_one_op_takes_the_policies(zero: str, fill: float) -> None:
    rng = np.random.default_rng(0)
    x, v, g, bias = (rng.standard_normal(shape).astype("f4") for shape in ((5, 3), (4, 3), (4, 1), 4))
    expected = tg.weight_norm_linear(x, v, g, bias).numpy()
    dead = np.arange(4) == 2
    y = tg.weight_norm_linear(x, np.where(dead[:, None], 0, v).astype("f4"), g, bias, zero=zero).numpy()
    np.testing.assert_allclose(y[:, ~dead], expected[:, ~dead], rtol=1e-5)
    np.testing.assert_array_equal(y[:, dead], np.full((5, 1), fill + bias[2]))


# What is refused


@pytest.mark.parametrize("zero", ["ignore", None, 0, ["zero"]])
def test_an_unknown_policy_is_refused_with_the_three_there_are(zero: Any) -> None:
    layer: Any = nn.Linear(2, 2)
    weight, ones = layer.weight, np.ones((2, 1))
    for call in (
        lambda: tg.weight_norm(np.ones((2, 2)), ones, zero=zero),
        lambda: tg.weight_norm_linear(np.ones(2), np.ones((2, 2)), ones, zero=zero),
        lambda: nn.WeightNorm(np.ones((2, 2)), ones, zero=zero),
        lambda: nn.weight_norm(layer, zero=zero),
    ):
        with pytest.raises(ValueRangeError) as caught:
            call()
        assert repr(zero) in str(caught.value)
        assert all(f'"{one}"' in str(caught.value) for one in ("raise", "zero", "nan"))
    assert layer.weight is weight


@policies
def test_shapes_are_checked_before_anything_is_computed(zero: str, fill: float) -> None:
    for shape in ((2,), (1, 3), (2, 3)):
        with pytest.raises(ShapeError, match="g must have shape"):
            tg.weight_norm(np.zeros((2, 3)), np.ones(shape), zero=zero)
    with pytest.raises(ShapeError, match="axis"):
        tg.weight_norm(np.zeros((2, 3)), np.ones((2, 1)), 2, zero=zero)
    assert tg.weight_norm(np.zeros((2, 0)), np.ones((2, 1)), zero=zero).shape == (2, 0)
    np.testing.assert_array_equal(tg.weight_norm([[0, 0]], [[5]], zero=zero).numpy(), [[fill, fill]])


def test_a_logarithm_of_a_length_of_0_is_refused_by_the_name_of_its_layer() -> None:
    layer: Any = nn.Linear(2, 2)
    layer.weight.data = np.zeros((2, 2))
    for options in ({}, {"zero": "zero", "log_scale": True}):
        with pytest.raises(ZeroNormError, match="'weight' of layer ''"):
            nn.weight_norm(layer, **options)
