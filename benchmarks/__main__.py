"""Time a training step on the digits, print a table, and write the figures and the machine as JSON on request."""

import argparse
import json
import os
import platform
from pathlib import Path

import numba
import numpy as np
from rich.console import Console
from rich.table import Table

import tinygrad_wn as tg

from . import digits

PAIRS = [
    ("weight norm / plain, tinygrad_wn", "tinygrad_wn, weight norm", "tinygrad_wn, plain"),
    ("weight norm / plain, NumPy", "NumPy, weight norm", "NumPy, plain"),
    ("tinygrad_wn / NumPy, plain", "tinygrad_wn, plain", "NumPy, plain"),
    ("tinygrad_wn / NumPy, weight norm", "tinygrad_wn, weight norm", "NumPy, weight norm"),
]


def machine() -> dict[str, str | int | None]:
    """What a figure depends on, as far as it can be found out."""
    names = [line.split(":")[1].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "blas": np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"],
        "tinygrad_wn": tg.__version__,
    }


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def spread(values: list[float]) -> dict[str, float]:
    """Median, and the range that holds the middle 80 %."""
    low, median, high = np.percentile(values, [10, 50, 90])
    return {"median": float(median), "low": float(low), "high": float(high)}


def main(argv: list[str] | None = None) -> None:
    """Read the options, measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="epochs of each contender (default 100)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write figures and machine facts to this file")
    options = parser.parse_args(argv)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    times = digits.measure(options.rounds)
    steps = {name: spread(found) for name, found in times.items()}
    ratios = {
        what: spread([a / b for a, b in zip(times[one], times[other], strict=True)]) for what, one, other in PAIRS
    }
    facts = machine()

    console = Console()
    table = Table(
        "digits step 64-64-32-10, batch 32, float32",
        title=f"{facts['cpu']}, {facts['cores']} cores, NumPy with {facts['blas']}",
    )
    for heading in ("median", "10 %", "90 %"):
        table.add_column(heading, justify="right")
    for rows, form in ((steps, "{:.0f} µs"), (ratios, "{:.2f}")):
        for what, found in rows.items():
            table.add_row(what, *(form.format(found[key]) for key in ("median", "low", "high")))
        table.add_section()
    console.print(table)
    if options.json:
        figures = {"machine": facts, "rounds": options.rounds, "microseconds": steps, "ratios": ratios}
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
