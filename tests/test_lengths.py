"""Optimizers that know v and g: groups, decay of the weight itself, v kept at a length, and the laws of a longer v."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from refusals import message

import tinygrad_wn as tg
from tinygrad_wn import nn, optim
from tinygrad_wn.errors import DTypeError, StateError, ValueRangeError, ZeroNormError

SEEDS = st.integers(0, 2**32)
DTYPES = st.sampled_from(["float32", "float64"])


def mlp(dtype: str = "float64", seed: int = 0) -> Any:
    layers = [nn.Linear(3, 6, dtype=dtype, rng=seed), nn.Tanh(), nn.Linear(6, 2, dtype=dtype, rng=seed + 1)]
    return nn.weight_norm(nn.Sequential(*layers))


def batch(dtype: str = "float64", seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((12, 3)).astype(dtype), rng.integers(0, 2, 12)


def weights(net: Any) -> list[Any]:
    return [layer.weight().detach().numpy() for layer in net if isinstance(layer, nn.Linear)]


def step_of(net: Any, optimizer: Any, penalty: float = 0.0, after: Callable[[], object] = lambda: None) -> Any:
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = tg.cross_entropy(net(x), y)
        if penalty:
            loss = loss + penalty / 2 * nn.squared_norm(net)
        loss.backward()
        optimizer.step()
        after()
        return loss

    return step


# Groups


def test_groups_hold_every_parameter_once_by_its_part() -> None:
    net = mlp()
    groups = nn.parameter_groups(net, 0.1, v={"lr": 1.0}, g={"lr": 2.0}, other={"lr": 3.0})
    names = {id(p): name for name, p in net.named_parameters()}
    assert [[names[id(p)] for p in one["params"]] for one in groups] == [
        ["0.weight.v", "2.weight.v"],
        ["0.weight.g", "2.weight.g"],
        ["0.bias", "2.bias"],
    ]
    assert [{k: x for k, x in one.items() if k != "params"} for one in groups] == [
        {"lr": 1.0, "weight_decay": 0.0},
        {"lr": 2.0, "weight_decay": 0.1},
        {"lr": 3.0},
    ]
    assert nn.parameter_groups(net, 0.1, v={"weight_decay": 0.5}, g={"weight_decay": 0.2})[0]["weight_decay"] == 0.5


def test_what_is_frozen_or_not_there_is_in_no_group() -> None:
    layer: Any = nn.weight_norm(nn.Linear(3, 2, bias=False))
    layer.weight.v.requires_grad = False
    (group,) = nn.parameter_groups(layer)
    assert group["params"][0] is layer.weight.g
    shared = nn.weight_norm(nn.Linear(2, 2))
    assert [len(one["params"]) for one in nn.parameter_groups(nn.Sequential(shared, shared))] == [1, 1, 1]


# The laws of section 2.1


@given(SEEDS, st.integers(-20, 20), DTYPES, st.sampled_from([0.1, 1.0]))
def test_a_longer_v_with_a_rate_longer_by_its_square_takes_the_same_steps_to_the_last_bit(
    seed: int, k: int, dtype: str, lr: float
) -> None:
    nets = [mlp(dtype, seed) for _ in range(2)]
    for layer in (nets[1][0], nets[1][2]):
        layer.weight.v.data = np.ldexp(layer.weight.v.numpy(), k)
    rates = [lr, lr * 4.0**k]
    optimizers = [optim.SGD(nn.parameter_groups(n, v={"lr": r}), lr=lr) for n, r in zip(nets, rates, strict=True)]
    steps = [step_of(*pair) for pair in zip(nets, optimizers, strict=True)]
    x, y = batch(dtype, seed)
    for _ in range(5):
        assert steps[0](x, y).item() == steps[1](x, y).item()
        for a, b in zip(*map(weights, nets), strict=True):
            assert_array_equal(a, b)
    assert_array_equal(nets[1][0].weight.v.numpy(), np.ldexp(nets[0][0].weight.v.numpy(), k))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_holds_to_the_last_bit_in_compiled_steps(dtype: str) -> None:
    nets = [mlp(dtype) for _ in range(2)]
    for layer in (nets[1][0], nets[1][2]):
        layer.weight.v.data = np.ldexp(layer.weight.v.numpy(), 7)
    groups = [nn.parameter_groups(net, v={"lr": rate}) for net, rate in zip(nets, (0.5, 0.5 * 4.0**7), strict=True)]
    steps = [tg.jit(step_of(net, optim.SGD(one, lr=0.5))) for net, one in zip(nets, groups, strict=True)]
    for i in range(10):
        assert steps[0](*batch(dtype, i)).item() == steps[1](*batch(dtype, i)).item()
    for a, b in zip(*map(weights, nets), strict=True):
        assert_array_equal(a, b)


@given(SEEDS, st.floats(0.1, 10))
def test_any_other_length_takes_the_same_steps_to_rounding(seed: int, s: float) -> None:
    nets = [mlp(seed=seed) for _ in range(2)]
    for layer in (nets[1][0], nets[1][2]):
        layer.weight.v.data = s * layer.weight.v.numpy()
    rates = [0.5, 0.5 * s**2]
    optimizers = [optim.SGD(nn.parameter_groups(n, v={"lr": r}), lr=0.5) for n, r in zip(nets, rates, strict=True)]
    x, y = batch(seed=seed)
    for _ in range(10):
        for net, optimizer in zip(nets, optimizers, strict=True):
            step_of(net, optimizer)(x, y)
    for a, b in zip(*map(weights, nets), strict=True):
        assert_allclose(a, b, rtol=1e-10, atol=1e-11)


def test_the_same_rate_on_a_longer_v_takes_other_steps() -> None:
    nets = [mlp() for _ in range(2)]
    nets[1][0].weight.v.data = 2 * nets[1][0].weight.v.numpy()
    for net in nets:
        step_of(net, optim.SGD(net.parameters(), lr=0.5))(*batch())
    assert abs(weights(nets[0])[0] - weights(nets[1])[0]).max() > 1e-3


@given(SEEDS, DTYPES, st.sampled_from([0.5, 0.25, 0.1, 0.3]))
def test_one_step_of_decoupled_decay_on_v_leaves_the_weight_and_changes_what_follows(
    seed: int, dtype: str, share: float
) -> None:
    nets = [mlp(dtype, seed) for _ in range(2)]
    before = weights(nets[0])
    groups = nn.parameter_groups(nets[1], v={"weight_decay": share})[:1]
    decay = optim.AdamW(groups, lr=1.0)
    for p in groups[0]["params"]:
        p.grad = tg.zeros(p.shape, p.dtype)
    decay.step()
    exact = share == 0.5  # then v is halved, which rounds nothing
    for a, b in zip(before, weights(nets[1]), strict=True):
        assert_allclose(b, a, rtol=0 if exact else 4 * np.finfo(dtype).eps, atol=0)
    assert_allclose(nets[1][0].weight.v.numpy(), (1 - share) * nets[0][0].weight.v.numpy(), rtol=1e-6)
    for net in nets:
        step_of(net, optim.SGD(net.parameters(), lr=0.5))(*batch(dtype, seed))
    assert abs(weights(nets[0])[0] - weights(nets[1])[0]).max() > 1e-5


# Decay of the weight itself


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam], ids=["SGD", "Adam"])
def test_decay_of_g_alone_is_a_penalty_on_the_weight_itself(make: Any) -> None:
    decay = 0.3
    nets = [mlp() for _ in range(3)]
    optimizers = [
        make(nn.parameter_groups(nets[0], decay), lr=0.1),
        make(nets[1].parameters(), lr=0.1),
        make(nets[2].parameters(), lr=0.1),
    ]

    def on_the_weight(x: Any, y: Any) -> None:
        """The penalty as plain networks have it: λ/2 Σ w², by the engine."""
        optimizers[2].zero_grad()
        norms = [tg.sum(tg.square(layer.weight())) for layer in nets[2] if isinstance(layer, nn.Linear)]
        (tg.cross_entropy(nets[2](x), y) + decay / 2 * (norms[0] + norms[1])).backward()
        optimizers[2].step()

    steps = [step_of(nets[0], optimizers[0]), step_of(nets[1], optimizers[1], decay), on_the_weight]
    for _ in range(10):
        for step in steps:
            step(*batch())
    for other in nets[1:]:
        for a, b in zip(weights(nets[0]), weights(other), strict=True):
            assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def test_decoupled_decay_of_g_shrinks_the_weight_itself() -> None:
    net = mlp()
    before = weights(net)
    groups = nn.parameter_groups(net, 0.5)
    decay = optim.AdamW(groups, lr=1.0)
    for p in net.parameters():
        p.grad = tg.zeros(p.shape, p.dtype)
    decay.step()
    for a, b in zip(before, weights(net), strict=True):
        assert_array_equal(b, a / 2)  # half of g, times the same direction


def test_the_squared_norm_is_that_of_all_weights() -> None:
    net = mlp()
    expected = sum(float(np.sum(w * w)) for w in weights(net))
    assert nn.squared_norm(net).item() == pytest.approx(expected, rel=1e-14)


# v kept at a length


@given(SEEDS, DTYPES, st.sampled_from([1.0, 0.01, 37.5]), st.integers(-30, 30), st.sampled_from([0, 1, None]))
def test_retraction_gives_v_its_length_and_leaves_the_weight(
    seed: int, dtype: str, length: float, k: int, axis: Any
) -> None:
    net: Any = nn.weight_norm(nn.Sequential(nn.Linear(3, 6, dtype=dtype, rng=seed)), axis=axis)
    part = net[0].weight
    part.v.data = np.ldexp(part.v.numpy(), k)
    before, state = part().detach().numpy(), net.state_dict()
    nn.retract(net, length)
    rest = {0: 1, 1: 0, None: (0, 1)}[axis]
    eps = np.finfo(dtype).eps
    assert_allclose(np.linalg.norm(part.v.numpy().astype(float), axis=rest), length, rtol=2 * eps)
    assert_allclose(part().detach().numpy(), before, rtol=4 * eps)
    assert_array_equal(part.g.numpy(), state["0.weight.g"])
    again = part.v.numpy().copy()
    nn.retract(net, length)
    assert_allclose(part.v.numpy(), again, rtol=4 * eps)  # 2 by which the length was off, as above, and 2 of its own


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_retraction_after_each_step_keeps_v_and_the_effective_rate(compiled: bool) -> None:
    kept, free = mlp(), mlp()
    for net in (kept, free):
        nn.retract(net)
    step = step_of(kept, optim.SGD(kept.parameters(), lr=1.0), after=lambda: nn.retract(kept))
    other = step_of(free, optim.SGD(free.parameters(), lr=1.0))
    for run in (tg.jit(step) if compiled else step, other):
        for i in range(10):
            run(*batch(seed=i))
    for layer in (kept[0], kept[2]):
        assert_allclose(np.linalg.norm(layer.weight.v.numpy(), axis=1), 1, rtol=1e-14)
    assert np.linalg.norm(free[0].weight.v.numpy(), axis=1).min() > 1.0001


def test_compiled_and_eager_retraction_take_the_same_steps() -> None:
    nets = [mlp() for _ in range(2)]
    optimizers = [optim.SGD(nn.parameter_groups(net, 0.01, v={"lr": 0.3}), lr=0.1, momentum=0.9) for net in nets]
    steps = [step_of(n, o, after=lambda n=n: nn.retract(n, 2.0)) for n, o in zip(nets, optimizers, strict=True)]
    compiled = tg.jit(steps[1])
    for i in range(10):
        x, y = batch(seed=i)
        assert compiled(x, y).item() == pytest.approx(steps[0](x, y).item(), rel=1e-11)
    for a, b in zip(*map(weights, nets), strict=True):
        assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    assert sum(map(len, compiled.steps.values())) == 1


# What is refused


def test_a_zero_slice_is_refused_before_any_layer_is_changed() -> None:
    net = mlp()
    net[2].weight.v.data = np.zeros((2, 6))
    before = net.state_dict()
    assert "layer  : 2.weight" in message(ZeroNormError, lambda: nn.retract(net))
    for name, values in net.state_dict().items():
        assert_array_equal(values, before[name])


@pytest.mark.parametrize("function", [nn.parameter_groups, nn.retract, nn.squared_norm])
def test_models_without_weight_normalization_are_refused(function: Any) -> None:
    assert "no layer is weight-normalized" in message(StateError, lambda: function(nn.Linear(2, 2)))
    assert "not a module" in message(DTypeError, lambda: function([tg.ones(2)]))


def test_lengths_that_are_none_are_refused() -> None:
    for bad in (0.0, -1.0, np.inf, np.nan, "a"):
        assert "length" in message(ValueRangeError, lambda bad=bad: nn.retract(mlp(), bad))
    net = nn.weight_norm(nn.Linear(2, 2))
    before = net.weight.v.numpy().copy()
    for bad in (1e39, 1e-45):
        assert "in its dtype" in message(ValueRangeError, lambda bad=bad: nn.retract(net, bad))
    assert_array_equal(net.weight.v.numpy(), before)
