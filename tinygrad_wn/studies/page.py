"""A result as a page in Markdown: what was asked, where it was run, figures, sentences and the picture."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from . import Study


def page(study: Study, result: dict[str, Any]) -> str:
    """The page of a result that `tinygrad-wn study` wrote as JSON; the picture lies beside it."""
    name, where = result["study"], result["environment"]
    versions = ", ".join(f"{package} {version}" for package, version in where["versions"].items())
    came_from = (
        f"By `{result['command']}` in {result['seconds']:.0f} seconds, on {where['cpu']}, {where['cores']} cores, "
        f"kernels on {where['threads']}; {where['system']}, Python {where['python']}; {versions}."
    )
    found = [f"# Study: {name}", (study.__doc__ or "").strip(), _filled(came_from), f"![What came out]({name}.png)"]
    found += map(_table, study.tables(result))
    found.append("\n".join(_filled(sentence, "- ") for sentence in study.summary(result)))
    return "\n\n".join(found) + "\n"


def _filled(text: str, mark: str = "") -> str:
    return textwrap.fill(text, 120, initial_indent=mark, subsequent_indent=" " * len(mark), break_on_hyphens=False)


def _table(table: Table) -> str:
    names = [str(column.header) for column in table.columns]
    rows = zip(*(map(str, column.cells) for column in table.columns), strict=True)
    lines = [f"| {' | '.join(cells)} |" for cells in [names, ["---"] * len(names), *rows]]
    return "\n".join([f"{table.title}:", "", *lines] if table.title else lines)
