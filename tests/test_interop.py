"""States under PyTorch's names, in three spellings, and safetensors files: bit for bit, or refused with all reasons."""

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from refusals import message, unchanged

import tinygrad_wn as tg
from tinygrad_wn import nn
from tinygrad_wn.errors import DTypeError, StateError, ValueRangeError, ZeroNormError
from tinygrad_wn.interop import load_pytorch_state, load_safetensors, pytorch_state, save_safetensors

SPELLINGS = ["parametrizations", "weight_g", "folded"]
DTYPES = st.sampled_from(["float32", "float64"])
SEEDS = st.integers(0, 2**32)
NAMES = {
    "parametrizations": [
        *("0.parametrizations.weight.original1", "0.parametrizations.weight.original0", "0.bias"),
        *("1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"),
        *("3.parametrizations.weight.original1", "3.parametrizations.weight.original0", "3.bias"),
    ],
    "weight_g": [
        *("0.weight_v", "0.weight_g", "0.bias"),
        *("1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"),
        *("3.weight_v", "3.weight_g", "3.bias"),
    ],
    "folded": [
        *("0.weight", "0.bias"),
        *("1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"),
        *("3.weight", "3.bias"),
    ],
}


def network(seed: int = 0, normalized: bool = True, axis: Any = 0, dtype: str = "float32") -> Any:
    layers: list[nn.Module] = [nn.Linear(3, 4, dtype=dtype, rng=seed), nn.BatchNorm1d(4, dtype=dtype), nn.Tanh()]
    net: Any = nn.Sequential(*layers, nn.Linear(4, 2, dtype=dtype, rng=seed + 1))
    net(np.random.default_rng(seed).standard_normal((5, 3)).astype(dtype))
    if normalized:
        nn.weight_norm(net[0], axis=axis)
        nn.weight_norm(net[3], axis=axis)
        for layer in (net[0], net[3]):
            layer.weight.g.data = 1.5 * layer.weight.g.numpy()
    return net


def same_state(a: nn.Module, b: nn.Module) -> None:
    assert list(a.state_dict()) == list(b.state_dict())
    for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
        assert x.dtype == y.dtype
        assert_array_equal(x, y)


# PyTorch's names


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_names_are_those_of_pytorch(spelling: str) -> None:
    net = network()
    state = pytorch_state(net, spelling)
    assert list(state) == NAMES[spelling]
    if spelling == "folded":
        assert_array_equal(state["0.weight"], tg.weight_norm(net[0].weight.v, net[0].weight.g).detach().numpy())
    else:
        assert_array_equal(state[NAMES[spelling][0]], net[0].weight.v.numpy())
        assert_array_equal(state[NAMES[spelling][1]], net[0].weight.g.numpy())
    for array in state.values():
        array[...] = 0
    assert np.all(net[0].weight.v.numpy() != 0)


def test_a_layer_alone_has_names_without_a_way() -> None:
    layer = nn.weight_norm(nn.Linear(3, 2, bias=False))
    assert list(pytorch_state(layer)) == ["parametrizations.weight.original1", "parametrizations.weight.original0"]
    assert list(pytorch_state(layer, "weight_g")) == ["weight_v", "weight_g"]
    assert list(pytorch_state(layer, "folded")) == ["weight"]


def test_one_g_for_the_whole_weight_is_a_number_in_pytorch() -> None:
    for axis in (None, ()):
        net, other = network(axis=axis), network(5, axis=axis)
        state = pytorch_state(net, "weight_g")
        assert state["0.weight_g"].shape == ()
        load_pytorch_state(other, state)
        same_state(net, other)
        plain = network(5, normalized=False)
        load_pytorch_state(plain, state)
        assert_array_equal(plain[0].weight.numpy(), net[0].weight().detach().numpy())


@given(
    SEEDS, st.sampled_from(SPELLINGS[:2]), st.sampled_from([0, 1, -1, None]), st.sampled_from(["float32", "float64"])
)
def test_a_state_comes_back_bit_for_bit(seed: int, spelling: str, axis: Any, dtype: str) -> None:
    net, other = network(seed, axis=axis, dtype=dtype), network(seed + 7, axis=axis, dtype=dtype)
    kept = other.parameters()
    load_pytorch_state(other, pytorch_state(net, spelling))
    same_state(net, other)
    assert all(p is q for p, q in zip(kept, other.parameters(), strict=True))


