"""What the study of learning rates found, as tables, pictures and sentences."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

from rich.table import Table

NEAR = 0.02
"""A rate is good where the mean error is within this of the lowest that any method reaches with the same optimizer."""
CHANCE = 0.9
COLORS = ("#000000", "#e69f00", "#d55e00", "#56b4e9", "#009e73", "#cc79a7")
"""Six colours of Okabe and Ito, for all eyes; markers tell the methods apart as well."""
PAPER = (
    "The paper (arXiv 1602.07868, section 2) argues, for plain gradient descent, that ‖v‖ grows until steps are small "
    "beside it, and says that this makes weight-normalized networks work with a wide range of rates; it shows no curve "
    "of error against the rate. Networks, data and length of training are small here, so errors are not comparable; "
    "the law of ‖v‖ is."
)


def tables(result: dict[str, Any]) -> list[Table]:
    """A table for each optimizer: a row for each method.

    >>> from tinygrad_wn.studies.learning_rate_report import tables
    >>> tables({"cells": []})
    []
    """
    found = []
    for optimizer in _named(result, "optimizer"):
        table = Table(
            "method",
            "lowest error, %",
            "at rate",
            "good rates",
            "diverged runs",
            "‖v‖ over its start: at that rate",
            "at the highest",
            title=optimizer,
        )
        for method in _named(result, "method"):
            cells = _cells(result, optimizer=optimizer, method=method)
            best = min(cells, key=_error)
            table.add_row(
                method,
                f"{100 * _error(best):.1f}",
                f"{best['rate']:.2g}",
                f"{sum(cell['rate'] in _good(result, optimizer, method) for cell in cells)} of {len(cells)}",
                str(sum(cell["diverged"] for cell in cells)),
                _growth(best),
                _growth(cells[-1]),
            )
        found.append(table)
    return found


def summary(result: dict[str, Any]) -> list[str]:
    """Sentences: who stands how wide a range of rates, what ‖v‖ does, and where weight normalization does not help."""
    settings = result["settings"]
    lines = [
        (
            f"Error is the mean of {settings['runs']} runs of {settings['epochs']} epochs, one that diverges counts as "
            f"{CHANCE:.0%}; {result['rows']} test rows leave about ± 1 point at 2 % error. Rates are good within "
            f"{100 * NEAR:.0f} points of the lowest error that any method has with the same optimizer. ‖v‖ is that of "
            "hidden units, or ‖w‖ where there is no v."
        )
    ]
    for optimizer in _named(result, "optimizer"):
        widths = {method: len(_good(result, optimizer, method)) for method in _named(result, "method")}
        ours, plain = widths["weight norm"], widths["normal"]
        verdict = "more than" if ours > plain else "fewer than" if ours < plain else "as many as"
        listed = ", ".join(f"{method} {width}" for method, width in widths.items())
        lines.append(f"{optimizer}: weight norm has {verdict} normal of the rates that are good: {listed}.")
        lost = {
            method: [cell["rate"] for cell in _cells(result, optimizer=optimizer, method=method) if cell["diverged"]]
            for method in widths
        }
        diverged = ", ".join(f"{method} from {min(rates):.2g}" for method, rates in lost.items() if rates)
        lines.append(f"{optimizer}: {f'runs diverge: {diverged}' if diverged else 'no run diverges'}.")
        lines.append(f"{optimizer}: {_dynamics(_cells(result, optimizer=optimizer, method='weight norm'))}")
    return [
        *lines,
        (
            "Where it does not help: the law bounds steps of v alone. g and the biases take steps of the full rate, "
            "so a rate that is too high for them is too high with weight normalization as well."
        ),
        PAPER,
    ]


def draw(result: dict[str, Any]) -> Any:
    """Error by rate, ‖v‖ by epoch, and effective by nominal rate: a column for each optimizer.

    Raises ImportError where matplotlib is not installed.
    """
    matplotlib = import_module("matplotlib")
    optimizers = _named(result, "optimizer")
    figure = import_module("matplotlib.figure").Figure(
        figsize=(4.2 * len(optimizers), 10.5), dpi=100, layout="constrained"
    )
    panels = figure.subplots(3, len(optimizers), squeeze=False)
    for optimizer, (error, length, effective) in zip(optimizers, panels.T, strict=True):
        for number, method in enumerate(_named(result, "method")):
            cells = _cells(result, optimizer=optimizer, method=method)
            style = {"color": COLORS[number], "marker": "osD^vP"[number], "markersize": 4, "linewidth": 1.2}
            rates = [cell["rate"] for cell in cells]
            error.plot(rates, [100 * _error(cell) for cell in cells], label=method, **style)
        cells = _cells(result, optimizer=optimizer, method="weight norm")
        shades = matplotlib.colormaps["viridis"]
        for number, cell in enumerate(cells):
            if "lengths" in cell:
                color = shades(0.9 * number / max(1, len(cells) - 1))
                length.plot(cell["lengths"], color=color, linewidth=1.4, label=f"{cell['rate']:.2g}")
        whole = [cell for cell in cells if "rates" in cell]
        rates = [cell["rate"] for cell in whole]
        effective.plot(rates, [cell["rates"][0] for cell in whole], "--", color=COLORS[0], label="at the start")
        effective.plot(rates, [cell["rates"][-1] for cell in whole], "-o", color=COLORS[2], label="at the end")
        error.set(title=optimizer, xlabel="learning rate", xscale="log", yscale="log")
        length.set(title="weight norm: growth of v", xlabel="epoch", yscale="log")
        effective.set(title="weight norm: effective rate", xlabel="learning rate", xscale="log", yscale="log")
    for axes, label in zip(panels[:, 0], ("test error, %", "‖v‖ over that at the start", "lr g²/‖v‖²"), strict=True):
        axes.set_ylabel(label)
    for row in (panels[0], panels[2]):
        low, high = (limit(axes.get_ylim()[i] for axes in row) for i, limit in enumerate((min, max)))
        for axes in row:
            axes.set_ylim(low, high)
    for axes in panels.flat:
        axes.grid(alpha=0.3)
    panels[0, -1].legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.02, 1))
    for axes in panels[1]:
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}" if axes.get_ylim()[1] < 10 * axes.get_ylim()[0] else "")
        axes.legend(fontsize="x-small", title="rate", ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    panels[2, 0].legend(fontsize="small")
    return figure


def slope(cells: list[dict[str, Any]]) -> float:
    """By how many powers of ten the effective rate at the end rises for one of the rate, over the upper half of them.

    1 where ‖v‖ and g do not depend on the rate, 0 where the effective rate settles at one value.

    >>> from tinygrad_wn.studies.learning_rate_report import slope
    >>> slope([{"rate": rate, "rates": [rate, rate**0.5]} for rate in (0.01, 0.1, 1.0, 10.0)])
    0.5
    """
    whole = [cell for cell in cells if "rates" in cell]
    upper = whole[len(whole) // 2 :]
    if len(upper) < 2:
        return math.nan
    first, last = upper[0], upper[-1]
    return math.log(last["rates"][-1] / first["rates"][-1]) / math.log(last["rate"] / first["rate"])


def _dynamics(cells: list[dict[str, Any]]) -> str:
    whole = [cell for cell in cells if "rates" in cell]
    steps = [cell["steps"] for cell in whole]
    shrinks, off = max(one["shrinks"] for one in steps), max(one["residual"] for one in steps)
    law = "keep" if off < 1e-5 else "break"
    rise = slope(cells)
    upper = whole[len(whole) // 2 :]
    settled = (
        f"from rate {upper[0]['rate']:.2g} to {upper[-1]['rate']:.2g} the effective rate at the end goes by the power "
        f"{rise:.2f} of the rate (1: nothing adjusts, 0: all does)"
        if math.isfinite(rise)
        else "too few rates for a slope"
    )
    return (
        f"steps {law} the law ‖v'‖ = √(1 + c²)‖v‖ (off by up to {off:.1e}; ‖v‖ shrinks in up to {shrinks:.0%} of the "
        f"steps of the first epoch); ‖v‖ ends at {whole[0]['lengths'][-1]:.3g} to {whole[-1]['lengths'][-1]:.3g} times "
        f"its start; {settled}."
    )


def _named(result: dict[str, Any], name: str) -> list[str]:
    return list(dict.fromkeys(cell[name] for cell in result["cells"]))


def _cells(result: dict[str, Any], **wanted: str) -> list[dict[str, Any]]:
    return [cell for cell in result["cells"] if all(cell[name] == value for name, value in wanted.items())]


def _error(cell: dict[str, Any]) -> float:
    """Mean error, with that of guessing for a run that diverged."""
    errors = cell["errors"] + [CHANCE] * cell["diverged"]
    return float(sum(errors) / len(errors))


def _good(result: dict[str, Any], optimizer: str, method: str) -> list[float]:
    lowest = min(_error(cell) for cell in _cells(result, optimizer=optimizer))
    return [c["rate"] for c in _cells(result, optimizer=optimizer, method=method) if _error(c) <= lowest + NEAR]


def _growth(cell: dict[str, Any]) -> str:
    return f"{cell['lengths'][-1]:.3g}" if "lengths" in cell else "diverged"
