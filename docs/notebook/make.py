"""Make the two notebooks of `source.md`: `handout.ipynb` with holes for students, `solution.ipynb` without.

    python docs/notebook/make.py [FOLDER]

writes both into FOLDER, or beside this file. In a code cell, the lines from `### BEGIN SOLUTION` to `### END SOLUTION`
become a hole. A text cell with the tag "solution" is left out of the handout. A code cell with the tag "needs-solution"
may raise there, as long as holes are open; the site does not show what.
"""

import re
import sys
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

SOURCE = Path(__file__).with_name("source.md")
REGION = re.compile(r"^( *)### BEGIN SOLUTION\n(.*?)^ *### END SOLUTION$", re.MULTILINE | re.DOTALL)
HOLE = r"\1# Write your code here, in the place of the next line.\n\1raise NotImplementedError"
ANSWER = "*Your answer:*"


def notebooks(text: str) -> dict[str, NotebookNode]:
    r"""Both notebooks of a source, by the names of their files.

    >>> cell = "def f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION"
    >>> made = notebooks(f"```{{code-cell}}\n{cell}\n```")
    >>> print(made["handout.ipynb"].cells[0].source)
    def f():
        # Write your code here, in the place of the next line.
        raise NotImplementedError
    >>> print(made["solution.ipynb"].cells[0].source)
    def f():
        return 1
    """
    return {"handout.ipynb": made(text, handout=True), "solution.ipynb": made(text, handout=False)}


def made(text: str, *, handout: bool) -> NotebookNode:
    """One of the notebooks; cells have numbers for ids, so that the same source gives the same file."""
    book = jupytext.reads(text, fmt="md:myst")
    book.metadata = {"kernelspec": book.metadata.get("kernelspec", {}), "language_info": {"name": "python"}}
    for number, cell in enumerate(book.cells):
        cell.id, tags = f"cell-{number}", cell.metadata.pop("tags", [])
        if cell.cell_type == "code":
            cell.source = REGION.sub(HOLE if handout else lambda region: region[2].removesuffix("\n"), cell.source)
            if handout and "needs-solution" in tags:
                cell.metadata.tags = ["raises-exception", "remove-output"]
        elif handout and "solution" in tags:
            cell.source = ANSWER
    return book


def main(folder: Path) -> None:
    """Write both notebooks into a folder that is there."""
    for name, book in notebooks(SOURCE.read_text(encoding="utf-8")).items():
        nbformat.validate(book)
        (folder / name).write_text(nbformat.writes(book) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCE.parent)
