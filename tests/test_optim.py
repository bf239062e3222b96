"""Optimizers against their formulas in plain NumPy, and which parameters move."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from every_op import kernels_or_definitions
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from refusals import message

import tinygrad_wn as tg
from tinygrad_wn import optim
from tinygrad_wn.errors import GradientError, StateError
from tinygrad_wn.ops.update import adam_update, momentum_update

NUMBERS = st.floats(-4, 4)
RATES = st.floats(0, 1)
DECAYS = st.sampled_from([0.0, 0.01, 0.5])
BETAS = st.floats(0, 0.999)
MAKERS: list[Callable[..., optim.Optimizer]] = [
    lambda params, **o: optim.SGD(params, 0.1, **o),
    lambda params, **o: optim.SGD(params, 0.1, momentum=0.9, **o),
    optim.Adam,
    optim.AdamW,
]
every_optimizer = pytest.mark.parametrize("make", MAKERS, ids=["SGD", "momentum", "Adam", "AdamW"])


def leaf(values: Any, dtype: str = "float64") -> tg.Tensor:
    return tg.tensor(values, dtype, requires_grad=True)


@st.composite
def runs(draw: st.DrawFn) -> tuple[Any, list[Any]]:
    """A start, and the gradients of several steps."""
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=2, max_side=3))
    arrays = hnp.arrays(np.float64, shape, elements=NUMBERS)
    return draw(arrays), draw(st.lists(arrays, min_size=1, max_size=6))


def values_after(make: Callable[[list[tg.Tensor]], optim.Optimizer], start: Any, gradients: list[Any]) -> Any:
    p = leaf(start)
    optimizer = make([p])
    for g in gradients:
        p.grad = tg.tensor(g)
        optimizer.step()
        assert_array_equal(p.grad.numpy(), g)
    return p.numpy()


def close(actual: Any, expected: Any) -> None:
    assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


# The rules


@given(runs(), RATES, st.floats(0, 1), st.booleans(), DECAYS)
def test_sgd_is_its_formula(run: Any, lr: float, momentum: float, nesterov: bool, decay: float) -> None:
    start, gradients = run
    nesterov = nesterov and momentum > 0
    p, m = np.array(start), None
    for g in gradients:
        d = g + decay * p
        m = d if m is None else momentum * m + d  # PyTorch: the buffer starts as the first gradient
        p = p - lr * (d + momentum * m if nesterov else m)
    close(values_after(lambda ps: optim.SGD(ps, lr, momentum, nesterov, decay), start, gradients), p)


@given(runs(), RATES, BETAS, BETAS, st.floats(1e-10, 1e-2), DECAYS, st.booleans())
def test_adam_and_adamw_are_their_formulas(
    run: Any, lr: float, beta1: float, beta2: float, eps: float, decay: float, decoupled: bool
) -> None:
    start, gradients = run
    p, m, s = np.array(start), np.zeros_like(start), np.zeros_like(start)
    for t, given_g in enumerate(gradients, 1):
        g = given_g
        if decoupled:
            p = p * (1 - lr * decay)
        else:
            g = g + decay * p
        m = beta1 * m + (1 - beta1) * g
        s = beta2 * s + (1 - beta2) * g**2
        p = p - lr / (1 - beta1**t) * m / (np.sqrt(s) / np.sqrt(1 - beta2**t) + eps)
    kind = optim.AdamW if decoupled else optim.Adam
    actual = values_after(lambda ps: kind(ps, lr, (beta1, beta2), eps, decay), start, gradients)
    assert_allclose(actual, p, rtol=1e-12, atol=1e-10)


def test_a_few_steps_by_hand() -> None:
    ones = [np.array([1.0])] * 2
    assert values_after(lambda ps: optim.SGD(ps, 0.5), [4.0], ones).tolist() == [3.0]
    assert values_after(lambda ps: optim.SGD(ps, 0.5, 0.5), [4.0], ones).tolist() == [4 - 0.5 - 0.75]
    assert values_after(lambda ps: optim.SGD(ps, 0.5, 0.5, True), [4.0], ones).tolist() == [4 - 0.75 - 0.875]
    assert values_after(lambda ps: optim.SGD(ps, 0.5, weight_decay=0.5), [4.0], ones[:1]).tolist() == [4 - 1.5]
    close(values_after(lambda ps: optim.Adam(ps, 0.5, eps=0.0), [4.0], ones), [3.0])


def test_decay_is_coupled_in_adam_and_decoupled_in_adamw() -> None:
    zero = [np.array([0.0])]
    close(values_after(lambda ps: optim.Adam(ps, 0.5, eps=0.0, weight_decay=0.25), [4.0], zero), [3.5])
    close(values_after(lambda ps: optim.AdamW(ps, 0.5, weight_decay=0.25), [4.0], zero), [3.5])
    close(values_after(lambda ps: optim.Adam(ps, 0.5, eps=0.0, weight_decay=0.25), [8.0], zero), [7.5])
    close(values_after(lambda ps: optim.AdamW(ps, 0.5, weight_decay=0.25), [8.0], zero), [7.0])


def test_the_defaults_are_those_of_pytorch() -> None:
    p = leaf([1.0])
    assert optim.Adam([p]).defaults == {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
    assert optim.AdamW([p]).defaults == {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2}
    assert optim.SGD([p], 0.1).defaults == {"lr": 0.1, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}


@every_optimizer
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_parameters_and_state_keep_their_dtype_whatever_number_an_option_is(make: Any, dtype: str) -> None:
    p = leaf([1.0, 2.0], dtype)
    optimizer = make([p])
    for number in (np.float64, np.float32, int):
        optimizer.param_groups[0]["lr"] = number(1)
        p.grad = tg.ones(2, dtype)
        optimizer.step()
    assert p.dtype == dtype
    assert {x.dtype for state in optimizer.state for name, x in state.items() if name != "step"} <= {np.dtype(dtype)}


@every_optimizer
def test_every_optimizer_finds_the_least_of_a_quadratic(make: Any) -> None:
    p, goal = leaf([3.0, -2.0]), np.array([0.5, 1.5])
    optimizer = make([{"params": [p], "lr": 0.05, "weight_decay": 0.0}])
    for _ in range(500):
        optimizer.zero_grad()
        tg.mse(p, goal, reduction="sum").backward()
        optimizer.step()
    assert_allclose(p.numpy(), goal, atol=1e-3)


# Which parameters move


@every_optimizer
def test_a_parameter_without_a_gradient_stays_and_its_state_is_not_made(make: Any) -> None:
    p, q = leaf([1.0]), leaf([2.0])
    optimizer = make([p, q])
    p.grad = tg.tensor([1.0], "float64")
    optimizer.step()
    assert q.numpy().tolist() == [2.0]
    assert optimizer.state[1] == {}
    assert p.numpy() < 1


def test_steps_are_counted_for_each_parameter() -> None:
    p, q = leaf([1.0]), leaf([1.0])
    optimizer = optim.Adam([p, q], lr=0.5, eps=0.0)
    p.grad = tg.tensor([1.0], "float64")
    optimizer.step()
    q.grad = tg.tensor([1.0], "float64")
    optimizer.step()
    assert [state["step"].item() for state in optimizer.state] == [2, 1]
    close(q.numpy(), [0.5])


def test_plain_sgd_keeps_no_state() -> None:
    p = leaf([1.0])
    optimizer = optim.SGD([p], 0.1)
    p.grad = tg.tensor([1.0], "float64")
    optimizer.step()
    assert optimizer.state == [{}]


def test_each_group_has_its_own_options_and_the_defaults_for_the_rest() -> None:
    p, q, r = leaf([1.0]), leaf([1.0]), leaf([1.0])
    groups = [{"params": [p]}, {"params": q, "lr": 0.5}]
    optimizer = optim.SGD(groups, lr=0.25)
    optimizer.add_param_group({"params": (x for x in [r]), "weight_decay": 1.0})
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.5, 0.25]
    assert groups == [{"params": [p]}, {"params": q, "lr": 0.5}]
    for one in (p, q, r):
        one.grad = tg.tensor([1.0], "float64")
    optimizer.step()
    assert [one.item() for one in (p, q, r)] == [0.75, 0.5, 0.5]


def test_options_may_be_changed_between_steps() -> None:
    p = leaf([1.0])
    optimizer = optim.SGD([p], lr=0.25)
    p.grad = tg.tensor([1.0], "float64")
    optimizer.param_groups[0]["lr"] = 0.5
    optimizer.step()
    optimizer.param_groups[0]["momentum"] = 0.5
    optimizer.step()
    assert p.item() == 0.0


@pytest.mark.parametrize("change", [lambda params: params.append(tg.ones(2, requires_grad=True)), list.clear])
def test_groups_and_states_that_do_not_fit_are_refused(change: Any) -> None:
    p, q = (tg.ones(2, requires_grad=True) for _ in range(2))
    optimizer = tg.optim.SGD([{"params": [p]}, {"params": [q]}], lr=0.1, momentum=0.9)
    change(optimizer.param_groups[0]["params"])
    (p * q).sum().backward()
    with pytest.raises(StateError, match=r"states +: 2\n.*add_param_group"):
        optimizer.step()
    assert_array_equal([p.numpy(), q.numpy()], np.ones((2, 2)))


def test_zero_grad_forgets_the_gradients_of_all_groups() -> None:
    p, q = leaf([1.0]), leaf([1.0])
    p.grad = q.grad = tg.tensor([1.0], "float64")
    optim.SGD([{"params": p}, {"params": q}], lr=0.1).zero_grad()
    assert p.grad is None
    assert q.grad is None


@every_optimizer
def test_a_step_between_forward_and_backward_is_found(make: Any) -> None:
    p = leaf([2.0])
    p.grad = tg.tensor([1.0], "float64")
    loss = tg.sum(p * p)
    make([p]).step()
    assert "was overwritten" in message(GradientError, loss.backward)


@kernels_or_definitions
@pytest.mark.parametrize("kind", ["float32", "float64"])
@given(
    exponents=st.lists(st.integers(-30, 30), min_size=1, max_size=40),
    sign=st.sampled_from([1, -1]),
    beta=st.floats(0, 0.999),
)
def test_state_that_fades_is_0_below_the_smallest_normal_number(
    on: bool, kind: str, exponents: list[int], sign: int, beta: float
) -> None:
    """State of sizes around that number, of which a step without a gradient leaves the share `beta`."""
    least = np.finfo(kind).smallest_normal
    old = (
        sign * np.ldexp(least, np.array(exponents) // 10).astype(kind) * np.linspace(1, 1.9, len(exponents), dtype=kind)
    )
    beta = float(np.dtype(kind).type(beta))
    p, zero, far = np.ones_like(old), np.zeros_like(old), np.abs(old)
    with tg.kernels(on):
        _, rolled = momentum_update(0.1, p, old, zero, momentum=beta)
        moved, first, second = adam_update(0.1, 1, p, old, far, zero, beta1=beta, beta2=beta)
    for new, before in ((rolled, old), (first, old), (second, far)):
        faded = (before * before.dtype.type(beta)).astype(kind)
        assert_array_equal(new.numpy(), np.where(np.abs(faded) < least, 0, faded))
    assert np.isfinite(moved.numpy()).all()


@kernels_or_definitions
@pytest.mark.parametrize("kind", ["float32", "float64"])
@given(
    shares=st.lists(st.floats(0.25, 4), min_size=1, max_size=40),
    sign=st.sampled_from([1, -1]),
    beta2=st.sampled_from([0.0, 0.75, 1 - 2.0**-10]),
)
def test_adam_takes_slopes_for_0_whose_squares_are_too_small(
    on: bool, kind: str, shares: list[float], sign: int, beta2: float
) -> None:
    """The limit is a power of two here, which is itself a slope that counts."""
    least = float(np.sqrt(np.finfo(kind).smallest_normal / np.dtype(kind).type(1 - beta2)))
    slope = (sign * least * np.array([1, *shares])).astype(kind)
    p, half = np.ones_like(slope), np.full_like(slope, 0.5)
    with tg.kernels(on):
        given, taken = (
            adam_update(0.1, 1, p, half * 0, half * 0, g, beta1=0.5, beta2=beta2, eps=1e-30)
            for g in (slope, np.where(np.abs(slope) < least, 0, slope))
        )
    for one, other in zip(given, taken, strict=True):
        assert_array_equal(one.numpy(), other.numpy())
    assert_array_equal(given[1].numpy(), np.where(np.abs(slope) < least, 0, half * slope))
    assert (given[2].numpy()[np.abs(slope) >= least] > 0).all()


class Momentum(tg.optim.Optimizer):
    """A rule as a user writes it, with a tensor and an array for a state."""

    def begin(self, p: Any) -> Any:
        return {"mean": tg.zeros(p.shape, p.dtype), "seen": np.zeros(2)}

    def update(self, p: Any, g: Any, state: Any, group: Any) -> None:
        state["mean"].data = 0.5 * state["mean"] + g
        p.data = p - group["lr"] * state["mean"]


@pytest.mark.parametrize("wrap", [tg.jit, lambda function: function])
def test_a_rule_of_a_user_has_its_state(wrap: Any) -> None:
    w = tg.tensor([0.0], requires_grad=True)
    optimizer = Momentum([w], {"lr": 1.0})

    @wrap
    def step(x: Any) -> None:
        optimizer.zero_grad()
        (w * x).sum().backward()
        optimizer.step()

    found = []
    for k in (1.0, 2.0, 3.0):
        step(tg.tensor([k]))
        found.append(w.item())
    assert found == [-1.0, -3.5, -7.75]
    optimizer.load_state_dict(optimizer.state_dict())
    assert isinstance(optimizer.state[0]["seen"], np.ndarray)
    assert optimizer.state[0]["mean"].item() == 4.25
    optimizer.param_groups[0]["lr"] = 0.0
    step(tg.tensor([1.0]))
    assert w.item() == -7.75


@pytest.mark.parametrize("change", [tg.nn.weight_norm, tg.nn.fold_weight_norm])
def test_a_parameter_that_was_replaced_is_found(change: Any) -> None:
    layer = tg.nn.Linear(2, 3, rng=0)
    if change is tg.nn.fold_weight_norm:
        tg.nn.weight_norm(layer)
    optimizer = tg.optim.SGD(layer.parameters(), lr=0.1)
    change(layer)
    before = layer.bias.numpy().copy()
    layer(np.ones((1, 2), np.float32)).sum().backward()
    with pytest.raises(tg.errors.StateError, match="in no layer any more"):
        optimizer.step()
    np.testing.assert_array_equal(layer.bias.numpy(), before)
    after = tg.optim.SGD(layer.parameters(), lr=0.1)
    after.step()
    assert not np.array_equal(layer.bias.numpy(), before)


def test_a_parameter_that_is_in_a_layer_again_or_still_is_not_replaced() -> None:
    x = np.ones((1, 2), np.float32)
    layer = tg.nn.weight_norm(tg.nn.Linear(2, 3, rng=0))
    optimizer, kept = tg.optim.SGD(layer.parameters(), lr=0.1), layer.weight
    tg.nn.fold_weight_norm(layer)
    layer.weight = kept
    kept.g.requires_grad = False
    layer(x).sum().backward()
    optimizer.step()
    tied = tg.nn.Linear(2, 3, rng=0)
    tied.other = tied.weight
    optimizer = tg.optim.SGD(tied.parameters(), lr=0.1)
    tg.nn.weight_norm(tied)
    tied(x).sum().backward()
    optimizer.step()
