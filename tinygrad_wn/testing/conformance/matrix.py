"""What was found: a verdict for each property of each library, as text and as what JSON can hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

RIGHT, WRONG, LACKING = "right", "wrong", "lacking"
MARKS = {RIGHT: "✓", WRONG: "✗", LACKING: "—"}


@dataclass(frozen=True)
class Failure:
    """An example on which a library is wrong: `what` in one line, and `code`, lines of Python that show it."""

    what: str
    code: str


@dataclass(frozen=True)
class Verdict:
    """`status` is "right", "wrong" or "lacking", with the failing examples, or why it is lacking.

    >>> from tinygrad_wn.testing import Implementation, check_weight_norm
    >>> check_weight_norm(Implementation("mine", np.multiply), properties=["jvp"])["mine", "jvp"]
    Verdict(status='lacking', failures=(), reason='there is no function jvp')
    """

    status: str
    failures: tuple[Failure, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Matrix:
    """Verdicts by library and property; `str` shows the marks, and below them every failing example.

    >>> from tinygrad_wn.testing.conformance.matrix import Failure, Matrix, Verdict
    >>> verdicts = {"values": Verdict("right"), "state": Verdict("wrong", (Failure("v_back is NaN", "print(v_back)"),))}
    >>> matrix = Matrix({"mine": "1.0"}, {"mine": verdicts})
    >>> matrix.passed, matrix["mine", "values"].status
    (False, 'right')
    >>> print(matrix)
                mine
    values      ✓
    state       ✗
    <BLANKLINE>
    mine, state: v_back is NaN
        print(v_back)
    """

    versions: dict[str, str]
    verdicts: dict[str, dict[str, Verdict]]

    @property
    def passed(self) -> bool:
        """Whether no library is wrong in anything."""
        return not any(one.status == WRONG for column in self.verdicts.values() for one in column.values())

    @property
    def properties(self) -> list[str]:
        """Names of the rows."""
        return list(dict.fromkeys(name for column in self.verdicts.values() for name in column))

    def __getitem__(self, place: tuple[str, str]) -> Verdict:
        """The verdict on a library and a property."""
        library, name = place
        return self.verdicts[library][name]

    def __str__(self) -> str:
        """The table without lines, and the failing examples."""
        first = max(map(len, self.properties), default=0) + 2
        widths = {name: max(len(name), 1) + 2 for name in self.verdicts}
        rows = ["".join([" " * first, *(name.ljust(width) for name, width in widths.items())])]
        for name in self.properties:
            marks = (MARKS[self[library, name].status].ljust(width) for library, width in widths.items())
            rows.append("".join([name.ljust(first), *marks]))
        return "\n".join([*(row.rstrip() for row in rows), *self.notes()])

    def notes(self) -> list[str]:
        """Why something is lacking, and every failing example, as lines of text."""
        lines: list[str] = []
        for library, column in self.verdicts.items():
            for name, verdict in column.items():
                if verdict.reason:
                    lines += ["", f"{library}, {name}: lacking, {verdict.reason}"]
                for failure in verdict.failures:
                    lines += ["", f"{library}, {name}: {failure.what}"]
                    lines += [f"    {line}" for line in failure.code.splitlines()]
        return lines

    def as_json(self) -> dict[str, Any]:
        """The same as dicts, lists and strings."""
        return {
            "versions": self.versions,
            "verdicts": {
                library: {
                    name: {
                        "status": one.status,
                        "reason": one.reason,
                        "failures": [{"what": f.what, "code": f.code} for f in one.failures],
                    }
                    for name, one in column.items()
                }
                for library, column in self.verdicts.items()
            },
        }