@given(SEEDS, st.sampled_from(SPELLINGS), st.booleans(), st.booleans(), st.sampled_from([0, 1, None]))
def test_every_spelling_fits_every_model_and_keeps_the_function(
    seed: int, spelling: str, normalized: bool, to_normalized: bool, axis: Any
) -> None:
    net, other = network(seed, normalized, axis), network(seed + 7, to_normalized, axis)
    load_pytorch_state(other, pytorch_state(net, spelling))
    x = np.random.default_rng(seed).standard_normal((6, 3)).astype("float32")
    assert_allclose(other.eval()(x).detach().numpy(), net.eval()(x).detach().numpy(), rtol=1e-4, atol=1e-5)
    if not to_normalized:
        same_state(other, nn.fold_weight_norm(net) if normalized else net)


def test_spellings_may_differ_from_name_to_name_and_tensors_come_in_too() -> None:
    net, other = network(), network(7)
    old, new = pytorch_state(net, "weight_g"), pytorch_state(net)
    mixed = {name: x for name, x in old.items() if name.startswith("0")}
    mixed |= {name: tg.tensor(x) for name, x in new.items() if not name.startswith("0")}
    load_pytorch_state(other, mixed)
    same_state(net, other)


class Named(nn.Module):
    """Parameters whose own names look like a spelling."""

    def __init__(self) -> None:
        self.shift_g = tg.ones(2, requires_grad=True)
        self.parametrizations = {"weight": {"original0": tg.zeros(3, requires_grad=True)}}


def test_parameters_that_are_named_so_are_themselves() -> None:
    net, other = Named(), Named()
    net.shift_g.data = [3.0, 4.0]
    load_pytorch_state(other, pytorch_state(net))
    same_state(net, other)


@pytest.mark.parametrize("spelling", SPELLINGS)
@given(data=st.data())
def test_all_that_does_not_fit_is_named_at_once_and_nothing_is_changed(spelling: str, data: st.DataObject) -> None:
    net = network()
    state: dict[str, Any] = {name: x + x.dtype.type(1) for name, x in pytorch_state(net, spelling).items()}
    how = st.sampled_from(["drop", "shape", "dtype"])
    spoil = data.draw(st.dictionaries(st.sampled_from(sorted(state)), how, min_size=1))
    for name, one in spoil.items():
        array = state.pop(name)
        if one != "drop":
            state[name] = np.stack([array, array]) if one == "shape" else array.astype("float16")
    state["strange"] = np.ones(1)
    text = unchanged(net, lambda: load_pytorch_state(net, state), StateError)
    assert "'strange'" in text
    for name in pytorch_state(net, spelling):
        path = name.removesuffix("_g").removesuffix("_v")
        part = f"original{'gv'.index(name[-1])}" if path != name else ""
        shown = name if not part else path.replace("weight", f"parametrizations.weight.{part}")
        missing = spelling == "folded" and name in ("0.weight", "3.weight") and spoil.get(name) == "drop"
        named = f"'{shown}'" in text or (missing and f"{name[0]}.parametrizations.weight.original1" in text)
        assert named == (name in spoil), (name, text)


def test_a_row_of_zeros_hides_nothing_else_that_does_not_fit() -> None:
    net = network()
    state = pytorch_state(net, "folded")
    name = next(one for one in state if one.endswith("weight"))
    state[name][0] = 0
    assert f"layer  : {name}" in unchanged(net, lambda: load_pytorch_state(net, state), ZeroNormError)
    other = next(one for one in state if one.endswith("bias"))
    state[other] = np.ones(99, np.float32)
    told = unchanged(net, lambda: load_pytorch_state(net, state), StateError)
    assert all(text in told for text in (repr(name), "norm 0", repr(other), "[99]"))


def test_a_plain_model_names_what_is_missing_of_v_and_g_too() -> None:
    net, state = network(normalized=False), pytorch_state(network(), "weight_g")
    del state["0.weight_g"]
    state["3.weight_g"] = np.ones((5, 1), "float32")
    text = unchanged(net, lambda: load_pytorch_state(net, state), StateError)
    assert "'0.parametrizations.weight.original0' : missing in the state" in text
    assert re.search(r"'3.weight' +: weight_norm: g must have shape", text)


