"""The command line: which suites, for whom, how often; tables, a JSON file, a chart, a page."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from . import chart, cold, contests, kernels, machine, memory, overhead, page, report
from .files import check_place, write_whole
from .peers import PEERS
from .plan import Plan, Suite
from .workloads import WORKLOADS

SUITES: dict[str, Suite] = {
    "steps": contests.steps,
    "adam": contests.adam,
    "inference": contests.inference,
    "growth": contests.growth,
    "kernels": kernels.run,
    "overhead": overhead.run,
    "memory": memory.run,
    "cold": cold.run,
}
NORMS = {"both": [False, True], "plain": [False], "weight": [True]}
THREADS = [1, 2][: os.cpu_count()]
QUICK = ("moons", "digits")


class OptionError(ValueError):
    """Options that cannot be carried out."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Leave the one line on stderr to `main`."""
        raise OptionError(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run, and give the exit code: 0, 1 where a contender failed, 2 for bad options or files, 130 after Ctrl-C."""
    try:
        options = _parser().parse_args(argv)
        if options.docs:
            page.publish(options.docs)
            return 0
        return _run(options, list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        print("benchmarks: interrupted", file=sys.stderr)
        return 130
    except (OptionError, page.PageError, OSError) as error:
        text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        print(f"benchmarks: {' '.join(text.split())}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace, given: list[str]) -> int:
    if options.plot and not chart.can_draw():
        raise OptionError("--plot needs matplotlib: pip install 'tinygrad_wn[plots]'")
    for path in filter(None, (options.json, options.plot)):
        check_place(path)
    console = Console(markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else 130)
    asked = options.contenders or list(PEERS)
    skipped = {name: reason for name in asked if (reason := PEERS[name].lacks())}
    plan = Plan(
        workloads=[WORKLOADS[name] for name in options.workloads or (QUICK if options.quick else WORKLOADS)],
        contenders=[name for name in asked if name not in skipped],
        threads=options.threads,
        norms=NORMS[options.norm],
        rounds=options.rounds or (5 if options.quick else 30),
        quick=options.quick,
        say=lambda text: print(text, file=sys.stderr),
    )
    results: dict[str, Any] = {
        "command": ["python", "-m", "benchmarks", *given],
        "machine": machine.facts(),
        "rounds": plan.rounds,
        "quick": plan.quick,
        "skipped": skipped,
        "errors": plan.errors,
        "suites": {},
    }
    report.head(console, results)
    for name in dict.fromkeys(options.suites or SUITES):
        results["suites"][name] = SUITES[name](plan)
        report.suite(console, name, results["suites"][name])
        if options.json:
            write_whole(options.json, (json.dumps(results, indent=1, allow_nan=False) + "\n").encode())
    if options.plot:
        write_whole(options.plot, chart.draw(results))
    for who, why in plan.errors.items():
        console.print(f"FAILED {who}: {why}", soft_wrap=True)
    return 1 if plan.errors else 0


def _parser() -> _Parser:
    parser = _Parser(
        prog="python -m benchmarks",
        description="Measure tinygrad_wn beside the frameworks that are installed. LISTS are separated by commas.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("suites", nargs="*", metavar="SUITE", type=_one_of(SUITES), help=f"{', '.join(SUITES)} (default: all)")
    add("--workload", dest="workloads", type=_list(_one_of(WORKLOADS)), metavar="LIST", help=", ".join(WORKLOADS))
    add("--contender", dest="contenders", type=_list(_one_of(PEERS)), metavar="LIST", help=", ".join(PEERS))
    add("--threads", type=_list(_threads), default=THREADS, metavar="LIST", help="thread counts (default: 1,2)")
    add("--norm", choices=NORMS, default="both", help="plain, weight-normalized, or both")
    add("--rounds", type=_at_least_one, metavar="N", help="turns of each contender (default: 30; 5 with --quick)")
    add("--quick", action="store_true", help="a look in minutes: fewer rounds, shapes and workloads")
    add("--json", type=Path, metavar="PATH", help="write figures and the machine's facts")
    add("--plot", type=Path, metavar="PATH", help="draw a chart as PNG")
    add(
        "--docs",
        type=Path,
        metavar="JSON",
        help="measure nothing; put a file of --json, or of tinygrad-wn check --json, into docs/ and README.md",
    )
    return parser


def _one_of(known: dict[str, Any]) -> Callable[[str], str]:
    def name(text: str) -> str:
        if text not in known:
            raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(known)}")
        return text

    return name


def _list(each: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    return lambda text: [*dict.fromkeys(map(each, text.split(",")))]


def _at_least_one(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _threads(text: str) -> int:
    count, most = _at_least_one(text), os.cpu_count() or 1
    if count > most:
        raise argparse.ArgumentTypeError(f"this machine has {most} cores, not {text}")
    return count
