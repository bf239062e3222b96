"""What the study of cost found, as tables, pictures and sentences."""

from __future__ import annotations

import statistics
from importlib import import_module
from typing import Any

from rich.table import Table

SHOWN = (
    ("compiled", "layer"),
    ("compiled", "weight-side"),
    ("compiled", "activation-side"),
    ("eager", "layer"),
    ("eager", "weight-side"),
    ("eager", "activation-side"),
    ("torch", "weight-side"),
    ("jax", "weight-side"),
)
COLORS = {
    "layer": "#0072b2",
    "weight-side": "#e69f00",
    "activation-side": "#009e73",
    "torch": "#d55e00",
    "jax": "#000000",
}
MARKERS = {"layer": "o", "weight-side": "s", "activation-side": "D", "torch": "^", "jax": "v"}
COMPARABLE = (
    "The paper (arXiv 1602.07868, section 5.1) says that weight normalization adds no noticeable time to an epoch of "
    "its convolutional network, and batch normalization about 16 %. A convolution uses a weight at many places, so the "
    "passes over it weigh less there than here: times cannot be compared, and a cost that is seen here contradicts "
    "nothing. Between frameworks, the ratio to the own plain step and the time of a whole step say different things: a "
    "low ratio may belong to a slow step."
)


def tables(result: dict[str, Any]) -> list[Table]:
    """Ratios to the plain step of the same contender, and microseconds of steps.

    >>> from tinygrad_wn.studies.cost_report import tables
    >>> [table.title for table in tables({"rows": []})]
    ['Weight-normalized over plain: median of paired turns (middle 80 %)', 'Fastest turn, µs a step']
    """
    shown = [key for key in SHOWN if any((row["contender"], row["form"]) == key for row in result["rows"])]
    contenders = list(dict.fromkeys(contender for contender, _ in shown))
    ratios = Table(
        "batch, width, depth",
        *(f"{contender}: {form}" for contender, form in shown),
        title="Weight-normalized over plain: median of paired turns (middle 80 %)",
    )
    times = Table(
        "batch, width, depth",
        *(f"{contender}: {kind}" for contender in contenders for kind in ("plain", "weight norm")),
        title="Fastest turn, µs a step",
    )
    for cell, rows in _cells(result).items():
        name = ", ".join(map(str, cell))
        ratios.add_row(name, *(_spread(rows[key]["over_plain"]) if key in rows else "" for key in shown))
        pairs = [(c, form) for c in contenders for form in ("plain", _usual(c))]
        times.add_row(
            name,
            *(_short(rows[key]["minimum"]) if key in rows else "" for key in pairs),
        )
    return [ratios, times]


def summary(result: dict[str, Any]) -> list[str]:
    """Sentences: what weight normalization adds, which form wins where, and what can be compared."""
    settings, cells = result["settings"], _cells(result)
    lines = [
        (
            f"One thread, {settings['rounds']} rounds in which all take turns; a ratio is that of two turns of one "
            "round. A form wins where the middle 80 % of the ratios of activation-side to weight-side lie on one side "
            "of 1."
        )
    ]
    for contender in dict.fromkeys(row["contender"] for row in result["rows"]):
        key = (contender, _usual(contender))
        found = {cell: rows[key]["over_plain"]["median"] for cell, rows in cells.items() if key in rows}
        least, most = min(found, key=lambda cell: found[cell]), max(found, key=lambda cell: found[cell])
        lines.append(
            f"{contender}, {key[1]}: {found[least]:.2f} ({_place(least)}) to {found[most]:.2f} times the plain step "
            f"({_place(most)}), median {statistics.median(found.values()):.2f}."
        )
    for mode in ("compiled", "eager"):
        spreads = {cell: rows[mode, "activation-side"]["over_weight_side"] for cell, rows in cells.items()}
        activation = [_place(cell) for cell, one in spreads.items() if one["high"] < 1]
        weight = [_place(cell) for cell, one in spreads.items() if one["low"] > 1]
        lines.append(
            f"{mode}: activation-side wins in {len(activation)} of {len(cells)} cases{_listed(activation)}, "
            f"weight-side in {len(weight)}{_listed(weight)}; no winner is shown in the others."
        )
        layer = {cell: rows[mode, "layer"]["over_weight_side"] for cell, rows in cells.items()}
        ahead = sum(one["high"] < 1 for one in layer.values())
        behind = [_place(cell) for cell, one in layer.items() if one["low"] > 1]
        lines.append(
            f"{mode}: the layer's own op is faster than weight-side in {ahead} cases, and slower in "
            f"{len(behind)}{_listed(behind)}."
        )
    dear = [
        f"{contender} at {_place(cell)}"
        for cell, rows in cells.items()
        for contender in ("compiled", "eager")
        if rows[contender, "layer"]["over_plain"]["low"] > 1.1
    ]
    lines.append(f"Where it costs more than a tenth, beyond the spread: {'; '.join(dear) if dear else 'nowhere'}.")
    lines += [f"{name} is left out: {why}." for name, why in result["left out"].items()]
    return [*lines, COMPARABLE]


