"""Optimizers against their formulas in plain NumPy, schedules, clipping, and what is refused before the first write."""

import copy
import math
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal

import tinygrad_wn as tg
from tinygrad_wn import optim
from tinygrad_wn.errors import DTypeError, GradientError, ShapeError, StateError, ValueRangeError

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


def message(kind: type[Exception], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    return str(caught.value)


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
    assert {x.dtype for state in optimizer.state for x in state.values() if isinstance(x, tg.Tensor)} <= {
        np.dtype(dtype)
    }


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
    assert [state["step"] for state in optimizer.state] == [2, 1]
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


# Checked before the first write


def before_and_after(optimizer: optim.Optimizer, kind: type[Exception]) -> str:
    params = [p for group in optimizer.param_groups for p in group["params"]]
    values = [p.numpy().copy() for p in params]
    states = optimizer.state_dict()
    text = message(kind, optimizer.step)
    assert all(np.array_equal(p.numpy(), old) for p, old in zip(params, values, strict=True))
    assert optimizer.state_dict().keys() == states.keys()
    return text


@every_optimizer
@pytest.mark.parametrize(
    ("grad", "kind", "fact"),
    [
        (tg.ones((2, 1), "float64"), ShapeError, "float64 [2, 1]"),
        (tg.ones(1, "float64"), ShapeError, "float64 [1]"),
        (tg.ones(2, "float32"), DTypeError, "float32 [2]"),
        (np.ones(2), DTypeError, "not a tensor"),
    ],
    ids=["(2, 1)", "(1,)", "float32", "array"],
)
def test_a_gradient_that_does_not_fit_is_found_before_anything_is_written(
    make: Any, grad: Any, kind: type[Exception], fact: str
) -> None:
    p, q = leaf([1.0, 1.0]), leaf([2.0, 2.0])
    optimizer = make([{"params": p}, {"params": q}])
    p.grad, q.grad = tg.ones(2, "float64"), grad
    text = before_and_after(optimizer, kind)
    assert "parameter 0 of group 1" in text
    assert fact in text


@every_optimizer
def test_an_option_that_went_out_of_range_is_found_before_anything_is_written(make: Any) -> None:
    p, q = leaf([1.0]), leaf([2.0])
    optimizer = make([{"params": p}, {"params": q}])
    p.grad = q.grad = tg.ones(1, "float64")
    optimizer.param_groups[1]["lr"] = -1.0
    assert "lr must be" in before_and_after(optimizer, ValueRangeError)


@every_optimizer
@pytest.mark.parametrize("name", ["lr", "weight_decay"])
@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf, "0.1", None], ids=repr)
def test_options_out_of_range_are_refused(make: Any, name: str, bad: Any) -> None:
    text = message(ValueRangeError, lambda: make([{"params": leaf([1.0]), name: bad}]))
    assert f"{name} must be a finite number of at least 0" in text
    assert repr(bad) in text


@pytest.mark.parametrize(
    ("kind", "options", "fact"),
    [
        (optim.SGD, {"lr": -0.1}, "lr"),
        (optim.SGD, {"lr": 0.1, "momentum": -0.1}, "momentum"),
        (optim.SGD, {"lr": 0.1, "nesterov": True}, "nesterov needs momentum"),
        (optim.Adam, {"eps": -1.0}, "eps"),
        (optim.Adam, {"betas": (1.0, 0.9)}, "betas[0]"),
        (optim.AdamW, {"betas": (0.9, 1.0)}, "AdamW: betas[1]"),
        (optim.Adam, {"betas": (-0.1, 0.9)}, "betas[0]"),
        (optim.Adam, {"betas": (0.9,)}, "two numbers"),
        (optim.Adam, {"betas": 0.9}, "two numbers"),
    ],
)
def test_options_of_one_kind_of_optimizer_are_checked(kind: Any, options: Any, fact: str) -> None:
    assert fact in message(ValueRangeError, lambda: kind([leaf([1.0])], **options))


