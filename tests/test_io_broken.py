"""Files that are cut, changed, foreign or interrupted: an error, and the old file stays whole."""

import errno
import io
import json
import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from refusals import message
from test_io import file_of, loaded, packed, same_bits

import tinygrad_wn as tg
from tinygrad_wn import nn
from tinygrad_wn.errors import StateError


def with_header(raw: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The same file with another header."""
    with np.load(io.BytesIO(raw)) as archive:
        members = dict(archive)
    header = json.loads(str(members.pop("header")))
    change(header)
    return packed(header=np.array(json.dumps(header)), **members)


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
