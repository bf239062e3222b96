"""Small data sets as NumPy arrays: digits, moons, `.npz`, `.csv` and IDX files; splits and batches."""

from .dataset import Dataset, batches, split
from .files import load
from .known import SETS, by_name, digits, moons, train_test

__all__ = [
    "SETS",
    "Dataset",
    "batches",
    "by_name",
    "digits",
    "load",
    "moons",
    "split",
    "train_test",
]
