"""Data sets: what one may be, what ships, and how rows are parted."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from importlib import resources
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal

from tinygrad_wn.data import Dataset, batches, digits, moons, split
from tinygrad_wn.errors import DTypeError, ShapeError, ValueRangeError

pytestmark = pytest.mark.once

SEEDS = st.integers(0, 2**64)
LABELS = st.lists(st.integers(0, 4), min_size=2, max_size=120)
LABEL_LISTS = LABELS | st.integers(2, 60).map(lambda n: list(range(n)))


def numbered(labels: list[int]) -> Dataset:
    """One feature, the number of the row: so that a row can be told from every other."""
    return Dataset(np.arange(len(labels))[:, None], np.array(labels), name="numbered")


def raised(kind: type[Exception], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    return str(caught.value)


# Dataset


@given(
    st.data(),
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
    st.sampled_from([np.bool_, np.int8, np.uint16, np.int64, np.float16, np.float32, np.float64]),
    st.sampled_from([np.int8, np.uint8, ">i4", np.int64, np.uint64]),
    st.booleans(),
)
def test_real_rows_and_integer_labels_are_kept_as_float32_and_int64(
    data: st.DataObject, shape: tuple[int, int], x_dtype: Any, y_dtype: Any, turned: bool
) -> None:
    values = st.integers(0, 1) if x_dtype is np.bool_ else st.integers(0, 100)
    x = data.draw(hnp.arrays(x_dtype, shape, elements=values))
    y = data.draw(hnp.arrays(y_dtype, shape[0], elements=st.integers(0, 100)))
    if turned:
        x, y = np.asfortranarray(x), y[::-1]
    made = Dataset(x, y)
    assert made.x.dtype == np.float32
    assert made.y.dtype == np.int64
    assert made.x.dtype.isnative
    assert made.y.dtype.isnative
    assert made.x.flags.c_contiguous
    assert made.y.flags.c_contiguous
    assert_array_equal(made.x, x.astype(np.float32))
    assert_array_equal(made.y, y)
    assert made.classes == y.max() + 1


def test_arrays_that_fit_are_not_copied() -> None:
    x, y = np.ones((2, 3), np.float32), np.array([0, 1])
    made = Dataset(x, y)
    assert made.x is x
    assert made.y is y


def test_a_data_set_says_its_sizes_and_cannot_be_assigned_to() -> None:
    made = Dataset(np.ones((2, 3)), np.array([0, 1]), classes=7, name="mine")
    assert repr(made) == "Dataset(name='mine', rows=2, features=3, classes=7)"
    for field in ("x", "y", "classes", "name"):
        with pytest.raises(FrozenInstanceError):
            setattr(made, field, None)


@given(
    st.data(), hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), st.sampled_from([np.nan, np.inf, -np.inf, 1e39])
)
def test_the_first_number_that_is_not_finite_is_named_by_row_and_column(
    data: st.DataObject, shape: tuple[int, int], bad: float
) -> None:
    x = np.zeros(shape)
    places = data.draw(st.lists(st.integers(0, x.size - 1), min_size=1, max_size=3))
    x.flat[places] = bad
    row, column = divmod(min(places), shape[1])
    assert raised(ValueRangeError, lambda: Dataset(x, np.zeros(shape[0], int), name="mine")) == (
        "Dataset: x must hold finite float32 numbers\n"
        "  data   : mine\n"
        f"  row    : {row}\n"
        f"  column : {column}\n"
        f"  value  : {np.float64(bad)}\n"
        "  hint   : drop or repair the row"
    )


@given(LABELS, st.data(), st.integers(-(2**63), -1) | st.integers(2**63, 2**64 - 1))
def test_the_first_label_that_is_no_class_is_named_by_row(labels: list[int], data: st.DataObject, bad: int) -> None:
    places = data.draw(st.lists(st.integers(0, len(labels) - 1), min_size=1, max_size=3))
    y = np.array(labels, np.int64 if bad < 0 else np.uint64)
    y[places] = bad
    assert raised(ValueRangeError, lambda: Dataset(np.zeros((len(labels), 1)), y)) == (
        "Dataset: labels must be 0, 1, 2 …\n"
        "  data  : data\n"
        f"  row   : {min(places)}\n"
        f"  label : {bad}\n"
        "  hint  : np.unique(y, return_inverse=True)[1] numbers the classes from 0"
    )


def test_the_highest_label_is_that_of_int64() -> None:
    assert Dataset(np.zeros((1, 1)), np.array([2**63 - 1], np.uint64)).classes == 2**63


@given(LABELS, st.integers(-2, 8))
def test_classes_may_exceed_the_labels_but_not_fall_short(labels: list[int], classes: int) -> None:
    x, y = np.zeros((len(labels), 1)), np.array(labels)
    highest = max(labels)
    if classes > highest:
        assert Dataset(x, y, classes).classes == classes
    else:
        assert raised(ValueRangeError, lambda: Dataset(x, y, classes)) == (
            "Dataset: a label is past the last class\n"
            "  data    : data\n"
            f"  row     : {labels.index(highest)}\n"
            f"  label   : {highest}\n"
            f"  classes : {classes}\n"
            f"  hint    : classes must be at least {highest + 1}"
        )


@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (3, 0), (3, 2, 2)])
def test_x_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    assert raised(ShapeError, lambda: Dataset(np.zeros(shape), np.zeros(shape[:1], int))) == (
        "Dataset: x must have shape (rows, features), with at least one of each\n"
        "  data : data\n"
        f"  x    : float64 {shape}\n"
        f"  y    : int64 {shape[:1]}\n"
        "  hint : x.reshape(len(x), -1) makes a row of each example"
    )


@pytest.mark.parametrize("shape", [(), (2,), (4,), (3, 1), (3, 10)])
def test_y_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    assert raised(ShapeError, lambda: Dataset(np.zeros((3, 2)), np.zeros(shape, int))) == (
        "Dataset: y must have one label for each row of x\n"
        "  data : data\n"
        "  x    : float64 (3, 2)\n"
        f"  y    : int64 {shape}\n"
        "  hint : y.reshape(-1) for a column, y.argmax(axis=1) for one-hot rows"
    )


@pytest.mark.parametrize("dtype", [np.complex64, "U3", "S3", "M8[s]", "m8[s]", object])
def test_x_that_is_not_real_numbers_is_refused(dtype: Any) -> None:
    x = np.zeros((3, 2)).astype(dtype)
    assert raised(DTypeError, lambda: Dataset(x, np.zeros(3, int))) == (
        "Dataset: x must hold real numbers\n"
        "  data : data\n"
        f"  x    : {x.dtype} (3, 2)\n"
        "  y    : int64 (3,)\n"
        "  hint : x.astype(np.float32)"
    )


@pytest.mark.parametrize("dtype", [np.float32, np.bool_, np.complex64, "U3", object])
def test_labels_that_are_not_integers_are_refused(dtype: Any) -> None:
    y = np.zeros(3).astype(dtype)
    assert raised(DTypeError, lambda: Dataset(np.zeros((3, 2)), y)) == (
        "Dataset: y must hold integers, the numbers of classes\n"
        "  data : data\n"
        "  x    : float64 (3, 2)\n"
        f"  y    : {y.dtype} (3,)\n"
        "  hint : np.unique(y, return_inverse=True)[1] numbers labels; "
        "targets of a regression go into a step as they are"
    )


# What ships


def test_the_digits_are_those_of_the_source_scaled_to_one() -> None:
    data = digits()
    pixels, labels = (data.x * 16).astype(np.uint8), data.y.astype(np.uint8)
    known = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
    assert hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest() == known
    assert_array_equal(data.x * 16, pixels)
    assert (data.x.min(), data.x.max()) == (0, 1)
    assert repr(data) == "Dataset(name='digits', rows=1797, features=64, classes=10)"
    assert_array_equal(np.bincount(data.y), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180])


def test_the_digits_come_with_their_attribution() -> None:
    text = (resources.files("tinygrad_wn") / "datasets" / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for part in ("E. Alpaydin", "C. Kaynak", "CC BY 4.0", "creativecommons.org", "10.24432/C50P49", "Changes made"):
        assert part in text


@given(st.integers(2, 300), SEEDS)
def test_moons_without_noise_lie_on_two_half_circles(n: int, seed: int) -> None:
    data = moons(n, noise=0, rng=seed)
    assert_array_equal(np.bincount(data.y), [n // 2, n - n // 2])
    upper, lower = data.x[data.y == 0], data.x[data.y == 1] - np.array([1, 0.5], np.float32)
    for half, sign in ((upper, 1), (lower, -1)):
        angles = np.linspace(0, np.pi, len(half))
        order = np.argsort(-sign * half[:, 0])
        assert_allclose(sign * half[order], np.stack([np.cos(angles), np.sin(angles)], axis=1), atol=2e-7)


@given(st.floats(0, 1e3), SEEDS)
def test_noise_of_the_moons_is_normal_with_the_given_deviation(noise: float, seed: int) -> None:
    clean, noisy = moons(1000, 0, rng=seed), moons(1000, noise, rng=seed)
    assert_array_equal(clean.y, noisy.y)
    differences = noisy.x - clean.x
    # 2 000 draws: each bound is six standard errors.
    assert abs(differences.std() - noise) <= 0.1 * noise + 1e-6
    assert (np.abs(differences.mean(axis=0)) <= 0.2 * noise + 1e-6).all()
    assert abs(differences.prod(axis=1).mean()) <= (0.2 * noise + 1e-6) * (noise + 1e-6)


def test_moons_are_shuffled_and_repeat_by_seed_only() -> None:
    first, again, other = moons(rng=1), moons(rng=1), moons(rng=2)
    assert_array_equal(first.x, again.x)
    assert_array_equal(first.y, again.y)
    assert not np.array_equal(first.x, other.x)
    assert not np.array_equal(moons().x, moons().x)
    assert 200 < first.y[:500].sum() < 300
    generator = np.random.default_rng(1)
    assert_array_equal(moons(rng=generator).x, first.x)
    assert not np.array_equal(moons(rng=generator).x, first.x)


@pytest.mark.parametrize(("n", "noise"), [(1, 0.1), (0, 0.1), (-5, 0.1), (10, -0.1), (10, np.nan), (10, np.inf)])
def test_moons_that_cannot_be_are_refused(n: int, noise: float) -> None:
    assert raised(ValueRangeError, lambda: moons(n, noise)) == (
        "moons: n must be at least 2, and noise finite and not negative\n"
        f"  n     : {n}\n"
        f"  noise : {noise}\n"
        "  hint  : for example moons(1000, noise=0.1)"
    )


# Parts


def leaves_rows(rows: int, test: float) -> bool:
    return 0 < math.floor(rows * test + 0.5) < rows


@given(LABEL_LISTS, st.floats(0.01, 0.99), SEEDS)
def test_every_row_is_in_exactly_one_part_with_its_own_label(labels: list[int], test: float, seed: int) -> None:
    assume(leaves_rows(len(labels), test))
    data = numbered(labels)
    parts = split(data, test, seed)
    rows = np.concatenate([part.x[:, 0] for part in parts]).astype(int)
    assert sorted(rows) == list(range(len(labels)))
    assert_array_equal(np.concatenate([part.y for part in parts]), data.y[rows])
    assert {(part.classes, part.name) for part in parts} == {(data.classes, data.name)}


@given(LABEL_LISTS, st.floats(0.01, 0.99), SEEDS)
def test_every_class_gives_its_share_within_one_row(labels: list[int], test: float, seed: int) -> None:
    assume(leaves_rows(len(labels), test))
    data = numbered(labels)
    _, part = split(data, test, seed)
    assert len(part.y) == math.floor(len(labels) * test + 0.5)
    shares = np.bincount(data.y) * test
    assert (np.abs(np.bincount(part.y, minlength=data.classes) - shares) <= 1 + 1e-12).all()


def test_the_default_split_is_fixed_and_another_seed_gives_another() -> None:
    data = digits()
    train, test = split(data)
    for again in (split(data), split(data, 0.2, 0), split(data, 0.2, np.random.default_rng(0))):
        assert_array_equal(again[0].x, train.x)
        assert_array_equal(again[1].x, test.x)
    others = split(data, rng=1)
    assert not np.array_equal(np.sort(others[1].x, axis=0), np.sort(test.x, axis=0))


@given(SEEDS)
def test_both_parts_are_shuffled_across_and_within_classes(seed: int) -> None:
    data = numbered([0] * 100 + [1] * 100)
    for part in split(data, 0.5, seed):
        # Of the first 50 rows 25 are expected to be of class 1; 15 are six standard errors.
        assert abs(part.y[:50].sum() - 25) <= 15
        rows = part.x[part.y == 0, 0]
        assert 5 < (np.diff(rows) > 0).sum() < 44


@given(st.integers(1, 10), st.sampled_from([-0.1, 0.0, 0.01, 0.99, 1.0, 1.5, np.nan, np.inf, -np.inf]))
def test_a_split_that_leaves_a_part_empty_is_refused(rows: int, test: float) -> None:
    assert raised(ValueRangeError, lambda: split(numbered([0] * rows), test)) == (
        "split: test must be between 0 and 1, and leave rows in both parts\n"
        f"  test : {test}\n"
        f"  rows : {rows}\n"
        "  hint : test=0.2 keeps a fifth of the rows for the test"
    )


# Batches


@given(LABELS, st.integers(1, 130), SEEDS)
def test_an_epoch_gives_every_row_once_with_its_label(labels: list[int], size: int, seed: int) -> None:
    data = numbered(labels)
    epoch = list(batches(data, size, seed))
    full, rest = divmod(len(labels), size)
    assert [len(y) for _, y in epoch] == [size] * full + [rest] * (rest > 0)
    rows = np.concatenate([x[:, 0] for x, _ in epoch]).astype(int)
    assert sorted(rows) == list(range(len(labels)))
    assert_array_equal(np.concatenate([y for _, y in epoch]), data.y[rows])
    for x, y in epoch:
        assert x.dtype == np.float32
        assert y.dtype == np.int64
        assert x.shape == (len(y), 1)
        assert x.flags.c_contiguous
        assert not np.shares_memory(x, data.x)
        assert not np.shares_memory(y, data.y)


@given(st.integers(1, 30), st.integers(1, 4), st.data(), SEEDS)
def test_drop_last_leaves_out_the_short_batch_and_nothing_else(
    size: int, full: int, data: st.DataObject, seed: int
) -> None:
    rows = size * full + data.draw(st.integers(0, size - 1))
    whole = list(batches(numbered([0] * rows), size, seed))
    kept = list(batches(numbered([0] * rows), size, seed, drop_last=True))
    assert len(kept) == full
    for (x, _), (expected, _) in zip(kept, whole[:full], strict=True):
        assert_array_equal(x, expected)


def order(data: Dataset, rng: int | np.random.Generator | None) -> list[float]:
    return [value for x, _ in batches(data, 7, rng) for value in x[:, 0].tolist()]


@given(SEEDS)
def test_a_seed_repeats_an_epoch_and_a_generator_moves_on(seed: int) -> None:
    data = numbered([0] * 50)
    generator = np.random.default_rng(seed)
    first, second = order(data, generator), order(data, generator)
    assert order(data, seed) == first
    assert first != second
    assert first != sorted(first)


def test_without_a_seed_every_epoch_differs() -> None:
    data = numbered([0] * 50)
    assert order(data, None) != order(data, None)


@pytest.mark.parametrize(("size", "drop_last"), [(0, False), (-1, False), (0, True), (41, True)])
def test_a_size_that_gives_no_batch_is_refused_at_once(size: int, drop_last: bool) -> None:
    assert raised(ValueRangeError, lambda: batches(numbered([0] * 40), size, 0, drop_last)) == (
        "batches: size must be at least 1, and with drop_last at most the number of rows\n"
        f"  size      : {size}\n"
        "  rows      : 40\n"
        f"  drop_last : {drop_last}\n"
        "  hint      : size=32"
    )
