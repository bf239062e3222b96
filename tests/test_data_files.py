"""Data sets from files: what a file may hold, how a damaged one is refused, and names."""

import errno
import io
import os
import pickle
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from tinygrad_wn.data import Dataset, by_name, digits, load, moons
from tinygrad_wn.errors import DTypeError, ShapeError, StateError, ValueRangeError

pytestmark = pytest.mark.once


def raised(kind: type[Exception], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    return str(caught.value)


def saved(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def load_bytes(raw: bytes) -> Dataset:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "some.npz"
        path.write_bytes(raw)
        return load(path)


# Files


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=5, max_side=4)), st.sampled_from("xX"), st.booleans())
def test_a_file_of_rows_or_images_loads_as_rows(images: NDArray[Any], key: str, as_text: bool) -> None:
    y = np.arange(len(images))
    arrays: dict[str, Any] = {key: images, "y": y}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "some.npz"
        np.savez(path, **arrays)
        data = load(str(path) if as_text else path)
    assert data.name == str(path)
    assert_array_equal(data.x, np.stack([image.ravel() for image in images]))
    assert_array_equal(data.y, y)


def test_small_x_goes_before_capital_x() -> None:
    assert load_bytes(saved(X=np.zeros((1, 2)), x=np.ones((1, 3)), y=[0])).x.shape == (1, 3)


WHOLE = saved(x=np.arange(60.0).reshape(20, 3) / 7, y=np.arange(20) % 3)


def test_a_truncated_file_of_any_length_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.npz"
    for length in range(len(WHOLE)):
        path.write_bytes(WHOLE[:length])
        assert raised(StateError, lambda: load(path)) == (
            "load: not a whole .npz file of plain arrays\n"
            f"  file   : {path}\n"
            f"  bytes  : {length}\n"
            "  reason : BadZipFile: File is not a zip file\n"
            "  hint   : write it again with np.savez(path, x=x, y=y), no object arrays"
        )


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255), st.integers(0, 40))
def test_a_damaged_file_is_refused_or_gives_the_same_numbers(place: int, change: int, cut: int) -> None:
    """A byte changed, and a few cut out after it; a lucky place is, say, the date of an entry."""
    raw = WHOLE[:place] + bytes([WHOLE[place] ^ change]) + WHOLE[place + 1 + cut :]
    try:
        data = load_bytes(raw)
    except StateError:
        return
    whole = load_bytes(WHOLE)
    assert_array_equal(data.x, whole.x)
    assert_array_equal(data.y, whole.y)


def zipped(member: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", member)
        archive.writestr("y.npy", member)
    return file.getvalue()


def one_array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.ones((2, 3)))
    return file.getvalue()


OBJECTS = np.array([[{}], [[]]], dtype=object)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "BadZipFile: File is not a zip file"),
        (b"x,y\n1,2\n", "BadZipFile: File is not a zip file"),
        (one_array(), "BadZipFile: File is not a zip file"),
        (pickle.dumps({"x": [1], "y": [0]}), "BadZipFile: File is not a zip file"),
        (saved(x=OBJECTS, y=[0, 1]), "ValueError: Object arrays cannot be loaded when allow_pickle=False"),
        (zipped(one_array()[:-1]), "ValueError: EOF: reading array data, expected 48 bytes got 47"),
    ],
    ids=["empty", "text", "npy", "pickle", "objects", "half an array"],
)
def test_a_file_that_is_no_npz_of_plain_arrays_is_refused(raw: bytes, reason: str) -> None:
    what, file, size, why, hint = raised(StateError, lambda: load_bytes(raw)).split("\n")
    assert what == "load: not a whole .npz file of plain arrays"
    assert file.startswith("  file   : /")
    assert size == f"  bytes  : {len(raw)}"
    assert why == f"  reason : {reason}"
    assert hint == "  hint   : write it again with np.savez(path, x=x, y=y), no object arrays"


def test_an_entry_that_is_no_array_is_refused() -> None:
    assert "x    : |S5 ()" in raised(ShapeError, lambda: load_bytes(zipped(b"hello")))