@every_optimizer
def test_parameters_that_cannot_be_updated_are_refused(make: Any) -> None:
    p = leaf([1.0])
    net = tg.nn.Sequential(tg.nn.Linear(1, 1))
    empty: list[Any] = [[], (), iter([]), [{"params": []}]]
    for params in empty:
        assert "there are no parameters" in message(ValueRangeError, partial(make, params))
    wrong: list[Any] = [[p, 1.0], net, tg.nn.Linear(1, 1), None, net.named_parameters(), [{"params": p}, leaf([2.0])]]
    for params in wrong:
        assert "model.parameters()" in message(DTypeError, partial(make, params))
    assert "is computed" in message(GradientError, lambda: make([p, p * 2]))
    for params in ([p, p], [{"params": p}, {"params": [p]}]):
        assert "given twice" in message(ValueRangeError, partial(make, params))
    assert "learning_rate" in message(ValueRangeError, lambda: make([{"params": p, "learning_rate": 0.1}]))
    assert "needs params" in message(ValueRangeError, lambda: make([{"lr": 0.1}]))


def test_one_tensor_is_a_list_of_one() -> None:
    p = leaf([[1.0], [2.0]])
    assert optim.SGD(p, 0.1).param_groups[0]["params"] == [p]


def test_a_group_that_is_refused_is_not_added() -> None:
    p, q = leaf([1.0]), leaf([1.0])
    optimizer = optim.SGD([p], 0.1)
    message(ValueRangeError, lambda: optimizer.add_param_group({"params": q, "lr": -1.0}))
    assert len(optimizer.param_groups) == len(optimizer.state) == 1


# State in and out


def trained(make: Any, steps: int = 3) -> tuple[list[tg.Tensor], optim.Optimizer]:
    params = [leaf([1.0, 2.0]), leaf([[3.0]], "float32"), leaf([4.0])]
    optimizer = make([{"params": params[:2]}, {"params": params[2:], "lr": 0.5}])
    run(params, optimizer, steps)
    return params, optimizer


def run(params: list[tg.Tensor], optimizer: optim.Optimizer, steps: int) -> None:
    for i in range(steps):
        for p in params[:2]:
            p.grad = tg.tensor(np.sin(p.numpy() + i))
        optimizer.step()


@every_optimizer
def test_training_goes_on_from_a_saved_state_as_if_it_had_not_stopped(make: Any, tmp_path: Any) -> None:
    params, optimizer = trained(make)
    tg.save(optimizer.state_dict(), tmp_path / "state.npz")
    new = [leaf(p, str(p.dtype)) for p in params]
    other = make([{"params": new[:2], "lr": 0.7, "weight_decay": 0.1}, {"params": new[2:]}])
    other.load_state_dict(tg.load(tmp_path / "state.npz"))
    assert [g | {"params": 0} for g in other.param_groups] == [g | {"params": 0} for g in optimizer.param_groups]
    run(params, optimizer, 3)
    run(new, other, 3)
    for p, q in zip(params, new, strict=True):
        assert_array_equal(p.numpy(), q.numpy())


@every_optimizer
def test_saved_state_is_a_copy(make: Any) -> None:
    _, optimizer = trained(make)
    before = optimizer.state_dict()
    for array in optimizer.state_dict().values():
        array[...] = 0
    after = optimizer.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_state_that_does_not_fit_is_refused_with_all_that_is_wrong() -> None:
    _, optimizer = trained(optim.Adam)
    before = optimizer.state_dict()
    state = optimizer.state_dict()
    del state["group.0.lr"], state["state.0.square"]
    state["state.1.mean"] = state["state.1.mean"].astype("float64")
    state["state.0.mean"] = np.ones(3)
    state["group.1.betas"] = np.ones(3)
    state["state.9.mean"] = np.ones(3)
    state["group.0.strange"] = np.ones(3)
    text = message(StateError, lambda: optimizer.load_state_dict(state))
    lines = [line.strip() for line in text.splitlines()[1:-1]]
    assert sorted(line.split()[0] for line in lines) == [
        *("group.0.lr", "group.0.strange", "group.1.betas"),
        *("state.0.mean", "state.0.square", "state.1.mean", "state.9.mean"),
    ]
    assert "optimizer float32 [1, 1], state float64 [1, 1]" in text
    after = optimizer.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_saved_option_out_of_range_is_refused() -> None:
    _, optimizer = trained(optim.Adam)
    state = optimizer.state_dict()
    state["group.1.lr"] = np.array(-1.0)
    state["group.0.lr"] = np.array(0.5)
    message(ValueRangeError, lambda: optimizer.load_state_dict(state))
    assert optimizer.param_groups[0]["lr"] == 1e-3


