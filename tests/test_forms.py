"""The forms of weight normalization: g or its logarithm as the parameter, v or g fixed."""

import copy
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from refusals import message
from training import step_of

import tinygrad_wn as tg
from tinygrad_wn import nn, optim
from tinygrad_wn.errors import StateError, ValueRangeError

SEEDS = st.integers(0, 2**32)
DTYPES = st.sampled_from(["float32", "float64"])
AXES = st.sampled_from([0, 1, None, (0, 1)])
FORMS: list[dict[str, Any]] = [
    {"log_scale": log, "train_v": v, "train_g": g}
    for log in (False, True)
    for v in (False, True)
    for g in (False, True)
]


def mlp(dtype: str = "float64", seed: int = 0, axis: Any = 0, **form: Any) -> Any:
    layers = [nn.Linear(3, 4, dtype=dtype, rng=seed), nn.Tanh(), nn.Linear(4, 2, dtype=dtype, rng=seed + 1)]
    return nn.weight_norm(nn.Sequential(*layers), axis=axis, **form)


def batch(dtype: str = "float64", seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((9, 3)).astype(dtype), rng.integers(0, 2, 9)


# The logarithm of g


@given(SEEDS, DTYPES, AXES)
def test_with_the_logarithm_the_network_computes_the_same_and_keeps_s(seed: int, dtype: str, axis: Any) -> None:
    plain, log = mlp(dtype, seed, axis), mlp(dtype, seed, axis, log_scale=True)
    assert list(log.state_dict())[:3] == ["0.weight.v", "0.weight.s", "0.bias"]
    eps = np.finfo(dtype).eps
    for a, b in ((plain[0].weight, log[0].weight), (plain[2].weight, log[2].weight)):
        assert_array_equal(b.scale.numpy(), np.log(a.g.numpy()))
        assert_allclose(b.g.detach().numpy(), a.g.numpy(), rtol=8 * eps)
        assert_allclose(b().detach().numpy(), a().detach().numpy(), rtol=10 * eps)
    x, _ = batch(dtype, seed)
    assert_allclose(log(x).detach().numpy(), plain(x).detach().numpy(), rtol=1e-4, atol=100 * eps)


@given(SEEDS, AXES)
def test_the_gradient_of_s_is_g_times_that_of_g_and_that_of_v_is_the_same(seed: int, axis: Any) -> None:
    nets = [mlp(seed=seed, axis=axis, log_scale=log) for log in (False, True)]
    for net in nets:
        tg.cross_entropy(net(batch(seed=seed)[0]), batch(seed=seed)[1]).backward()
    for k in (0, 2):
        plain, log = (net[k].weight for net in nets)
        assert_allclose(log.scale.grad.numpy(), (plain.g * plain.scale.grad).detach().numpy(), rtol=1e-9, atol=1e-13)
        assert_allclose(log.v.grad.numpy(), plain.v.grad.numpy(), rtol=1e-9, atol=1e-13)


def test_g_stays_above_zero_whatever_the_step() -> None:
    for log in (False, True):
        net = mlp(log_scale=log)
        for k in (0, 2):
            net[k].weight.scale.grad = tg.full(net[k].weight.scale.shape, 3.0, "float64")
        optim.SGD([net[k].weight.scale for k in (0, 2)], lr=10.0).step()
        assert all(np.all((net[k].weight.g.detach().numpy() > 0) == log) for k in (0, 2))


def test_a_negative_g_has_no_logarithm() -> None:
    for bad in (0.0, -1.0, np.nan):
        assert "above 0" in message(ValueRangeError, lambda bad=bad: nn.WeightNorm([[1.0]], [[bad]], log_scale=True))
    weight = nn.WeightNorm([[3.0, 4.0]], [[5.0]], log_scale=True)
    message(ValueRangeError, lambda: weight.stretch([[-1.0]]))
    weight.stretch([[10.0]])
    assert_allclose(weight().detach().numpy(), [[6, 8]], rtol=1e-6)
    assert repr(weight) == "WeightNorm(axis=0, log_scale=True)"


def test_decay_of_the_weight_is_a_penalty_and_decay_of_s_is_refused() -> None:
    net = mlp(log_scale=True)
    assert "squared_norm" in message(ValueRangeError, lambda: nn.parameter_groups(net, 0.1))
    assert [len(one["params"]) for one in nn.parameter_groups(net)] == [2, 2, 2]
    (0.3 / 2 * nn.squared_norm(net)).backward()
    g = net[0].weight.g.detach().numpy()
    assert_allclose(net[0].weight.scale.grad.numpy(), 0.3 * g * g, rtol=1e-13)
    assert nn.squared_norm(net).item() == pytest.approx(nn.squared_norm(mlp()).item(), rel=1e-13)


def test_data_init_retraction_recorder_and_folding_know_the_logarithm() -> None:
    x, y = batch()
    net, direct = (nn.data_init(mlp(log_scale=log), x, rng=0) for log in (True, False))
    assert_allclose(net[0].weight.g.detach().numpy(), direct[0].weight.g.numpy(), rtol=1e-13)
    t = net[0](x).detach().numpy()
    assert_allclose(t.std(axis=0), 1, rtol=1e-10)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    recorder = tg.NormRecorder(net, optimizer, 1)
    g = net[0].weight.g.detach().numpy().ravel()
    step_of(net, optimizer)(x, y)
    assert_allclose(recorder.table()["g"][:4], g, rtol=1e-14)
    before = net(x).detach().numpy()
    nn.retract(net)
    assert_allclose(net(x).detach().numpy(), before, rtol=1e-12, atol=1e-14)
    assert_allclose(nn.fold_weight_norm(net)(x).detach().numpy(), before, rtol=1e-12, atol=1e-14)


def test_pytorch_is_given_g_and_gives_g() -> None:
    net, other, direct = mlp(log_scale=True), mlp(seed=5, log_scale=True), mlp(seed=5)
    state = tg.interop.pytorch_state(net)
    assert_array_equal(state["0.parametrizations.weight.original0"], net[0].weight.g.detach().numpy())
    for one in (other, direct):
        tg.interop.load_pytorch_state(one, state)
        assert_allclose(one[0].weight.g.detach().numpy(), net[0].weight.g.detach().numpy(), rtol=1e-15)
    state["0.parametrizations.weight.original0"][1] = -1
    before = other.state_dict()
    text = message(StateError, lambda: tg.interop.load_pytorch_state(other, state))
    assert "'0.parametrizations.weight.original0' : g must be above 0" in text
    assert all(np.array_equal(x, before[name]) for name, x in other.state_dict().items())


# What is fixed


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_only_what_is_trained_is_a_parameter_and_moves(form: Any) -> None:
    net = mlp(**form)
    names = [name for name, _ in net.named_parameters()]
    assert ("0.weight.v" in names) == form["train_v"]
    assert (f"0.weight.{'s' if form['log_scale'] else 'g'}" in names) == form["train_g"]
    before = net.state_dict()
    step_of(net, optim.SGD(net.parameters(), lr=0.1))(*batch())
    for name, values in net.state_dict().items():
        assert np.array_equal(values, before[name]) == (name not in names)


@pytest.mark.parametrize("form", [FORMS[i] for i in (1, 2, 4, 7)], ids=str)
def test_compiled_steps_of_every_form_equal_eager_ones(form: Any) -> None:
    nets = [mlp(**form) for _ in range(2)]
    steps = [step_of(net, optim.SGD(net.parameters(), lr=0.1, momentum=0.9)) for net in nets]
    compiled = tg.jit(steps[1])
    for i in range(4):
        assert compiled(*batch(seed=i)).item() == pytest.approx(steps[0](*batch(seed=i)).item(), rel=1e-12)
    for a, b in zip(*(net.state_dict().values() for net in nets), strict=True):
        assert_allclose(a, b, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("axis", [0, None, (0, 1)], ids=str)
def test_copies_and_files_keep_the_form(form: Any, axis: Any) -> None:
    net = mlp("float32", axis=axis, **form)
    with tempfile.TemporaryDirectory() as folder:
        tg.save(net, Path(folder) / "net")
        copies = [tg.load(Path(folder) / "net"), copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    for one in copies:
        assert repr(one) == repr(net)
        assert [name for name, _ in one.named_parameters()] == [name for name, _ in net.named_parameters()]
        for name, values in net.state_dict().items():
            assert_array_equal(one.state_dict()[name], values)


def test_a_weight_of_which_nothing_is_trained_folds_into_one_that_is_not() -> None:
    for log in (False, True):
        for v, g in ((False, False), (True, False), (False, True)):
            layer: Any = nn.fold_weight_norm(mlp(log_scale=log, train_v=v, train_g=g))[0]
            assert layer.weight.requires_grad == (v or g)
