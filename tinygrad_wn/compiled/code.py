"""What the code of a function says without being run: which names it reads and writes, and where."""

from __future__ import annotations

import dis
from types import CodeType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

WRITES = ("STORE_GLOBAL", "STORE_DEREF", "STORE_ATTR", "STORE_NAME")
MAKERS = ("default_rng", "RandomState")
"""What makes generators of random numbers, from a seed if one is given."""
BETWEEN = ("PRECALL", "PUSH_NULL", "CACHE")
"""What stands between a function that is loaded and its call."""


def codes(code: CodeType) -> Iterator[CodeType]:
    """A code, and those of the functions that are made in it."""
    yield code
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from codes(one)


def read_names(code: CodeType) -> list[str]:
    """Names of globals that a code reads."""
    return [step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")]


def written_names(code: CodeType) -> set[str]:
    """Names and attributes that a code writes to."""
    return {step.argval for step in dis.get_instructions(code) if step.opname in WRITES}


def _places(code: CodeType) -> Iterator[tuple[Any, str]]:
    """Each instruction, and where it stands."""
    line = code.co_firstlineno
    for step in dis.get_instructions(code):
        line = step.positions.lineno if step.positions and step.positions.lineno else line
        yield step, f"{code.co_filename}:{line}"


def place_of_write(among: Iterable[CodeType], key: Any) -> str:
    """Where a name is written to, as far as the codes show; else where the first one begins."""
    first = ""
    for code in among:
        first = first or f"{code.co_filename}:{code.co_firstlineno}"
        for step, place in _places(code):
            if step.opname in WRITES and step.argval == key:
                return place
    return first or "unknown"


def unseeded(code: CodeType) -> str:
    """Where a code makes a generator of random numbers and gives no seed; "" if it does not."""
    made = ""
    for step, place in _places(code):
        if made and step.opname == "CALL":
            return made
        if step.opname not in BETWEEN:
            made = place if step.argval in MAKERS else ""
    return ""