@pytest.mark.parametrize("how", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
@every_optimizer
def test_a_copy_of_parameters_and_optimizer_goes_on_the_same(make: Any, how: Callable[[Any], Any]) -> None:
    params, optimizer = trained(make)
    new, other = how((params, optimizer))
    run(params, optimizer, 2)
    run(new, other, 2)
    for p, q in zip(params, new, strict=True):
        assert_array_equal(p.numpy(), q.numpy())


# Schedules


def rates(make: Callable[[optim.Optimizer], optim.Schedule], first: float, steps: int) -> list[float]:
    """Rates before the first step and after each, of the second of two groups."""
    optimizer = optim.SGD([{"params": leaf([1.0]), "lr": 123.0}, {"params": leaf([1.0])}], lr=first)
    schedule = make(optimizer)
    found = [optimizer.param_groups[1]["lr"]]
    for _ in range(steps):
        schedule.step()
        found.append(optimizer.param_groups[1]["lr"])
    assert schedule.count == steps
    return found


@given(st.floats(0, 10), st.integers(1, 5), st.floats(0, 2))
def test_step_and_constant_rates_are_their_formulas(first: float, every: int, factor: float) -> None:
    assert rates(optim.Constant, first, 9) == [first] * 10
    expected, rate = [], first
    for t in range(12):
        if t and t % every == 0:
            rate *= factor
        expected.append(rate)
    assert_allclose(rates(lambda o: optim.Step(o, every, factor), first, 11), expected, rtol=1e-12, atol=1e-300)


@given(st.floats(0, 10), st.floats(0, 10), st.integers(1, 12))
def test_linear_and_cosine_rates_are_their_formulas_and_end_at_the_final_rate(
    first: float, final: float, steps: int
) -> None:
    t = np.minimum(np.arange(16), steps) / steps
    line = rates(lambda o: optim.Linear(o, steps, final), first, 15)
    wave = rates(lambda o: optim.Cosine(o, steps, final), first, 15)
    assert_allclose(line, first + (final - first) * t, rtol=1e-12, atol=1e-12)
    assert_allclose(wave, final + (first - final) * (1 + np.cos(np.pi * t)) / 2, rtol=1e-12, atol=1e-12)
    assert line[steps:] == wave[steps:] == [final] * (16 - steps)
    assert line[0] == wave[0] == first


def test_the_final_rate_is_zero_by_default() -> None:
    assert rates(lambda o: optim.Linear(o, 4), 4.0, 5) == [4.0, 3.0, 2.0, 1.0, 0.0, 0.0]
    assert rates(lambda o: optim.Cosine(o, 2), 4.0, 3)[2:] == [0.0, 0.0]


def test_every_group_keeps_its_own_first_rate() -> None:
    optimizer = optim.SGD([{"params": leaf([1.0]), "lr": 8.0}, {"params": leaf([1.0]), "lr": 2.0}], lr=1.0)
    optim.Linear(optimizer, 4).step()
    assert [group["lr"] for group in optimizer.param_groups] == [6.0, 1.5]


@pytest.mark.parametrize(
    ("kind", "options", "fact"),
    [
        (optim.Step, (0, 0.5), "Step: every"),
        (optim.Step, (1.5, 0.5), "Step: every"),
        (optim.Step, (True, 0.5), "Step: every"),
        (optim.Step, (1, -0.5), "Step: factor"),
        (optim.Linear, (0,), "Linear: steps"),
        (optim.Cosine, (-1,), "Cosine: steps"),
        (optim.Cosine, (1, -1.0), "Cosine: final"),
        (optim.Linear, (1, math.nan), "Linear: final"),
    ],
)
def test_options_of_schedules_are_checked(kind: Any, options: Any, fact: str) -> None:
    assert fact in message(ValueRangeError, lambda: kind(optim.SGD([leaf([1.0])], 0.1), *options))


def test_a_schedule_needs_an_optimizer() -> None:
    wrong: Any = [leaf([1.0])]
    assert "not an optimizer" in message(DTypeError, lambda: optim.Constant(wrong))


# Clipping

GRADIENTS = st.lists(
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3), elements=NUMBERS),
    min_size=1,
    max_size=4,
)


