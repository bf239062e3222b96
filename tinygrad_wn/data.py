"""Small data sets as NumPy arrays: the digits that ship with the package, moons, any `.npz`; splits and batches."""

import difflib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from .errors import DTypeError, ShapeError, StateError, ValueRangeError


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
        raise DTypeError("Dataset: y must hold integers", facts, hint="y.astype(np.int64)")


def digits() -> Dataset:
    """UCI handwritten digits: 1 797 images of 8 by 8 pixels as rows of 64 numbers in [0, 1], labels 0 … 9.

    The rows are ordered by writer, so shuffle before use (`split` does).
    Source: E. Alpaydin and C. Kaynak, doi:10.24432/C50P49, CC BY 4.0; see `datasets/ATTRIBUTION.md`.

    >>> tg.data.digits()
    Dataset(name='digits', rows=1797, features=64, classes=10)
    """
    with resources.as_file(resources.files("tinygrad_wn") / "datasets" / "digits.npz") as path:
        counts = load(path)
    return Dataset(counts.x / 16, counts.y, name="digits")


def moons(n: int = 1000, noise: float = 0.1, rng: int | np.random.Generator | None = None) -> Dataset:
    """Two half circles of radius 1 that interleave, one a class, in shuffled order; x is (n, 2).

    Class 0 is the upper half around (0, 0), class 1 the lower half around (1, 0.5), as in scikit-learn's `make_moons`.
    `noise` is the standard deviation of the normal noise added to every coordinate. `rng` is a seed or a Generator;
    None draws other points each time.

    Raises ValueRangeError when n < 2 (a class would be empty) or when noise is negative or not finite.

    >>> tg.data.moons(200, noise=0.05, rng=0)
    Dataset(name='moons', rows=200, features=2, classes=2)
    """
    if n < 2 or not 0 <= noise < np.inf:
        raise ValueRangeError(
            "moons: n must be at least 2, and noise finite and not negative",
            {"n": n, "noise": noise},
            hint="for example moons(1000, noise=0.1)",
        )
    rng = np.random.default_rng(rng)
    upper, lower = np.linspace(0, np.pi, n // 2), np.linspace(0, np.pi, n - n // 2)
    x = np.concatenate(
        [np.stack([np.cos(upper), np.sin(upper)], axis=1), np.stack([1 - np.cos(lower), 0.5 - np.sin(lower)], axis=1)]
    )
    y = np.repeat([0, 1], [len(upper), len(lower)])
    order = rng.permutation(n)
    return Dataset(x[order] + rng.normal(0, noise, x.shape), y[order], name="moons")


def load(path: str | os.PathLike[str]) -> Dataset:
    """Read a data set from an `.npz` file with an array `x` (or `X`) of one row or image each, and labels `y`.

    Images of any shape become rows; the values are kept as they are (8-bit pixels stay 0 … 255). Nothing is unpickled.

    Raises StateError when the file is damaged, of another kind, or lacks an array; what `Dataset` raises when the
    arrays do not fit; and, with advice, the OSError of its kind (such as FileNotFoundError) when it cannot be opened.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/two.npz", x=np.zeros((2, 8, 8)), y=[0, 1])
    ...     tg.data.load(f"{folder}/two.npz").x.shape
    (2, 64)
    """
    facts: dict[str, object] = {"file": Path(path).absolute()}
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        facts["reason"] = error.strerror
        layout = StateError("load: cannot read the file", facts, hint="give the path of a readable .npz file")
        raise type(error)(error.errno, str(layout)) from None
    facts["bytes"] = len(raw)
    try:
        with NpzFile(io.BytesIO(raw), allow_pickle=False) as archive:
            found = archive.files
            arrays = {name: np.asarray(archive[name]) for name in ("x", "X", "y") if name in found}
    except Exception as error:  # damaged bytes make zipfile, zlib and NumPy raise a dozen unrelated kinds
        facts["reason"] = f"{type(error).__name__}: {error}"
        raise StateError(
            "load: not a whole .npz file of plain arrays",
            facts,
            hint="write it again with np.savez(path, x=x, y=y), no object arrays",
        ) from error
    x, y = arrays.get("x", arrays.get("X")), arrays.get("y")
    if x is None or y is None:
        facts["arrays"] = ", ".join(found) or "none"
        raise StateError(
            f"load: the file has no array {'x' if x is None else 'y'!r}",
            facts,
            hint="np.savez(path, x=x, y=y) names the two arrays",
        )
    if x.ndim > 2:
        x = x.reshape(x.shape[0], int(np.prod(x.shape[1:])))
    return Dataset(x, y, name=str(path))


def by_name(name_or_path: str | os.PathLike[str]) -> Dataset:
    """Get "digits", "moons" (1 000 points, noise 0.1, seed 0), or what `load` reads from a path that ends in `.npz`.

    Raises ValueRangeError for another name, with the names there are; for a path, what `load` raises.

    >>> tg.data.by_name("moons")
    Dataset(name='moons', rows=1000, features=2, classes=2)
    """
    name = os.fspath(name_or_path)
    if name.lower().endswith(".npz"):
        return load(name)
    shipped: dict[str, Callable[[], Dataset]] = {"digits": digits, "moons": partial(moons, rng=0)}
    if name in shipped:
        return shipped[name]()
    close = difflib.get_close_matches(name.lower(), shipped, n=1, cutoff=0.7)
    hint = f"did you mean {close[0]!r}?" if close else "np.savez('data.npz', x=x, y=y) makes a file of your own arrays"
    raise ValueRangeError(
        f"by_name: there is no data set {name!r}",
        {"there are": f"{', '.join(shipped)}, or a path that ends in .npz"},
        hint=hint,
    )


def split(data: Dataset, test: float = 0.2, rng: int | np.random.Generator = 0) -> tuple[Dataset, Dataset]:
    """Part the rows into (train, test), both shuffled; every row is in exactly one.

    Stratified: of each class, the test part holds the share `test`, within one row. `rng` is a seed or a Generator;
    the default is a fixed seed, so that two runs part alike. The sizes do not depend on it.

    Raises ValueRangeError unless `test` is between 0 and 1 and leaves rows in both parts.

    >>> train, test = tg.data.split(tg.data.digits())
    >>> len(train.y), len(test.y)
    (1438, 359)
    """
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

    Raises ValueRangeError when `size` < 1, or when `drop_last` would leave no batch.

    >>> [len(y) for x, y in tg.data.batches(tg.data.digits(), 500, rng=0)]
    [500, 500, 500, 297]
    """
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
