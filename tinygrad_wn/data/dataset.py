"""What a data set is, how its rows are parted, and batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DTypeError, ShapeError, ValueRangeError


@dataclass(frozen=True, eq=False, init=False)
class Dataset:
    """Rows of numbers with a class label each, checked when made.

    `x` is float32 of shape (rows, features) and finite; `y` is int64 of shape (rows,), each label in 0 … `classes` - 1.
    Both are C-contiguous; other layouts, real dtypes of `x` and integer dtypes of `y` are converted, and arrays that
    fit are kept, not copied.
    `classes` is the highest label plus one unless given (a part of a data set may lack the last class).
    `name` is what error messages call the data.

    Raises ShapeError, DTypeError, or ValueRangeError with the row (and column) of the first bad value.

    >>> tg.data.Dataset(np.eye(3), np.arange(3))
    Dataset(name='data', rows=3, features=3, classes=3)
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    classes: int
    name: str

    def __init__(self, x: NDArray[Any], y: NDArray[Any], classes: int | None = None, name: str = "data") -> None:
        """Check the arrays, then keep them as float32 and int64."""
        x, y = np.asarray(x), np.asarray(y)
        _check_layout(x, y, name)
        with np.errstate(all="ignore"):  # what leaves the range of float32 is reported below, with its place
            narrow = np.ascontiguousarray(x, np.float32)
        if not np.isfinite(narrow).all():
            row, column = map(int, np.argwhere(~np.isfinite(narrow))[0])
            facts = {"data": name, "row": row, "column": column, "value": x[row, column]}
            raise ValueRangeError("Dataset: x must hold finite float32 numbers", facts, hint="drop or repair the row")
        bad = np.flatnonzero((y < 0) | (y > np.iinfo(np.int64).max))
        if bad.size:
            facts = {"data": name, "row": int(bad[0]), "label": y[bad[0]]}
            raise ValueRangeError(
                "Dataset: labels must be 0, 1, 2 …",
                facts,
                hint="np.unique(y, return_inverse=True)[1] numbers the classes from 0",
            )
        highest = int(y.max())
        if classes is not None and classes <= highest:
            facts = {"data": name, "row": int(y.argmax()), "label": highest, "classes": classes}
            raise ValueRangeError(
                "Dataset: a label is past the last class", facts, hint=f"classes must be at least {highest + 1}"
            )
        object.__setattr__(self, "x", narrow)
        object.__setattr__(self, "y", np.ascontiguousarray(y, np.int64))
        object.__setattr__(self, "classes", highest + 1 if classes is None else classes)
        object.__setattr__(self, "name", name)

    def __repr__(self) -> str:
        """Name and sizes; the arrays would fill the screen."""
        rows, features = self.x.shape
        return f"Dataset(name={self.name!r}, rows={rows}, features={features}, classes={self.classes})"


def _is_dataset(what: str, data: object) -> None:
    if not isinstance(data, Dataset):
        raise DTypeError(
            f"{what}: not a Dataset", {"given": type(data).__name__}, hint="make one: tg.data.Dataset(x, y)"
        )


def _check_layout(x: NDArray[Any], y: NDArray[Any], name: str) -> None:
    facts = {"data": name, "x": f"{x.dtype} {x.shape}", "y": f"{y.dtype} {y.shape}"}
    if x.ndim != 2 or x.size == 0:
        raise ShapeError(
            "Dataset: x must have shape (rows, features), with at least one of each",
            facts,
            hint="x.reshape(len(x), -1) makes a row of each example",
        )
    if y.shape != x.shape[:1]:
        raise ShapeError(
            "Dataset: y must have one label for each row of x",
            facts,
            hint="y.reshape(-1) for a column, y.argmax(axis=1) for one-hot rows",
        )
    if x.dtype.kind not in "buif":
        raise DTypeError("Dataset: x must hold real numbers", facts, hint="x.astype(np.float32)")
    if y.dtype.kind not in "iu":
        hint = "np.unique(y, return_inverse=True)[1] numbers labels; targets of a regression go into a step as they are"
        raise DTypeError("Dataset: y must hold integers, the numbers of classes", facts, hint=hint)


def split(data: Dataset, test: float = 0.2, rng: int | np.random.Generator = 0) -> tuple[Dataset, Dataset]:
    """Part the rows into (train, test), both shuffled; every row is in exactly one.

    Stratified: of each class, the test part holds the share `test`, within one row. `rng` is a seed or a Generator;
    the default is a fixed seed, so that two runs part alike. The sizes do not depend on it.

    Raises DTypeError for what is no Dataset, ValueRangeError unless `test` is between 0 and 1 and leaves rows in both
    parts.

    >>> train, test = tg.data.split(tg.data.digits())
    >>> len(train.y), len(test.y)
    (1438, 359)
    """
    _is_dataset("split", data)
    rows = len(data.y)
    if not 0 < np.floor(rows * test + 0.5) < rows:
        raise ValueRangeError(
            "split: test must be between 0 and 1, and leave rows in both parts",
            {"test": test, "rows": rows},
            hint="test=0.2 keeps a fifth of the rows for the test",
        )
    rng = np.random.default_rng(rng)
    order = rng.permutation(rows)
    order = order[np.argsort(data.y[order], kind="stable")]
    # Class after class, a row is taken each time the running share passes a whole number (and a half): so evenly that
    # every stretch of rows, hence every class, gives its share within one.
    taken = np.diff(np.floor(np.arange(rows + 1) * test + 0.5)) > 0
    train_rows, test_rows = rng.permutation(order[~taken]), rng.permutation(order[taken])
    return (
        Dataset(data.x[train_rows], data.y[train_rows], data.classes, data.name),
        Dataset(data.x[test_rows], data.y[test_rows], data.classes, data.name),
    )


def batches(
    data: Dataset, size: int, rng: int | np.random.Generator | None, drop_last: bool = False
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """One epoch in shuffled order: pairs of x (size, features) and y (size,), new arrays, every row once.

    The last batch is shorter when `size` does not divide the rows; `drop_last` leaves it out. `rng` is a seed, a
    Generator (pass the same one each epoch for another order each time), or None for an order that cannot be repeated.

    Raises DTypeError for what is no Dataset, ValueRangeError when `size` < 1, or when `drop_last` would leave no batch.

    >>> [len(y) for x, y in tg.data.batches(tg.data.digits(), 500, rng=0)]
    [500, 500, 500, 297]
    """
    _is_dataset("batches", data)
    rows = len(data.y)
    if size < 1 or (drop_last and size > rows):
        raise ValueRangeError(
            "batches: size must be at least 1, and with drop_last at most the number of rows",
            {"size": size, "rows": rows, "drop_last": drop_last},
            hint=f"size={min(rows, 32)}",
        )
    order = np.random.default_rng(rng).permutation(rows)
    starts = range(0, rows - size + 1 if drop_last else rows, size)
    return ((data.x[part], data.y[part]) for part in (order[start : start + size] for start in starts))