def with_gradients(arrays: list[Any], dtype: str = "float64") -> list[tg.Tensor]:
    params = [leaf(np.zeros_like(a), dtype) for a in arrays]
    for p, a in zip(params, arrays, strict=True):
        p.grad = tg.tensor(a, dtype)
    return params


@given(GRADIENTS, st.floats(0.01, 10), st.integers(-300, 300))
def test_gradients_are_shrunk_by_one_factor_to_the_norm_at_any_scale(
    arrays: list[Any], max_norm: float, power: int
) -> None:
    arrays = [np.where(abs(a) < 0.01, 0, a) for a in arrays]
    big = [np.ldexp(a, power) for a in arrays]
    params = with_gradients([*big, np.ones(2)])
    params[-1].grad = None
    held = [p.grad for p in params]
    total = math.sqrt(sum((a * a).sum() for a in arrays))
    limit = math.ldexp(max_norm, power)
    assert_allclose(optim.clip_grad_norm(params, limit), math.ldexp(total, power), rtol=1e-14)
    factor = min(1.0, max_norm / total) if total else 1.0
    for p, old, a in zip(params, held, big, strict=False):
        assert p.grad is not None
        assert old is not None
        assert_allclose(p.grad.numpy(), a * factor, rtol=1e-14)
        assert_array_equal(old.numpy(), a)
        if factor == 1.0:
            assert p.grad is old
        else:
            assert p.grad is not old
    assert params[-1].grad is None


def test_float32_gradients_whose_squares_overflow_are_clipped_in_float64() -> None:
    params = with_gradients([np.full((2, 2), 1e30)], "float32")
    assert optim.clip_grad_norm(params, 2.0) == pytest.approx(2e30, rel=1e-7)
    assert params[0].grad is not None
    assert params[0].grad.dtype == np.float32
    assert_array_equal(params[0].grad.numpy(), np.ones((2, 2)))


def test_the_norm_of_float32_gradients_has_the_digits_and_the_range_of_float64() -> None:
    assert optim.clip_grad_norm(with_gradients([np.ones(3)], "float32"), 10.0) == pytest.approx(math.sqrt(3), rel=1e-15)
    params = with_gradients([np.full(4, 3e38)], "float32")
    assert optim.clip_grad_norm(params, 6.0) == pytest.approx(6e38, rel=1e-7)
    assert params[0].grad is not None
    assert_allclose(params[0].grad.numpy(), [3.0] * 4, rtol=1e-6)


def test_no_digits_are_lost_when_the_factor_is_next_to_zero() -> None:
    params = with_gradients([np.array([3e200, 4e200])])
    optim.clip_grad_norm(params, 5e-120)
    assert params[0].grad is not None
    assert_allclose(params[0].grad.numpy(), [3e-120, 4e-120], rtol=1e-14)


def test_an_infinite_limit_only_measures() -> None:
    params = with_gradients([np.array([3.0, 4.0])])
    assert optim.clip_grad_norm(params, math.inf) == 5.0
    assert params[0].grad is not None
    assert params[0].grad.numpy().tolist() == [3.0, 4.0]


def test_no_gradient_at_all_has_norm_zero() -> None:
    assert optim.clip_grad_norm([leaf([1.0])], 1.0) == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_refused_and_nothing_changes(bad: float) -> None:
    params = with_gradients([np.array([30.0, 4.0]), np.array([1.0, bad, 1.0])])
    held = [p.grad for p in params]
    assert "not finite" in message(GradientError, lambda: optim.clip_grad_norm(params, 1.0))
    assert all(p.grad is old for p, old in zip(params, held, strict=True))


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
def test_a_limit_that_is_not_above_zero_is_refused(bad: float) -> None:
    assert "must be above 0" in message(ValueRangeError, lambda: optim.clip_grad_norm([leaf([1.0])], bad))


def test_gradients_and_parameters_that_do_not_fit_are_refused() -> None:
    p, q = with_gradients([np.array([30.0]), np.array([1.0])])
    held, q.grad = p.grad, tg.ones(3, "float64")
    assert "float64 [3]" in message(ShapeError, lambda: optim.clip_grad_norm([p, q], 1.0))
    assert p.grad is held
    assert "given twice" in message(ValueRangeError, lambda: optim.clip_grad_norm([p, p], 1.0))
    assert "no parameters" in message(ValueRangeError, lambda: optim.clip_grad_norm([], 1.0))