def test_a_weight_that_is_in_no_layer_is_refused() -> None:
    net = network()
    assert "in no layer" in message(DTypeError, lambda: tg.interop.pytorch_state(net[0].weight))
    assert "in no layer" in message(DTypeError, lambda: tg.interop.load_pytorch_state(net[0].weight, {}))


def test_what_is_given_in_two_spellings_is_refused() -> None:
    net = network()
    for more in ("weight_g", "folded"):
        for order in (1, -1):
            states = [pytorch_state(net), pytorch_state(net, more)][::order]
            text = unchanged(net, lambda states=states: load_pytorch_state(net, states[0] | states[1]), StateError)
            assert "given twice" in text


def test_mistakes_are_explained() -> None:
    net = network()
    assert "known : parametrizations, weight_g, folded" in message(ValueRangeError, lambda: pytorch_state(net, "g"))
    assert "one axis, or none" in message(StateError, lambda: pytorch_state(network(axis=(0, 1))))
    assert list(pytorch_state(network(axis=(0, 1)), "folded")) == NAMES["folded"]
    given_: Any = [1]
    message(DTypeError, lambda: load_pytorch_state(net, given_))
    message(DTypeError, lambda: pytorch_state(given_))
    zero = pytorch_state(net, "folded")
    zero["0.weight"][1] = 0
    assert "[1, :]" in unchanged(net, lambda: load_pytorch_state(net, zero), ZeroNormError)


# Files


def there_and_back(state: Any, metadata: Any = None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        save_safetensors(state, path, metadata)
        assert list(Path(folder).iterdir()) == [path]
        return load_safetensors(path)


@given(
    st.dictionaries(
        st.text("abc.é", min_size=1, max_size=5),
        hnp.arrays(
            st.sampled_from(["f2", "f4", "f8", "i1", "i4", "i8", "u1", "?", ">f4"]),
            hnp.array_shapes(min_dims=0, min_side=0, max_side=3),
        ),
    )
)
def test_arrays_come_back_from_safetensors_bit_for_bit(state: dict[str, Any]) -> None:
    again = there_and_back(state, {"made by": "a test"})
    assert sorted(again) == sorted(state)
    for name, array in state.items():
        assert again[name].dtype == array.dtype.newbyteorder("=")
        assert again[name].shape == array.shape
        assert again[name].tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()
        again[name][...] = 0


@pytest.mark.parametrize("spelling", SPELLINGS[:2])
def test_a_model_comes_back_through_safetensors(spelling: str) -> None:
    net, other = network(), network(7)
    load_pytorch_state(other, there_and_back(pytorch_state(net, spelling)))
    same_state(net, other)
    other = network(7)
    other.load_state_dict(there_and_back(net.state_dict()))
    same_state(net, other)


def test_views_in_any_layout_are_written_as_they_read() -> None:
    x = np.arange(12.0).reshape(3, 4)
    again = there_and_back({"t": x.T, "gaps": x[:, ::2], "tensor": tg.tensor(x)})
    for name, expected in {"t": x.T, "gaps": x[:, ::2], "tensor": x}.items():
        assert_array_equal(again[name], expected)


def test_a_name_that_safetensors_keeps_for_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    assert "__metadata__" in message(DTypeError, lambda: save_safetensors({"__metadata__": np.ones(1)}, path))
    assert not path.exists()


def test_damaged_files_and_values_of_other_kinds_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    save_safetensors({"x": np.ones(3)}, path)
    whole = path.read_bytes()
    for bad in (b"", whole[:-1], whole[:9], b"\xff" * 40, b"PK" + whole):
        path.write_bytes(bad)
        assert f"bytes  : {len(bad)}" in message(StateError, lambda: load_safetensors(path))
    message(FileNotFoundError, lambda: load_safetensors(tmp_path / "missing"))
    assert "hint" in message(FileNotFoundError, lambda: save_safetensors({}, tmp_path / "missing" / "file"))
    path.write_bytes(whole)
    for wrong in ({"x": "text"}, {1: np.ones(1)}, [1]):
        message(DTypeError, lambda wrong=wrong: save_safetensors(wrong, path))
    message(DTypeError, lambda: save_safetensors({"x": np.ones(1)}, path, {"x": 1}))
    assert path.read_bytes() == whole


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    for call in (lambda: save_safetensors({}, "x"), lambda: load_safetensors("x")):
        assert "tinygrad_wn[safetensors]" in message(ImportError, call)
