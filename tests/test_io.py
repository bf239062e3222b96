"""Files of models and state dicts: bit for bit, whole or not at all, and an error for everything else."""

import errno
import io
import json
import os
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal

import tinygrad_wn as tg
from tinygrad_wn import nn
from tinygrad_wn.errors import DTypeError, StateError

SEEDS = st.integers(0, 2**32)


def message(kind: type[Exception], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    return str(caught.value)


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


def with_header(raw: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The same file with another header."""
    with np.load(io.BytesIO(raw)) as archive:
        members = dict(archive)
    header = json.loads(str(members.pop("header")))
    change(header)
    return packed(header=np.array(json.dumps(header)), **members)


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


# Whole or not at all

EXAMPLES = {
    "model": file_of(nn.weight_norm(nn.Sequential(nn.Linear(2, 3, rng=0), nn.ReLU(), nn.Linear(3, 2, rng=1)))),
    "state": file_of({"a": np.arange(20.0)}),
}
examples = pytest.mark.parametrize("raw", EXAMPLES.values(), ids=EXAMPLES)


@examples
def test_a_file_cut_at_any_length_is_refused(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(raw)
    for length in reversed(range(len(raw))):
        os.truncate(path, length)
        text = message(StateError, lambda: tg.load(path))
        assert "not a whole file by tg.save" in text
        assert f"bytes  : {length}" in text
        assert "save it again" in text


@examples
@given(st.data())
def test_a_changed_byte_is_refused_or_does_not_matter(raw: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(raw) - 1))
    new = raw[:place] + bytes([raw[place] ^ data.draw(st.integers(1, 255))]) + raw[place + 1 :]
    try:
        found = loaded(new)
    except StateError:
        return
    good = loaded(raw)
    same_bits(*(x if isinstance(x, dict) else x.state_dict() for x in (found, good)))


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Path]:
    """A file that is there already; whatever happens, no other is left beside it."""
    path = tmp_path / "model.npz"
    tg.save({"old": np.ones(1)}, path)
    yield path
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError])
@pytest.mark.parametrize("place", ["write_array", "fsync", "replace"])
def test_an_interrupted_save_leaves_the_old_file(
    old: Path, error: type[BaseException], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def stop(*_args: Any, **_kwargs: Any) -> None:
        calls.append(place)
        raise error

    write_array = np.lib.format.write_array

    def stop_late(*args: Any, **kwargs: Any) -> None:
        if calls:
            stop()
        calls.append(place)
        write_array(*args, **kwargs)

    if place == "write_array":
        monkeypatch.setattr(np.lib.format, "write_array", stop_late)
    else:
        monkeypatch.setattr(os if place == "fsync" else Path, place, stop)
    with pytest.raises(error):
        tg.save({"new": np.zeros(1), "more": np.zeros(1)}, old)
    assert calls
    monkeypatch.undo()
    assert list(tg.load(old)) == ["old"]


def test_a_full_disk_leaves_the_old_file_and_is_reported(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    text = message(OSError, lambda: tg.save({"new": np.zeros(1)}, old))
    assert "No space left" in text
    assert str(old) in text
    monkeypatch.undo()
    assert list(tg.load(old)) == ["old"]


def test_the_file_is_on_disk_before_it_takes_the_place_of_the_old_one(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[object] = []
    fsync, replace = os.fsync, Path.replace

    def seen_fsync(fd: int) -> None:
        events.append(os.fstat(fd).st_size)
        fsync(fd)

    def seen_replace(source: Path, target: Path) -> Path:
        events.append("replace")
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(Path, "replace", seen_replace)
    tg.save({"new": np.zeros(1)}, old)
    assert events == [old.stat().st_size, "replace"]
    assert list(tg.load(old)) == ["new"]


def test_a_link_is_followed_and_the_mode_is_that_of_any_new_file(tmp_path: Path) -> None:
    link, plain = tmp_path / "link", tmp_path / "plain"
    link.symlink_to(tmp_path / "target")
    tg.save({}, link)
    plain.touch()
    assert link.is_symlink()
    assert tg.load(tmp_path / "target") == {}
    assert stat.S_IMODE(link.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


# Files of other kinds


def test_a_missing_file_and_a_missing_folder_are_told_with_advice(tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "file"
    for call in (lambda: tg.load(missing), lambda: tg.load_metadata(missing), lambda: tg.save({}, missing)):
        text = message(FileNotFoundError, call)
        assert str(missing) in text
        assert "hint" in text
    message(IsADirectoryError, lambda: tg.load(tmp_path))
    message(IsADirectoryError, lambda: tg.save({}, tmp_path))
    (tmp_path / "plain").touch()
    message(NotADirectoryError, lambda: tg.save({}, tmp_path / "plain" / "file"))
    assert [p.name for p in tmp_path.iterdir()] == ["plain"]
    assert [p for p in tmp_path.parent.iterdir() if p.suffix == ".tmp"] == []


def test_files_of_other_programs_are_refused() -> None:
    text = message(StateError, lambda: loaded(packed(x=np.ones(2), y=np.array([None]))))
    assert "not a file by tg.save" in text
    assert "x.npy, y.npy" in text
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w"):
        pass
    assert "nothing" in message(StateError, lambda: loaded(file.getvalue()))
    for raw in (b"", b"some text", packed(header=np.ones(2)), packed(header=np.array(["x"], object))):
        assert "not a whole file by tg.save" in message(StateError, partial(loaded, raw))
    for header in ("[]", "{", "null", "3"):
        raw = packed(header=np.array(header))
        message(StateError, partial(loaded, raw))


def test_nothing_is_unpickled() -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (pytest.fail, ("unpickled",))

    raw = file_of({})
    with np.load(io.BytesIO(raw)) as archive:
        header = archive["header"]
    bad = packed(header=header, **{"state/a": np.array([Trap()], object)})
    assert "Object arrays" in message(StateError, lambda: loaded(bad))


@pytest.mark.parametrize("change", [{"format": "other"}, {"version": 2}, {"version": None}], ids=str)
def test_another_format_or_version_is_told(change: dict[str, Any]) -> None:
    raw = with_header(EXAMPLES["state"], lambda header: header.update(change))
    text = message(StateError, lambda: loaded(raw))
    assert "in another format" in text
    assert str(next(iter(change.values()))) in text


MODEL_CHANGES: list[Callable[[dict[str, Any]], Any]] = [
    lambda header: header["model"].update(layer="Strange"),
    lambda header: header["model"].update(layer="Sequential", layers=3),
    lambda header: header["model"]["layers"].append({"again": 9}),
    lambda header: header["model"]["layers"].pop(),
    lambda header: header["model"]["layers"][0]["options"].update(in_features=5),
    lambda header: header["model"]["layers"][0]["options"].update(in_features=-1),
    lambda header: header["model"]["layers"][0]["options"].update(strange=1),
    lambda header: header["model"]["layers"][0].update(weight_norm={}),
    lambda header: header["model"]["layers"][0].update(weight_norm={"weight": 1}),
    lambda header: header["model"]["layers"][0].update(weight_norm={"weight": 7}),
    lambda header: header["model"]["layers"][0].update(weight_norm={"forward": 0}),
    lambda header: header.update(model=None),
    lambda header: header.update(frozen=["strange"]),
    lambda header: header.pop("frozen"),
    lambda header: header.pop("training"),
]


@pytest.mark.parametrize("change", MODEL_CHANGES, ids=range(len(MODEL_CHANGES)))
def test_a_description_that_does_not_fit_the_state_is_refused(change: Callable[[dict[str, Any]], Any]) -> None:
    raw = with_header(EXAMPLES["model"], change)
    text = message(StateError, lambda: loaded(raw))
    assert "the description does not fit the state" in text
    assert "save the model again" in text
