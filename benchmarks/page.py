"""Figures for readers: what a JSON file says goes between marks of pages and into a chart, and the file is kept.

The file is what `python -m benchmarks --json` or `tinygrad-wn check --json` wrote.
"""

import json
import shlex
from pathlib import Path
from typing import Any

from . import chart
from .files import write_whole
from .tables import Table, tables

ROOT = Path(__file__).parent.parent
BENCHMARKS, MATRIX = "docs/benchmarks.json", "docs/conformance.json"
MARKS = {"right": "✓", "wrong": "✗", "lacking": "—"}
EXAMPLES = "torch"
"""The library whose smallest failing examples are shown."""


class PageError(ValueError):
    """A page or a JSON file that is not what it should be."""


def publish(source: Path, root: Path = ROOT) -> None:
    """Keep `source` under `root`, and renew what is made of it. Raises PageError, and changes nothing, for misfits."""
    text = source.read_text(encoding="utf-8")
    try:
        results = json.loads(text)
        kept, found = (MATRIX, matrix(results)) if "verdicts" in results else (BENCHMARKS, measured(results))
    except (ValueError, KeyError, TypeError, AttributeError):
        what = "python -m benchmarks --json or tinygrad-wn check --json"
        raise PageError(f"{source}: not a file that {what} wrote") from None
    pages: dict[str, str] = {}
    for (page, name), new in found.items():
        pages[page] = replaced(pages.get(page) or (root / page).read_text(encoding="utf-8"), page, name, kept, new)
    files = {kept: text.encode(), **{page: whole.encode() for page, whole in pages.items()}}
    if kept == BENCHMARKS and results["suites"].get("steps"):
        if not chart.can_draw():
            raise PageError("the chart needs matplotlib: pip install 'tinygrad_wn[plots]'")
        files["docs/benchmarks.svg"] = chart.summary(results)
    for path, content in files.items():
        write_whole(root / path, content)


def replaced(whole: str, page: str, name: str, kept: str, new: str) -> str:
    """The text of a page with `new` between the two marks of this name."""
    start, end = f"<!-- {name}: python -m benchmarks --docs {kept} -->", f"<!-- end of {name} -->"
    before, first, rest = whole.partition(start)
    _, last, after = rest.partition(end)
    if not (first and last):
        raise PageError(f"{page}: lacks the marks {start} and {end}")
    return f"{before}{start}\n\n{new}\n\n{end}{after}"


def measured(results: dict[str, Any]) -> dict[tuple[str, str], str]:
    """Of the benchmarks, by page and mark: every table, and the chart with the machine it is about."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    command = f"`{shlex.join(results['command'])}`, {results['rounds']} rounds"
    where = f"{machine['cpu']}, {machine['cores']} cores"
    more = f"{machine['system']}, Python {machine['python']}, {machine['blas']}"
    lines = [f"{command}, on {where}, vectors of {machine['vector_bytes']} bytes; {more}; {versions}.", ""]
    lines += [f"Not measured: {name}, as {reason}.\n" for name, reason in results["skipped"].items()]
    lines += [f"Failed: {who}: {why}\n" for who, why in results["errors"].items()]
    for name, result in results["suites"].items():
        lines += [f"### {name}", ""]
        for table in tables(name, result):
            lines += [*_markdown(table), ""]
    shown = (
        "[![Time of a training step of each framework](docs/benchmarks.svg)](docs/benchmarks.md)\n\n"
        f"A weight-normalized training step, float32, at the best thread count of each; {command}, on {where}."
    )
    return {("docs/benchmarks.md", "figures"): "\n".join(lines).strip(), ("README.md", "chart"): shown}


def matrix(results: dict[str, Any]) -> dict[tuple[str, str], str]:
    """Of `tinygrad-wn check`, by page and mark: the table of verdicts, and the examples on which one library fails."""
    verdicts = results["verdicts"]
    properties, *_ = verdicts.values()
    body = [[name, *(MARKS[column[name]["status"]] for column in verdicts.values())] for name in properties]
    table = "\n".join(_lines(Table("", ["", *verdicts], body), ":---:"))
    versions = ", ".join(f"{name} {version}".strip() for name, version in results["versions"].items())
    examples: list[str] = []
    for name, one in verdicts.get(EXAMPLES, {}).items():
        if one["reason"]:
            examples += ["", f"{EXAMPLES}, {name}: lacking, {one['reason']}"]
        for failure in one["failures"]:
            examples += ["", f"{EXAMPLES}, {name}: {failure['what']}"]
            examples += [f"    {line}" for line in failure["code"].splitlines()]
    return {
        ("README.md", "matrix"): table,
        ("docs/conformance.md", "matrix"): f"{table}\n\nWith {versions}.",
        ("docs/conformance.md", "examples"): "\n".join(["```text", *examples[1:], "```"]),
    }


def _markdown(table: Table) -> list[str]:
    return [f"**{table.title}**", "", *_lines(table, "---:")]


def _lines(table: Table, align: str) -> list[str]:
    rows = [table.headings, ["---", *[align] * (len(table.headings) - 1)], *table.rows]
    return [f"| {' | '.join(row)} |" for row in rows]
