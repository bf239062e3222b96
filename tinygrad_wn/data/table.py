"""CSV: a row of numbers a line, one column of them the label, with or without a line of names."""

from __future__ import annotations

import csv
import gzip
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ShapeError, StateError, ValueRangeError
from .dataset import Dataset
from .raw import content

if TYPE_CHECKING:
    from pathlib import Path

LABELS = ("label", "class", "target", "y")
"""Names of a column that holds the labels where nothing else is said."""


def read_csv(path: Path, label: str | int | None = None) -> Dataset:
    """Rows and labels of a file of text (UTF-8, also as .gz) with commas, semicolons or tabs between numbers.

    A first line with text in it names the columns. The labels are whole numbers in the column `label`,
    given by name or by number (from 0; -1 is the last); by default in the one that is named label, class, target or y,
    else in the last. Empty lines are left out.

    Raises StateError with the line and what was wrong in it, ValueRangeError for a column that is not there, ShapeError
    where there are no rows or only one column, what `Dataset` raises, and an OSError with advice where the file cannot
    be opened.
    """
    lines = [(number, line) for number, line in enumerate(_text(path).splitlines(), 1) if line.strip()]
    first, last = (lines[i][1] if lines else "" for i in (0, -1))
    delimiter = max(",;\t", key=last.count)  # names may hold any of them
    cells = _cells(first, delimiter)
    facts: dict[str, Any] = {"file": path.absolute(), "columns": len(cells)}
    if len(cells) < 2:
        hint = "each line needs a label and at least one more number, with a comma between them"
        raise ShapeError("load: a .csv file of fewer than two columns", facts, hint=hint)
    named = any(cell.strip() and _number(cell) is None for cell in cells)
    header = [cell.strip() for cell in cells] if named else []
    column = _column(label, header, facts)
    rows = lines[1:] if header else lines
    if not rows:
        raise ShapeError("load: a .csv file without rows", facts | {"names": ", ".join(header)})
    try:
        values = np.loadtxt([row for _, row in rows], delimiter=delimiter, comments=None, quotechar='"', ndmin=2)
        fits = values.shape == (len(rows), len(cells))
    except ValueError:
        fits = False
    if not fits:
        raise _diagnosed(rows, delimiter, facts)
    labels = values[:, column]
    whole = np.isfinite(labels) & (labels == np.floor(labels)) & (np.abs(labels) < 2**53)
    if not whole.all():
        row = int(np.flatnonzero(~whole)[0])
        facts |= {"line": rows[row][0], "column": header[column] if header else column, "label": labels[row]}
        raise ValueRangeError("load: labels must be whole numbers", facts, hint="label=... names another column")
    return Dataset(np.delete(values, column, axis=1), labels.astype(np.int64), name=str(path))


def _text(path: Path) -> str:
    raw = content(path)
    facts: dict[str, Any] = {"file": path.absolute(), "bytes": len(raw)}
    try:
        return (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        facts["reason"] = f"{type(error).__name__}: {error}"
        raise StateError("load: a damaged .gz file", facts, hint="get the file again") from None
    except UnicodeDecodeError as error:
        facts["reason"] = str(error)
        raise StateError("load: a .csv file that is not text in UTF-8", facts, hint="write it again as UTF-8") from None


def _number(cell: str) -> float | None:
    """What NumPy's reader takes for a number; Python takes 1_000, too."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _column(label: str | int | None, header: list[str], facts: dict[str, Any]) -> int:
    """The number of the column of labels."""
    count = facts["columns"]
    if label is None:
        usual = [i for i, name in enumerate(header) if name.lower() in LABELS]
        return usual[0] if usual else count - 1
    if isinstance(label, str):
        if label in header:
            return header.index(label)
        facts = {**facts, "label": label, "names": ", ".join(header) or "the file has no line of names"}
        raise ValueRangeError("load: no column has this name", facts, hint="label=-1 takes the last")
    if not -count <= label < count:
        raise ValueRangeError("load: no column has this number", {**facts, "label": label}, hint="label=-1, the last")
    return label


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


def _diagnosed(rows: list[tuple[int, str]], delimiter: str, facts: dict[str, Any]) -> StateError:
    """An error that says in which line something else than so many numbers is."""
    for number, line in rows:
        cells = _cells(line, delimiter)
        if len(cells) != facts["columns"]:
            facts |= {"line": number, "in this line": len(cells)}
            return StateError("load: a line with another number of columns", facts)
        for column, cell in enumerate(cells):
            if _number(cell) is None:
                facts |= {"line": number, "column": column, "cell": repr(cell)}
                hint = "columns hold numbers alone; np.unique(names, return_inverse=True)[1] numbers names"
                hint = hint if cell.strip() else "fill it in, or leave the line out"
                return StateError("load: a cell that is not a number", facts, hint=hint)
    return StateError("load: not a file of numbers", facts)
