"""Files of models and state dicts: bit for bit, whole or not at all, and an error for everything else."""

import io
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal
from refusals import message

import tinygrad_wn as tg
from tinygrad_wn import nn
from tinygrad_wn.errors import DTypeError, StateError

SEEDS = st.integers(0, 2**32)


def file_of(obj: Any, metadata: Any = None) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        tg.save(obj, path, metadata)
        assert list(Path(folder).iterdir()) == [path]
        return path.read_bytes()


def loaded(raw: bytes, read: Callable[[Any], Any] = tg.load) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(raw)
        return read(path)


def packed(**members: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **members)
    return file.getvalue()


def same_bits(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert list(a) == list(b)
    for x, y in zip(a.values(), b.values(), strict=True):
        assert x.dtype == y.dtype
        assert x.shape == y.shape
        assert x.tobytes() == y.tobytes()


@st.composite
def layers(draw: st.DrawFn) -> nn.Module:
    options: dict[str, Any] = {"dtype": draw(st.sampled_from(["float32", "float64"])), "rng": draw(SEEDS)}
    kind = draw(st.sampled_from(["linear"] * 3 + ["normalized"] * 3 + ["other"] * 2))
    if kind == "other":
        slope, share = draw(st.floats(-2, 2)), draw(st.floats(0, 0.99))
        others = [nn.ReLU(), nn.LeakyReLU(slope), nn.Tanh(), nn.Sigmoid(), nn.GELU(), nn.Dropout(share)]
        return draw(st.sampled_from(others))
    layer: Any = nn.Linear(draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.booleans()), **options)
    if kind == "normalized":
        nn.weight_norm(layer, axis=draw(st.sampled_from([0, 1, -1, None, (0, 1), (), (-2,)])))
    if layer.bias is not None and draw(st.booleans()):
        layer.bias.data = np.ones(layer.out_features, options["dtype"])
        nn.weight_norm(layer, "bias", axis=draw(st.sampled_from([0, None])))
    for p in layer.parameters():
        p.requires_grad = draw(st.integers(0, 4)) > 0
    return layer


def chains(inside: st.SearchStrategy[nn.Module]) -> st.SearchStrategy[nn.Module]:
    """A Sequential in which layers may be met again."""
    return st.lists(inside, max_size=4).flatmap(
        lambda them: (
            st.lists(st.sampled_from(them), max_size=6).map(lambda x: nn.Sequential(*x))
            if them
            else st.just(nn.Sequential())
        )
    )


MODELS = st.recursive(layers(), chains, max_leaves=8)
ARRAYS = hnp.arrays(
    hnp.floating_dtypes() | hnp.integer_dtypes() | hnp.unsigned_integer_dtypes() | hnp.boolean_dtypes()
    | hnp.complex_number_dtypes(),
    hnp.array_shapes(min_dims=0, min_side=0, max_side=3),
)  # fmt: skip
NAMES = st.text(min_size=0, max_size=8).filter(str.isprintable)


# Round trips


@given(MODELS, st.booleans(), SEEDS)
def test_a_model_comes_back_bit_for_bit_in_the_same_mode(model: nn.Module, training: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _, p in model.named_parameters():
        bits = rng.integers(0, 256, p.numpy().nbytes, dtype=np.uint8)
        p.data = bits.view(p.dtype).reshape(p.shape)  # NaN, infinities and subnormal numbers among them
    model.train(training)
    new = loaded(file_of(model))
    assert repr(new) == repr(model)
    same_bits(new.state_dict(), model.state_dict())
    assert [name for name, _ in new.named_parameters()] == [name for name, _ in model.named_parameters()]
    assert [name for name, _ in new.named_modules()] == [name for name, _ in model.named_modules()]
    assert {m.training for _, m in new.named_modules()} == {training}


def test_a_loaded_model_computes_and_learns_like_the_old_one(tmp_path: Path) -> None:
    net = nn.weight_norm(nn.Sequential(nn.Linear(3, 4, rng=0), nn.GELU(), nn.Sequential(nn.Linear(4, 2, rng=1))))
    tg.save(net, tmp_path / "net")
    new = tg.load(tmp_path / "net")
    for one in (net, new):
        optimizer = tg.optim.Adam(one.parameters())
        nn.cross_entropy(one(tg.randn(5, 3, rng=2)), tg.tensor([0, 1, 0, 1, 1])).backward()
        optimizer.step()
    same_bits(new.state_dict(), net.state_dict())


@given(st.dictionaries(NAMES, ARRAYS, max_size=5), st.booleans())
def test_a_state_dict_comes_back_bit_for_bit(state: dict[str, Any], turned: bool) -> None:
    state = {name: array.T[..., ::-1] if turned and array.ndim else array for name, array in state.items()}
    same_bits(loaded(file_of(state)), state)


@pytest.mark.parametrize("names", [("a", "a.npy"), ("file", "header"), ("state/a", "../a", "/a")], ids=str)
def test_any_printable_name_may_be_used(names: tuple[str, ...]) -> None:
    state = {name: np.array(i) for i, name in enumerate(names)}
    same_bits(loaded(file_of(state)), state)


def test_tensors_and_numpy_numbers_are_saved_as_arrays() -> None:
    state = loaded(file_of({"a": tg.tensor([1.0], requires_grad=True), "b": np.float64(2)}))
    assert state["a"].dtype == np.float32
    assert state["b"].shape == ()
    assert (state["a"].item(), state["b"].item()) == (1.0, 2.0)


def test_saving_and_loading_draws_nothing_from_the_package_generator() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    tg.seed(0)
    loaded(file_of(net))
    after = tg.randn(3).numpy()
    tg.seed(0)
    assert_array_equal(after, tg.randn(3).numpy())


def test_the_same_model_gives_the_same_bytes() -> None:
    net = nn.weight_norm(nn.Sequential(nn.Linear(2, 2, rng=0)))
    assert file_of(net) == file_of(net)


def test_numpy_alone_can_read_the_file() -> None:
    layer = nn.Linear(2, 3)
    with np.load(io.BytesIO(file_of(layer)), allow_pickle=False) as archive:
        assert archive.files == ["header", "state/weight", "state/bias"]
        assert_array_equal(archive["state/weight"], layer.state_dict()["weight"])
        assert json.loads(str(archive["header"]))["format"] == "tinygrad_wn"


METADATA = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=3), inside, max_size=3),
        max_leaves=5,
    ),
    max_size=4,
)


