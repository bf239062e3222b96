"""Tables in the terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table

from .tables import tables


def head(console: Console, results: dict[str, Any]) -> None:
    """The machine, and who does not take part."""
    found = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    console.print(f"{found['cpu']}, {found['cores']} cores, vectors of {found['vector_bytes']} bytes, {found['blas']}")
    console.print(f"Python {found['python']}, {versions}; {results['rounds']} rounds")
    for name, reason in results["skipped"].items():
        console.print(f"{name} is skipped: {reason}")


def suite(console: Console, name: str, result: Any) -> None:
    """All tables of a suite."""
    for one in tables(name, result):
        table = Table(title=f"{name}: {one.title}", title_justify="left")
        for i, heading in enumerate(one.headings):
            table.add_column(heading, justify="right" if i else "left")
        for row in one.rows:
            table.add_row(*row)
        console.print(table)
