"""Data sets from files: `.npz` here; `.csv` and IDX in files of their own."""

import io
import os
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from ..errors import StateError, ValueRangeError
from .dataset import Dataset
from .idx import joined, read_idx
from .raw import content, is_folder
from .table import read_csv

IDX = (".idx", "ubyte", ".gz")
"""How names of IDX files end; what ends in .csv.gz is a table."""


def load(path: str | os.PathLike[str], label: str | int | None = None) -> Dataset:
    """Read a data set: from an `.npz` file, a `.csv` file, or IDX files, the format of MNIST.

    `.npz`: an array `x` (or `X`) of one row or image each, and labels `y`. `.csv` or `.csv.gz`: numbers between commas,
    semicolons or tabs; `label` is the column of the labels, by name or number (by default the one that is named label,
    class, target or y, else the last). IDX, also as `.gz`: the path of a file of images, with the file of their labels
    beside it, or of a folder with one or more such pairs, whose rows follow each other, those for training first.

    Images of any shape become rows; the values become float32, and are not scaled (8-bit pixels stay 0 … 255). Nothing
    is unpickled.

    Raises StateError when a file is damaged, of another kind, or lacks an array, a line or its partner; what `Dataset`
    raises when the arrays do not fit; ValueRangeError for a `label` that is not there; and, with advice, the OSError of
    its kind (such as FileNotFoundError) when a file cannot be opened.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/two.npz", x=np.zeros((2, 8, 8)), y=[0, 1])
    ...     tg.data.load(f"{folder}/two.npz").x.shape
    (2, 64)
    """
    path, name = Path(path), Path(path).name.lower()
    if name.removesuffix(".gz").endswith(".csv"):
        return read_csv(path, label)
    if label is not None:
        facts = {"file": path.absolute(), "label": repr(label)}
        raise ValueRangeError("load: a label can be named for a .csv file", facts, hint="leave it out")
    if name.endswith(IDX) or is_folder(path):
        return joined(read_idx(path).values(), str(path))
    return _read_npz(path)


def _read_npz(path: Path) -> Dataset:
    raw = content(path)
    facts: dict[str, object] = {"file": path.absolute(), "bytes": len(raw)}
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
