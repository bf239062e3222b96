"""`tinygrad-wn study NAME`: run a study, print what came out, write it as JSON, page and picture."""

from __future__ import annotations

import argparse
import inspect
import io
import json
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ..arguments import at_least, make_folder
from ..data import SETS
from ..io import put_in_place
from . import STUDIES
from .page import page

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID


class Steps(Progress):
    """Live bars; where the output is no terminal, a line for each task that begins."""

    def __init__(self, console: Console) -> None:
        live = console.is_terminal and not console.is_dumb_terminal
        columns = TextColumn("{task.description}"), BarColumn(16), TextColumn("{task.completed:.0f}/{task.total:.0f}")
        super().__init__(*columns, TimeElapsedColumn(), console=console, disable=not live)

    def add_task(self, description: str, *args: Any, **kwargs: Any) -> TaskID:
        """Begin a task."""
        if self.disable:
            self.console.print(description)
        return super().add_task(description, *args, **kwargs)


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add `study` to the commands, and a command for each study below it."""
    what = "compare weight normalization with what else there is, in an experiment"
    parser = commands.add_parser("study", help=what, description=f"{what[0].upper()}{what[1:]}.", allow_abbrev=False)
    studies = parser.add_subparsers(dest="study", metavar="NAME", required=True)
    for name, study in STUDIES.items():
        first, _, rest = (study.__doc__ or "").partition("\n")
        one = studies.add_parser(
            name,
            help=first.rstrip("."),
            description=f"{first}\n{rest}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        one.add_argument("--quick", action="store_true", help="small sizes, to see that it runs; proves nothing")
        one.add_argument("--seed", type=at_least(0), default=0, metavar="N", help="decides all that is drawn (0)")
        one.add_argument(
            "--out", type=Path, default=Path("runs", "studies"), metavar="FOLDER", help="where to write (runs/studies)"
        )
        if "data" in inspect.signature(study.run).parameters:
            known = f"{', '.join(SETS)}, or the path of a file; may be given again (the images that are installed)"
            one.add_argument("--data", action="append", metavar="NAME", help=known)


def study(options: argparse.Namespace, console: Console) -> None:
    """Run the study `options.study`, print its tables and summary, and write NAME.json, NAME.md (a page) and NAME.png.

    Raises what a command raises for bad options, before anything is run, and what the study raises.
    """
    name, module = options.study, STUDIES[options.study]
    files = [f"{name}.json", f"{name}.md", f"{name}.png"]
    make_folder(options.out, files)
    given = {"data": tuple(options.data)} if vars(options).get("data") else {}
    began = perf_counter()
    with Steps(console) as progress:
        result = module.run(options.quick, options.seed, progress, **given)
    words = ["tinygrad-wn study", name, *["--quick"] * options.quick]
    words += [f"--seed {options.seed}"] * (options.seed > 0) + [f"--data {one}" for one in given.get("data", ())]
    result = {"study": name, "command": " ".join(words), "quick": options.quick, "seed": options.seed, **result}
    result["seconds"] = round(perf_counter() - began, 1)
    text = json.dumps(result, indent=1, allow_nan=False) + "\n"
    put_in_place(options.out / files[0], lambda file: file.write(text.encode()))
    text_page = page(module, result)
    put_in_place(options.out / files[1], lambda file: file.write(text_page.encode()))
    for table in module.tables(result):
        console.print(table)
    for sentence in module.summary(result):
        console.print(sentence)
    picture = io.BytesIO()
    try:
        module.draw(result).savefig(picture, format="png")
        put_in_place(options.out / files[2], lambda file: file.write(picture.getvalue()))
    except ImportError:
        del files[2]
        console.print(f"no {name}.png: matplotlib is not installed (pip install 'tinygrad_wn[plots]')")
    console.print(f"wrote {', '.join(files)} into {options.out} after {result['seconds']:.0f} seconds")
