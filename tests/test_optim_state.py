"""Optimizers: what is refused before the first write, and state that is saved, loaded and copied."""

import copy
import math
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from refusals import message
from test_optim import every_optimizer, leaf

import tinygrad_wn as tg
from tinygrad_wn import optim
from tinygrad_wn.errors import DTypeError, GradientError, ShapeError, StateError, ValueRangeError

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
