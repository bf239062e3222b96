"""The figures of docs/benchmarks.md, written between two marks from a JSON file."""

import json
from pathlib import Path
from typing import Any

from .files import write_whole
from .tables import Table, tables

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
START, END = "<!-- figures: python -m benchmarks --docs -->", "<!-- end of figures -->"


class PageError(ValueError):
    """A page or a JSON file that is not what it should be."""


def rewrite(source: Path, page: Path = PAGE) -> None:
    """Put the figures of `source` into `page`. Raises PageError, and changes nothing, where either does not fit."""
    try:
        results = json.loads(source.read_text(encoding="utf-8"))
        text = figures(results)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise PageError(f"{source}: not a file that python -m benchmarks --json wrote") from None
    whole = page.read_text(encoding="utf-8")
    before, start, rest = whole.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise PageError(f"{page}: lacks the marks {START} and {END}")
    write_whole(page, f"{before}{START}\n\n{text}\n{END}{after}".encode())


def figures(results: dict[str, Any]) -> str:
    """Markdown: the command and the machine, then a section a suite."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    where = (
        f"`{' '.join(results['command'])}`, {results['rounds']} rounds, on {machine['cpu']}, {machine['cores']} cores, "
        f"vectors of {machine['vector_bytes']} bytes; {machine['system']}, Python {machine['python']}, "
        f"{machine['blas']}; {versions}."
    )
    lines = [where, ""]
    lines += [f"Not measured: {name}, as {reason}.\n" for name, reason in results["skipped"].items()]
    lines += [f"Failed: {who}: {why}\n" for who, why in results["errors"].items()]
    for name, result in results["suites"].items():
        lines += [f"### {name}", ""]
        for table in tables(name, result):
            lines += [*_markdown(table), ""]
    return "\n".join(lines)


def _markdown(table: Table) -> list[str]:
    rows = [table.headings, ["---", *["---:"] * (len(table.headings) - 1)], *table.rows]
    return [f"**{table.title}**", "", *(f"| {' | '.join(row)} |" for row in rows)]
