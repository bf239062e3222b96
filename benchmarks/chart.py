"""Charts of the steps and of their growth; they need the extra `[plots]`."""

import hashlib
import io
import json
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from .peers import OURS
from .tables import number


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw(results: dict[str, Any]) -> bytes:
    """A PNG: microseconds a step of each contender at its best thread count, and log-log lines of growth."""
    suites = results["suites"]
    bars = [row for row in suites.get("steps") or [] if row["ratio_at_best_threads"] or row["contender"]]
    growth = suites.get("growth") or []
    panels = [normalized for normalized in (False, True) if any(row["normalized"] == normalized for row in bars)]
    axes_names = [*dict.fromkeys(row["axis"] for row in growth)]
    heights = [one for one in (bool(panels), bool(axes_names)) if one]
    figure = import_module("matplotlib.figure").Figure(
        figsize=(13, 0.6 + 4.4 * max(len(heights), 1)), dpi=120, layout="constrained"
    )
    figure.suptitle(f"{results['machine']['cpu']}, {results['machine']['cores']} cores, float32")
    parts = [*figure.subfigures(len(heights) or 1, 1, squeeze=False)[:, 0]]
    colours = {
        row["contender"]: f"C{i}" for i, row in enumerate({r["contender"]: r for r in [*bars, *growth]}.values())
    }
    if panels:
        top = parts.pop(0)
        for axes, normalized in zip(top.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True):
            _bars(axes, [row for row in bars if row["normalized"] == normalized], colours)
            axes.set_title("weight-normalized" if normalized else "plain")
    if axes_names:
        for axes, name in zip(
            parts[0].subplots(1, len(axes_names), sharey=True) if len(axes_names) > 1 else [parts[0].subplots()],
            axes_names,
            strict=True,
        ):
            _lines(axes, [row for row in growth if row["axis"] == name], name, colours)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def identity(results: dict[str, Any]) -> str:
    """What a chart carries to say which steps it shows."""
    return hashlib.sha256(json.dumps(results["suites"]["steps"]).encode()).hexdigest()


def summary(results: dict[str, Any]) -> bytes:
    """An SVG: a weight-normalized step of each contender at its best thread count, a panel a network."""
    rows = [row for row in results["suites"]["steps"] if row["normalized"]]
    networks = [*dict.fromkeys(row["workload"] for row in rows)]
    contenders = [*dict.fromkeys(row["contender"] for row in rows)][::-1]
    size = (1.4 + 2.6 * len(networks), 0.9 + 0.27 * len(contenders))
    with import_module("matplotlib").rc_context({"svg.hashsalt": identity(results), "font.size": 9}):
        figure = import_module("matplotlib.figure").Figure(figsize=size, layout="constrained", facecolor="white")
        for axes, name in zip(figure.subplots(1, len(networks), sharey=True, squeeze=False)[0], networks, strict=True):
            _contest(axes, [row for row in rows if row["workload"] == name], contenders)
        picture = io.BytesIO()
        figure.savefig(picture, format="svg", metadata={"Date": None, "Identifier": identity(results)})
    return picture.getvalue()


def _contest(axes: Any, rows: list[dict[str, Any]], contenders: list[str]) -> None:
    """A bar a contender, from zero, with its number."""
    times: dict[str, float] = {}
    for row in rows:
        median = row["microseconds"]["median"]
        times[row["contender"]] = min(median, times.get(row["contender"], median))
    top = max(times.values())
    for who, time in times.items():
        place = contenders.index(who)
        axes.barh(place, time, 0.7, color="#c2410c" if who == OURS else "#94a3b8")
        axes.text(time + top / 50, place, number(time), va="center")
    axes.set(title=f"{rows[0]['workload']}\n{'-'.join(map(str, rows[0]['sizes']))}, batch {rows[0]['batch']}")
    axes.set(xlim=(0, 1.2 * top), xticks=[], xlabel="µs a step", yticks=range(len(contenders)), yticklabels=contenders)
    axes.tick_params(length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _bars(axes: Any, rows: list[dict[str, Any]], colours: dict[str, str]) -> None:
    """A group a workload, a bar a contender with the range of the middle 80 %."""
    workloads = [*dict.fromkeys(row["workload"] for row in rows)]
    contenders = [*dict.fromkeys(row["contender"] for row in rows)]
    width = 0.85 / len(contenders)
    for i, contender in enumerate(contenders):
        for j, workload in enumerate(workloads):
            same = [r for r in rows if (r["contender"], r["workload"]) == (contender, workload)]
            if not same:
                continue
            found = min((row["microseconds"] for row in same), key=lambda one: one["median"])
            middle = found["median"]
            axes.bar(
                j + (i - (len(contenders) - 1) / 2) * width,
                middle,
                width,
                color=colours[contender],
                label=contender if not any(c.get_label() == contender for c in axes.containers) else None,
                yerr=[[middle - found["low"]], [found["high"] - middle]],
                error_kw={"elinewidth": 0.8},
            )
    axes.set(yscale="log", ylabel="µs a step, best thread count", xticks=range(len(workloads)), xticklabels=workloads)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8)


def _lines(axes: Any, rows: list[dict[str, Any]], name: str, colours: dict[str, str]) -> None:
    for contender in dict.fromkeys(row["contender"] for row in rows):
        here = sorted((r["value"], r["microseconds"]["median"]) for r in rows if r["contender"] == contender)
        axes.plot(*zip(*here, strict=True), marker=".", label=contender, color=colours[contender])
    axes.set(xscale="log", yscale="log", xlabel=name, ylabel="µs a step")
    axes.set_xticks(values := sorted({row["value"] for row in rows}), [str(value) for value in values], minor=False)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
