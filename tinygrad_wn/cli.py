"""The command line: `tinygrad-wn train`, `eval`, `cache`, `check`, `study` and `bench`.

Whatever is wrong with a command or a file ends in one line on stderr and exit code 2, before anything is trained.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import json
import math
import os
import statistics
import sys
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from . import __version__, data, io, nn, plots, train
from .arguments import at_least, make_folder, momentum, rate, sizes
from .errors import ShapeError, StateError, TinygradWNError, ValueRangeError
from .interrupt import ctrl_c_ends, ctrl_c_wins
from .kernels.emitted import cache_folder, clear_cache
from .studies import command as studies
from .testing.conformance import command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NETWORKS = {"both": ("weight-norm", "plain"), "weight": ("weight-norm",), "none": ("plain",)}
RATES = {"sgd": 0.05, "adam": 0.003, "adamw": 0.003}
SOURCES = f"{', '.join(data.SETS)}, or the path of an .npz or .csv file, or of IDX files"
SPLIT = {"test": 0.2, "seed": 0}
"""Share and seed of the test rows: the same for every run, so that runs can be compared, and written into the model."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, and give its exit code: 0, 1 where a check fails, 2 for bad input, 130 after Ctrl-C.

    `argv` is what follows `tinygrad-wn`; None takes the arguments of the process. As `argparse` does, `--help` and
    `--version` end in SystemExit.

    >>> from tinygrad_wn.cli import main
    >>> main(["eval", "no-such-file.npz"])
    2
    """
    given = sys.argv[1:] if argv is None else argv
    if given and given[0] == "bench":
        return _bench(given[1:])
    parser = _parser()
    try:
        options = parser.parse_args(given)
        if options.command is None:
            parser.print_help(sys.stderr)
            return 2
        terminal = sys.stdout.isatty()
        console = Console(force_terminal=terminal, markup=False, highlight=False, emoji=False, soft_wrap=True)
        if options.command == "check":
            return command.check(options.libraries, options.json, console)
        with train.one_blas_thread(), ctrl_c_wins():
            {"train": _train, "eval": _eval, "cache": _cache, "study": studies.study}[options.command](options, console)
    except KeyboardInterrupt:
        print("tinygrad-wn: interrupted", file=sys.stderr)
        return 130
    except (TinygradWNError, OSError, MemoryError, UnicodeError) as error:
        print(f"tinygrad-wn: {_one_line(error)}", file=sys.stderr)
        return 2
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Leave the one line on stderr to `main`."""
        raise ValueRangeError(message, hint="tinygrad-wn COMMAND --help lists the options")


