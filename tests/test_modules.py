"""Modules: where state is found, what copies share, what loading refuses."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.testing import assert_array_equal
from refusals import message

import tinygrad_wn as tg
from tinygrad_wn import nn
from tinygrad_wn.errors import DTypeError, StateError


def parameter(*values: float) -> tg.Tensor:
    return tg.tensor(list(values), requires_grad=True)


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
