"""What a student reads after a check: right and what was tried, wrong and the smallest example, or not yet written."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

RIGHT, WRONG, UNWRITTEN = "right", "wrong", "not yet"
MARKS = {RIGHT: "✓", WRONG: "✗", UNWRITTEN: "…"}
WIDTH = 88
"""Of prose in a report; lines of code, which are indented, stay as they are."""


@dataclass(frozen=True)
class Report:
    """The outcome of a check; a notebook shows it as text. `status` is "right", "wrong" or "not yet".

    >>> from tinygrad_wn.testing.autograder import Report
    >>> Report("addition", "not yet", ("Value.__add__ still raises NotImplementedError.",))
    … addition: not yet
      Value.__add__ still raises NotImplementedError.
    """

    title: str
    status: str
    lines: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the exercise is solved."""
        return self.status == RIGHT

    def __repr__(self) -> str:
        """A mark, the title and the status, and below them the lines."""
        shown = [f"{MARKS[self.status]} {self.title}: {self.status}"]
        for line in self.lines:
            shown += [f"  {part}" for part in ([line] if line.startswith(" ") else textwrap.wrap(line, WIDTH))]
        return "\n".join(shown)


def unwritten(title: str, hole: str) -> Report:
    """The report on an exercise of which a part is still to be written.

    >>> from tinygrad_wn.testing.autograder.report import unwritten
    >>> unwritten("addition", "Value.__add__").passed
    False
    """
    return Report(
        title,
        UNWRITTEN,
        (
            f"{hole} still raises NotImplementedError.",
            "Write it, run its cell again, and then this one.",
        ),
    )