@pytest.mark.parametrize(
    ("arrays", "missing", "found"),
    [
        ({}, "x", "none"),
        ({"y": [0]}, "x", "y"),
        ({"x": [[1.0]]}, "y", "x"),
        ({"X": [[1.0]], "Y": [0]}, "y", "X, Y"),
        ({"x_train": [[1.0]], "y_train": [0]}, "x", "x_train, y_train"),
    ],
)
def test_a_file_without_x_or_y_says_what_it_holds(
    arrays: dict[str, Any], missing: str, found: str, tmp_path: Path
) -> None:
    path = tmp_path / "some.npz"
    np.savez(path, **arrays)
    assert raised(StateError, lambda: load(path)) == (
        f"load: the file has no array '{missing}'\n"
        f"  file   : {path}\n"
        f"  bytes  : {path.stat().st_size}\n"
        f"  arrays : {found}\n"
        "  hint   : np.savez(path, x=x, y=y) names the two arrays"
    )


@pytest.mark.parametrize(
    ("kind", "arrays", "line"),
    [
        (ValueRangeError, {"x": [[0.0, 1.0], [2.0, np.nan]], "y": [0, 1]}, "  column : 1"),
        (ValueRangeError, {"x": [[0.0], [2.0]], "y": [0, -1]}, "  label : -1"),
        (DTypeError, {"x": [["a"]], "y": [0]}, "  x    : <U1 (1, 1)"),
        (DTypeError, {"x": [[1.0]], "y": [0.5]}, "  y    : float64 (1,)"),
        (ShapeError, {"x": [1.0], "y": [0]}, "  x    : float64 (1,)"),
        (ShapeError, {"x": np.ones((0, 2, 2)), "y": []}, "  x    : float64 (0, 4)"),
        (ShapeError, {"x": [[1.0]], "y": [0, 1]}, "  y    : int64 (2,)"),
    ],
)
def test_a_file_whose_arrays_do_not_fit_is_named(
    kind: type[Exception], arrays: dict[str, Any], line: str, tmp_path: Path
) -> None:
    path = tmp_path / "some.npz"
    np.savez(path, **arrays)
    lines = raised(kind, lambda: load(path)).split("\n")
    assert lines[1].split() == ["data", ":", str(path)]
    assert line in lines


@pytest.mark.parametrize(
    ("name", "kind", "number"),
    [
        ("missing.npz", FileNotFoundError, errno.ENOENT),
        ("folder.csv", IsADirectoryError, errno.EISDIR),
        ("file/below.npz", NotADirectoryError, errno.ENOTDIR),
        ("n" * 5000, OSError, errno.ENAMETOOLONG),
    ],
)
def test_a_file_that_cannot_be_opened_raises_its_own_kind_with_advice(
    name: str, kind: type[OSError], number: int, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(kind) as caught:
        load(tmp_path / name)
    assert type(caught.value) is kind
    assert caught.value.errno == number
    assert str(caught.value) == (
        f"[Errno {number}] load: cannot read the file\n"
        f"  file   : {tmp_path / name}\n"
        f"  reason : {os.strerror(number)}\n"
        "  hint   : give the path of a readable .npz or .csv file, or of IDX files"
    )


def test_a_relative_path_is_shown_in_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"  file   : {tmp_path}/none.npz\n" in raised(FileNotFoundError, lambda: load("none.npz"))


# Names


def test_names_and_paths_give_their_data_set(tmp_path: Path) -> None:
    assert_array_equal(by_name("digits").x, digits().x)
    assert_array_equal(by_name("moons").x, moons(rng=0).x)
    for name in ("some.npz", "SOME.NPZ"):
        path = tmp_path / name
        path.write_bytes(WHOLE)
        assert_array_equal(by_name(path).x, load_bytes(WHOLE).x)
        assert by_name(str(path)).name == str(path)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("digit", "did you mean 'digits'?"),
        ("Digits", "did you mean 'digits'?"),
        ("MOON", "did you mean 'moons'?"),
        ("iris", "np.savez('data.npz', x=x, y=y) makes a file of your own arrays"),
        ("mnist500", "did you mean 'mnist5000'?"),
        ("", "np.savez('data.npz', x=x, y=y) makes a file of your own arrays"),
    ],
)
def test_an_unknown_name_is_answered_with_those_there_are(name: str, hint: str) -> None:
    assert raised(ValueRangeError, lambda: by_name(name)) == (
        f"by_name: there is no data set {name!r}\n"
        "  there are : digits, moons, mnist5000, fashion, or a path that ends in .npz, .csv, .idx, ubyte, .gz, or of a "
        "folder of IDX files\n"
        f"  hint      : {hint}"
    )