def draw(result: dict[str, Any]) -> Any:
    """Ratios to the plain step by batch: a column for each width, a row each for compiled, eager, and peers.

    Raises ImportError where matplotlib is not installed.
    """
    cells = _cells(result)
    widths = list(dict.fromkeys(width for _, width, _ in cells))
    depths = list(dict.fromkeys(depth for _, _, depth in cells))
    batches = list(dict.fromkeys(batch for batch, _, _ in cells))
    contenders = {row["contender"] for row in result["rows"]}
    kinds: list[tuple[str, list[tuple[str, str]]]] = [
        (mode, [key for key in SHOWN if key[0] == mode]) for mode in ("compiled", "eager")
    ]
    peers = [key for key in SHOWN if key[0] in contenders - {"compiled", "eager"}]
    if peers:
        kinds.append(("beside peers", [("compiled", "layer"), *peers]))
    size = (4.4 * len(widths) + 2.5, 3.4 * len(kinds) + 0.5)
    figure = import_module("matplotlib.figure").Figure(figsize=size, dpi=100, layout="constrained")
    panels = figure.subplots(len(kinds), len(widths), squeeze=False, sharey="row", sharex=True)
    for row, (kind, keys) in zip(panels, kinds, strict=True):
        for axes, width in zip(row, widths, strict=True):
            for contender, form in keys:
                name = form if contender in ("compiled", "eager") else contender
                for number, depth in enumerate(depths):
                    own = [
                        (batch, rows[contender, form]["over_plain"])
                        for (batch, at, d), rows in cells.items()
                        if (at, d) == (width, depth) and (contender, form) in rows
                    ]
                    middles = [one["median"] for _, one in own]
                    low = [one["median"] - one["low"] for _, one in own]
                    high = [one["high"] - one["median"] for _, one in own]
                    axes.errorbar(
                        [batch * (1 + 0.06 * number) for batch, _ in own],
                        middles,
                        (low, high),
                        color=COLORS[name],
                        marker=MARKERS[name],
                        markersize=4,
                        linestyle=("-", "--", ":")[number % 3],
                        capsize=2,
                        linewidth=1.2,
                        label=f"{'our layer' if kind == 'beside peers' and name == 'layer' else name}, depth {depth}",
                    )
            axes.axhline(1, color="black", linewidth=0.8)
            axes.set(title=f"{kind}, width {width}", xlabel="batch", xscale="log", yscale="log")
            axes.set_xticks(batches, [str(batch) for batch in batches])
            axes.minorticks_off()
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.get_major_locator().set_params(subs=(1, 1.2, 1.5, 2, 3, 5, 7))
            axes.grid(alpha=0.3, which="both")
        row[0].set_ylabel("weight-normalized over plain")
        row[-1].legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.02, 1))
    return figure


def _cells(result: dict[str, Any]) -> dict[tuple[int, int, int], dict[tuple[str, str], dict[str, Any]]]:
    """Rows by contender and form, by batch, width and depth."""
    found: dict[tuple[int, int, int], dict[tuple[str, str], dict[str, Any]]] = {}
    for row in result["rows"]:
        found.setdefault((row["batch"], row["width"], row["depth"]), {})[row["contender"], row["form"]] = row
    return found


def _usual(contender: str) -> str:
    """The form that a user of this contender gets."""
    return "layer" if contender in ("compiled", "eager") else "weight-side"


def _short(x: float) -> str:
    """Three digits, or all before the point."""
    return f"{x:.3g}" if x < 1000 else f"{x:.0f}"


def _spread(one: dict[str, float]) -> str:
    return f"{one['median']:.2f} ({one['low']:.2f} to {one['high']:.2f})"


def _place(cell: tuple[int, int, int]) -> str:
    return f"batch {cell[0]}, width {cell[1]}, depth {cell[2]}"


def _listed(places: list[str]) -> str:
    return f" ({'; '.join(places)})" if places else ""
