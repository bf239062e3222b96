"""What commands take: numbers and sizes, as types for `argparse`, and folders to write into."""

from __future__ import annotations

import argparse
import math
import tempfile
from typing import TYPE_CHECKING

from .errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


def sizes(text: str) -> tuple[int, ...]:
    """Whole numbers of at least 1, between commas."""
    return tuple(map(at_least(1), text.split(",")))


def at_least(lowest: int) -> Callable[[str], int]:
    """The type of a whole number that is not below `lowest`."""

    def whole_number(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 16 and int(text) >= lowest):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {lowest}")
        return int(text)

    return whole_number


def rate(text: str) -> float:
    """A finite number above 0."""
    return _number(text, lambda x: 0 < x < math.inf, "a finite number above 0")


def momentum(text: str) -> float:
    """A number of at least 0 and below 1."""
    return _number(text, lambda x: 0 <= x < 1, "a number of at least 0 and below 1")


def _number(text: str, fits: Callable[[float], bool], what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not fits(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return number


def make_folder(folder: Path, names: Iterable[str]) -> None:
    """Make the folder, and see that files of these names can be put into it. Raises StateError where they cannot."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        facts = {"folder": folder, "reason": error.strerror}
        raise StateError("--out: cannot write there", facts, hint="name another folder") from None
    for name in names:
        if (folder / name).is_dir():
            raise StateError("--out: a folder is where a file has to go", {"folder": folder / name})