def _parser() -> _Parser:
    parser = _Parser(prog="tinygrad-wn", description="Train small networks with weight normalization, w = g v / |v|.")
    parser.add_argument("--version", action="version", version=f"tinygrad_wn {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    one = commands.add_parser(
        "train",
        help="train with and without weight normalization, side by side",
        description="Train a network of Linear and ReLU layers with and without weight normalization, from the same "
        "weights and on the same batches; print a table; write the models, the history and the learning curves.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = one.add_argument
    add("--data", default="digits", metavar="NAME", help=SOURCES)
    add("--hidden", type=sizes, default="64,32", metavar="SIZES", help="sizes of the hidden layers")
    add("--norm", choices=NETWORKS, default="both", help="which networks: weight-normalized, plain, or both")
    add("--optimizer", choices=RATES, default="sgd", help="update rule")
    rates = ", ".join(f"{rate} for {name}" for name, rate in RATES.items())
    add("--lr", type=rate, metavar="RATE", help=f"learning rate (default: {rates})", default=argparse.SUPPRESS)
    add("--momentum", type=momentum, metavar="M", help="for sgd (default: 0.9)", default=argparse.SUPPRESS)
    add("--epochs", type=at_least(1), default=30, metavar="N", help="passes over the training rows")
    add("--batch", type=at_least(1), default=32, metavar="N", help="rows in a step")
    add("--seed", type=at_least(0), default=0, metavar="N", help="decides initial weights and batches")
    add("--eager", action="store_true", help="do not compile the step")
    add("--out", type=Path, metavar="FOLDER", help="where to write (default: runs/NAME)", default=argparse.SUPPRESS)

    two = commands.add_parser(
        "eval",
        help="load a model and score it",
        description="Load a model and score it: on the test rows of the data that it was trained on, or on all rows of "
        "other data.",
        allow_abbrev=False,
    )
    two.add_argument("model", type=Path, metavar="MODEL", help="a file that train or tg.save wrote")
    two.add_argument("--data", metavar="NAME", help=f"{SOURCES} (default: as trained)")

    three = commands.add_parser(
        "cache",
        help="where compiled steps are kept, and how to remove them",
        description="Print the folder in which steps that tg.jit compiled are kept, and how many. TINYGRAD_WN_CACHE "
        "names another one.",
        allow_abbrev=False,
    )
    three.add_argument("--clear", action="store_true", help="remove them")

    four = commands.add_parser(
        "check",
        help="judge the weight normalization of this package and of others",
        description="Try what a weight normalization must do on examples that Hypothesis draws, and print a matrix: a "
        "row for each property, a column for each library, and the smallest examples on which one is wrong. The exit "
        "code is 1 where one is.",
        allow_abbrev=False,
    )
    known = ", ".join(command.ADAPTERS)
    four.add_argument("libraries", nargs="*", metavar="LIBRARY", help=f"{known}, or MODULE:NAME (default: ours)")
    four.add_argument("--json", type=Path, metavar="FILE", help="write the matrix there, too")

    studies.add_parser(commands)

    commands.add_parser("bench", help="measure speed beside other frameworks; needs a clone of the repository")
    return parser


def _bench(arguments: Sequence[str]) -> int:
    """Hand over to the folder `benchmarks`, which is no part of the installed package."""
    sys.path.append(str(Path.cwd()))
    if find_spec("benchmarks") is None:
        where = "run it in the folder of a clone of the repository"
        print(f"tinygrad-wn: bench: the benchmarks are not installed; {where}", file=sys.stderr)
        return 2
    return import_module("benchmarks.command").main(arguments)


def _train(options: argparse.Namespace, console: Console) -> None:
    if "momentum" in options and options.optimizer != "sgd":
        raise ValueRangeError("--momentum is for --optimizer sgd", {"optimizer": options.optimizer})
    plan = train.Plan(
        networks=NETWORKS[options.norm],
        hidden=options.hidden,
        optimizer=options.optimizer,
        lr=vars(options).get("lr", RATES[options.optimizer]),
        momentum=vars(options).get("momentum", 0.9 if options.optimizer == "sgd" else 0.0),
        epochs=options.epochs,
        batch=options.batch,
        seed=options.seed,
        compiled=not options.eager,
    )
    whole = data.by_name(options.data)
    if whole.classes < 2:
        raise ValueRangeError("train: all rows have label 0, so there is nothing to learn", {"data": options.data})
    train_rows, test_rows = data.split(whole, SPLIT["test"], int(SPLIT["seed"]))
    features = whole.x.shape[1]
    models = train.networks(plan, features, whole.classes)
    files = {name: f"{name}.npz" for name in models}
    out = vars(options).get("out", Path("runs", Path(options.data).stem))
    make_folder(out, [*files.values(), "history.jsonl", "curves.png"])

    title = (
        f"{options.data}: {len(train_rows.y)} rows to train on, {len(test_rows.y)} to test\n"
        f"{'-'.join(map(str, (features, *plan.hidden, whole.classes)))}, {plan.optimizer}, learning rate {plan.lr}, "
        f"{f'momentum {plan.momentum}, ' if plan.optimizer == 'sgd' else ''}batch {plan.batch}, seed {plan.seed}"
    )
    console.print(title)
    history = _fit(plan, models, train_rows, test_rows, console)
    cut = history[-1].epoch < plan.epochs
    if cut and (out / "history.jsonl").exists():
        console.print(f"nothing is written: {out} keeps the run before")
        raise KeyboardInterrupt
    console.print(_table(history, len(models)))

    for name, model in models.items():
        metadata = {"data": _lasting(options.data), "rows": _mark(whole), "split": SPLIT}
        metadata |= {"network": name, "plan": asdict(plan)}
        io.save(model, out / files[name], metadata)
    lines = "".join(json.dumps(asdict(record), allow_nan=False) + "\n" for record in history)
    io.put_in_place(out / "history.jsonl", lambda file: file.write(lines.encode()))
    try:
        picture = plots.curves(history, title)
        io.put_in_place(out / "curves.png", lambda file: file.write(picture))
        drawn = ["curves.png"]
    except ImportError:
        drawn = []
        console.print("no curves.png: matplotlib is not installed (pip install 'tinygrad_wn[plots]')")
    console.print(f"wrote {', '.join([*files.values(), 'history.jsonl', *drawn])} into {out}")
    if cut:
        raise KeyboardInterrupt


def _fit(
    plan: train.Plan, models: dict[str, nn.Sequential], rows: data.Dataset, test: data.Dataset, console: Console
) -> list[train.Record]:
    """Train under a live bar for each network; where the output is no terminal, print about ten lines instead.

    Ctrl-C ends it after the first epoch.
    """
    history: list[train.Record] = []
    steps = math.ceil(len(rows.y) / plan.batch) * plan.epochs
    live = console.is_terminal and not console.is_dumb_terminal
    # 76 columns wide: in a line that fills the terminal, the ^C that it echoes would break the line
    columns = TextColumn("{task.description:11}"), BarColumn(16), TextColumn("{task.fields[shown]}")
    bar = Progress(*columns, TimeElapsedColumn(), console=console, disable=not live)
    with ctrl_c_ends(history), bar as progress:
        tasks = {name: progress.add_task(name, total=steps, shown="compiling") for name in models}

        def after_batch() -> None:
            for task in tasks.values():
                progress.advance(task)

        for records in train.fit(plan, models, rows, test, after_batch):
            history += records
            epoch = f"epoch {records[0].epoch}/{plan.epochs}"
            shown = {r.network: f"loss {r.train_loss:.4f} accuracy {r.test_accuracy:.2%}" for r in records}
            for name, task in tasks.items():
                progress.update(task, shown=f"{epoch} {shown[name]}")
            if not live and (records[0].epoch % math.ceil(plan.epochs / 10) == 0 or records[0].epoch == plan.epochs):
                console.print("  ".join([epoch, *(f"{name}: {text}" for name, text in shown.items())]))
    return history


def _time(seconds: float) -> str:
    return f"{1e6 * seconds:.1f} µs" if seconds < 1e-3 else f"{1e3 * seconds:.1f} ms"


def _table(history: list[train.Record], networks: int) -> Table:
    last = history[-networks:]
    seconds = {
        r.network: statistics.median(h.seconds_per_step for h in history if h.network == r.network) for r in last
    }
    table = Table("", *(r.network for r in last))
    rows: dict[str, Callable[[train.Record], str]] = {
        "test accuracy": lambda r: f"{r.test_accuracy:.2%}",
        "final train loss": lambda r: f"{r.train_loss:.4f}",
        "final test loss": lambda r: f"{r.test_loss:.4f}",
        "median time per step": lambda r: _time(seconds[r.network]),
        "mean |v| of a row": lambda r: "(has no v)" if r.mean_norm_v is None else f"{r.mean_norm_v:.3f}",
        "mean |w| of a row": lambda r: f"{r.mean_norm_w:.3f}",
    }
    for name, shown in rows.items():
        table.add_row(name, *map(shown, last))
    return table


def _cache(options: argparse.Namespace, console: Console) -> None:
    folder = cache_folder()
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if options.clear:
        console.print(f"removed {clear_cache()} compiled steps from {folder}")
    else:
        size = sum(one.stat().st_size for one in folder.rglob("step_*")) / 1e6
        console.print(f"{len(list(folder.glob('step_*.py')))} compiled steps ({size:.1f} MB) in {folder}")


def _eval(options: argparse.Namespace, console: Console) -> None:
    metadata, model = io.load_metadata(options.model), io.load(options.model)
    if not isinstance(model, nn.Module):
        raise StateError("eval: the file holds arrays, not a model", hint="tg.save(model, path) writes a model")
    trained = metadata.get("data")
    name = options.data or trained
    if not isinstance(name, str):
        raise StateError("eval: the file does not say what data the model was trained on", hint="give --data")
    rows, what = data.by_name(name), "all"
    if trained == _lasting(name):
        part = _split_of(metadata)
        if metadata.get("rows", "") not in ("", _mark(rows)):
            hint = "train again; to score all rows, give the file under another name with --data"
            raise StateError("eval: the data changed since the training, so test rows are unknown", hint=hint)
        rows, what = data.split(rows, **part)[1], "test"
    sizes = [layer.in_features for _, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    if sizes[:1] != [rows.x.shape[1]]:
        facts = {"features of the model": str(*sizes[:1]), "features of the data": rows.x.shape[1]}
        raise ShapeError("eval: the model and the data do not fit together", facts, hint="give other --data")
    loss, accuracy = train.score(model.eval(), rows)
    console.print(f"{options.model} on {name}, {what} {len(rows.y)} rows: accuracy {accuracy:.2%}, loss {loss:.4f}")


def _lasting(name: str) -> str:
    """A name of data that means the same in every folder."""
    return name if name in data.SETS else str(Path(name).absolute())


def _mark(rows: data.Dataset) -> str:
    """What changes when a row does."""
    return hashlib.sha256(rows.x.tobytes() + rows.y.tobytes()).hexdigest()


def _split_of(metadata: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"test": float(metadata["split"]["test"]), "rng": int(metadata["split"]["seed"])}
    except (KeyError, TypeError, ValueError):
        raise StateError("eval: the file does not say which rows are for the test", hint="train again") from None


def _one_line(error: BaseException) -> str:
    """The message of an error, its lines joined by semicolons."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    lines = [" ".join(line.split()).replace(" : ", ": ", 1) for line in text.splitlines()]
    return "; ".join(line for line in lines if line) or type(error).__name__