@given(METADATA)
def test_metadata_comes_back(metadata: dict[str, Any]) -> None:
    for obj in ({"a": np.ones(1)}, nn.ReLU()):
        raw = file_of(obj, metadata)
        assert loaded(raw, tg.load_metadata) == metadata
        assert type(loaded(raw)) is type(obj)
    assert loaded(file_of({}), tg.load_metadata) == {}


# What cannot be saved


class Custom(nn.Module):
    def __init__(self) -> None:
        self.inner = nn.Linear(1, 1)


class Linear(nn.Linear):
    """A class of the user with a name of the package."""


def test_a_module_of_the_user_says_to_save_its_state(tmp_path: Path) -> None:
    wide = nn.Sequential(nn.ReLU(), nn.Sequential(Custom()))
    weight = nn.WeightNorm([[1.0]], [[1.0]])
    models: list[tuple[nn.Module, str]] = [
        (Custom(), "Custom"),
        (wide, "Custom"),
        (Linear(1, 1), "Linear"),
        (weight, "WeightNorm"),
    ]
    for model, name in models:
        text = message(StateError, partial(tg.save, model, tmp_path / "net"))
        assert f"{name} is not a layer of tinygrad_wn.nn" in text
        assert "tg.save(model.state_dict(), path)" in text
    assert list(tmp_path.iterdir()) == []


def test_a_model_whose_state_its_description_does_not_give_is_refused(tmp_path: Path) -> None:
    first, second, other = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    tied = nn.Sequential(first, second)
    more: Any = nn.ReLU()
    more.extra = tg.ones(1)
    other.bias = tg.ones(2, "float64")
    models: list[tuple[nn.Module, str]] = [(tied, "1.weight"), (more, "extra"), (other, "bias")]
    for model, name in models:
        text = message(StateError, partial(tg.save, model, tmp_path / "net"))
        assert repr(name) in text
        assert "model.state_dict()" in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("obj", "fact"),
    [
        ([np.ones(1)], "not a model or a state dict"),
        (tg.ones(1), "not a model or a state dict"),
        ({"a": [1.0]}, "values must be arrays"),
        ({"a": np.array([None])}, "values must be arrays"),
        ({"a": np.array(["text"])}, "values must be arrays"),
        ({"a": np.zeros(1, "datetime64[s]")}, "values must be arrays"),
        ({"a": np.zeros(1, [("x", "f4")])}, "values must be arrays"),
        ({1: np.ones(1)}, "printable strings"),
        ({"a\0b": np.ones(1)}, "printable strings"),
        ({"\ud800": np.ones(1)}, "printable strings"),
    ],
    ids=repr,
)
def test_what_is_no_state_is_refused(obj: Any, fact: str, tmp_path: Path) -> None:
    assert fact in message(DTypeError, lambda: tg.save(obj, tmp_path / "file"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", [{"a": np.ones(1)}, {"a": float("nan")}, {"a": {1}}, {(1,): 2}, "ab"], ids=repr)
def test_metadata_that_json_cannot_hold_is_refused(bad: Any, tmp_path: Path) -> None:
    assert "metadata" in message(DTypeError, lambda: tg.save({}, tmp_path / "file", bad))
    assert list(tmp_path.iterdir()) == []
