"""IDX, the format of MNIST: a magic number, sizes, then numbers, in files of images and files of labels."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ShapeError, StateError
from .dataset import Dataset
from .raw import content, is_folder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..domains import Array

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""What the third byte says of the numbers; they are big-endian."""

NAMED = re.compile(r"images.*(idx|ubyte)", re.IGNORECASE)
"""Files of images in a folder."""


def read_idx(path: Path) -> dict[str, Dataset]:
    """Images and labels, as rows and classes, under what stands before "images" in the name of the file ("train").

    `path` is that of a file of images, beside which is the one of their labels ("train-images-idx3-ubyte" and
    "train-labels-idx1-ubyte", each may end in ".gz"), or of a folder, for all its pairs, "train" first.

    Raises StateError for a file that is damaged or of another kind, or that has no partner, ShapeError where images and
    labels do not fit together, what `Dataset` raises, and an OSError with advice where a file cannot be opened.
    """
    pairs = {}
    for images in _images(path) if is_folder(path) else [path]:
        x, y = read_array(images), read_array(labels := _labels(images))
        if x.ndim < 2 or y.ndim != 1 or len(x) != len(y):
            facts = {images: f"{x.dtype} {list(x.shape)}", labels: f"{y.dtype} {list(y.shape)}"}
            hint = "a file of images has 2 sizes or more, one of labels as many numbers as there are images"
            raise ShapeError(
                "load: images and labels do not fit together", {str(k): v for k, v in facts.items()}, hint=hint
            )
        before = images.name[: images.name.lower().index("images")].strip("-._")
        pairs[before] = Dataset(x.reshape(len(x), math.prod(x.shape[1:])), y, name=str(images))
    return pairs


def joined(parts: Iterable[Dataset], name: str) -> Dataset:
    """The rows of one after those of the other. Raises ShapeError where they have other numbers of features."""
    found = list(parts)
    if len({one.x.shape[1] for one in found}) > 1:
        facts = {one.name: f"{one.x.shape[1]} features" for one in found}
        raise ShapeError("load: images of several sizes", facts, hint="give the path of one file of images")
    x, y = (np.concatenate([getattr(one, axis) for one in found]) for axis in "xy")
    return Dataset(x, y, max(one.classes for one in found), name)


def read_array(path: Path) -> Array:
    """The array of an IDX file, in the dtype that it is written in; unpacked where its bytes are those of gzip.

    Raises StateError, with what was wrong, where the bytes are not one whole array.
    """
    raw = content(path)
    facts: dict[str, Any] = {"file": path.absolute(), "bytes": len(raw)}
    hint = "get the file again; IDX is what MNIST is in"
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            facts["reason"] = f"{type(error).__name__}: {error}"
            raise StateError("load: a damaged .gz file", facts, hint=hint) from None
        facts["unpacked"] = len(raw)
    begin = 4 + 4 * raw[3] if len(raw) > 3 else 4
    if raw[:2] != b"\0\0" or len(raw) < begin or raw[2] not in TYPES or not raw[3]:
        facts["begins with"] = raw[:4].hex(" ") or "nothing"
        facts["wanted"] = "00 00, a type (08, 09, 0b to 0e), the number of sizes from 1 on, and the sizes"
        raise StateError("load: not an IDX file", facts, hint=hint)
    shape = np.frombuffer(raw[4:begin], ">u4").tolist()
    dtype = np.dtype(TYPES[raw[2]])
    size = math.prod(shape) * dtype.itemsize
    if len(raw) - begin != size:
        facts |= {"array": f"{dtype.name} {shape}", "its bytes": size, "there are": len(raw) - begin}
        raise StateError("load: the array of an IDX file is not as long as it says", facts, hint=hint)
    return np.frombuffer(raw, dtype, offset=begin).reshape(shape)


def _images(folder: Path) -> list[Path]:
    """The files of images in a folder, once each, those whose name says "train" first."""
    there = sorted(one for one in folder.iterdir() if one.is_file())
    found = {one.name.removesuffix(".gz"): one for one in there if NAMED.search(one.name)}
    if not found:
        facts = {"folder": folder.absolute(), "files": ", ".join(one.name for one in there[:6]) or "none"}
        hint = "IDX files have names such as train-images-idx3-ubyte and train-labels-idx1-ubyte, or with .gz"
        raise StateError("load: a folder without IDX files of images", facts, hint=hint)
    return sorted(found.values(), key=lambda one: ("train" not in one.name.lower(), one.name))


def _labels(images: Path) -> Path:
    """The file of labels beside a file of images."""
    name = re.sub("images", "labels", images.name, count=1, flags=re.IGNORECASE)
    name = re.sub(r"idx\d", "idx1", name, flags=re.IGNORECASE).removesuffix(".gz")
    for one in (name, f"{name}.gz"):
        if one.removesuffix(".gz") != images.name.removesuffix(".gz") and (images.parent / one).is_file():
            return images.parent / one
    facts = {"images": images.absolute(), "looked for": f"{name}, {name}.gz"}
    hint = 'name both files alike, with "images" in the name of one and "labels" in that of the other'
    raise StateError("load: an IDX file of images without its labels", facts, hint=hint)
