"""`tinygrad-wn check`: judge libraries, print the matrix and the failing examples, write them as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

from rich.table import Table

from ...errors import StateError, ValueRangeError
from . import check_weight_norm
from .adapters import ADAPTERS, adapter
from .implementation import Implementation
from .matrix import LACKING, MARKS, RIGHT, WRONG

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

PLAIN_MARKS = {RIGHT: "ok", WRONG: "WRONG", LACKING: "-"}
"""Where the output is in an encoding without the usual marks."""

__all__ = ["ADAPTERS", "check"]


def check(names: Sequence[str], file: Path | None, console: Console) -> int:
    """Judge the libraries of these names ("ours" for none), and give the exit code: 1 where one is wrong.

    Raises, before anything is judged: LibraryMissingError where a library or Hypothesis is not installed,
    ValueRangeError for another name, StateError for a file that cannot be written.

    >>> from rich.console import Console
    >>> from tinygrad_wn.testing.conformance.command import check
    >>> check(["theirs"], None, Console())
    Traceback (most recent call last):
        ...
    tinygrad_wn.errors.ValueRangeError: no such library
      given : theirs
      hint  : one of ours, torch, equinox, jax
    """
    if file is not None and (file.is_dir() or not file.parent.is_dir()):
        raise StateError("--json: cannot write there", {"file": file}, hint="name a file in a folder that is there")
    impls = [load(name) for name in dict.fromkeys(names or ["ours"])]
    with console.status(f"checking {', '.join(impl.name for impl in impls)}"):
        matrix = check_weight_norm(*impls)
    marks = MARKS if console.encoding.startswith("utf") else PLAIN_MARKS
    table = Table("", *matrix.verdicts)
    for name in matrix.properties:
        table.add_row(name, *(marks[matrix[library, name].status] for library in matrix.verdicts))
    console.print(", ".join(f"{name} {version}".strip() for name, version in matrix.versions.items()))
    console.print(table)
    for line in matrix.notes():
        console.print(line)
    if file is not None:
        file.write_text(json.dumps(matrix.as_json(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return 0 if matrix.passed else 1


def load(name: str) -> Implementation:
    """An adapter that ships with the package, or the Implementation `NAME` of a module, for a name "MODULE:NAME".

    A module is looked for in the current folder first. Raises as `check` does.

    >>> from tinygrad_wn.testing.conformance.command import load
    >>> load("ours").name
    'ours'
    """
    module, colon, attribute = name.partition(":")
    if not colon:
        return adapter(name)
    sys.path.insert(0, "")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        facts = {"given": name, "reason": f"{type(error).__name__}: {error}"}
        raise ValueRangeError(
            "cannot load an implementation", facts, hint="give MODULE:NAME, such as mine:wn"
        ) from None
    finally:
        sys.path.remove("")
    if not isinstance(found, Implementation):
        hint = "make a tinygrad_wn.testing.Implementation of it"
        raise ValueRangeError("not an Implementation", {"given": name, "is": type(found).__name__}, hint=hint)
    if found.setup != Implementation.setup:
        return found
    return replace(found, setup=f"from {module} import {attribute} as wn")
