"""What the study of conditioning found, as tables, pictures and sentences."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from rich.table import Table

PAPER = (
    "The paper (arXiv 1602.07868, section 2.1) says, without figures, that w is often close to the dominant "
    "eigenvector of C, for the networks it tried. Those are deeper and convolutional, and see whitened colour "
    "images; a convolution shares w among places, which adds their gradients up. So what is found here neither "
    "confirms nor contradicts what was seen there. What does carry over is algebra: D = (g²/‖v‖²) M C M, that a "
    "projection never makes the condition number of the remaining directions worse, and that g and v together see C in "
    "other coordinates."
)
COLORS = ("#0072b2", "#e69f00", "#009e73")
"""Blue, orange and green that also differ in lightness, for eyes that do not tell red from green."""


def tables(result: dict[str, Any]) -> list[Table]:
    """A table for each kind of inputs: a row for each training and layer, after the last stage.

    >>> from tinygrad_wn.studies.conditioning_report import tables
    >>> tables({"cells": []})
    []
    """
    found = []
    for inputs in dict.fromkeys(cell["inputs"] for cell in result["cells"]):
        cells = [cell for cell in _at_the_end(result) if cell["inputs"] == inputs]
        table = Table(
            "trained as",
            "layer",
            "n cos²",
            "largest left, %: less w, less random",
            "closeness: C, less w, random, top",
            "(g, v) over w",
            title=f"{inputs}, after {cells[0]['epochs']} epochs",
        )
        for cell in cells:
            q = {name: values[1] for name, values in cell["quartiles"].items()}
            closeness = ("closeness", "closeness_v", "closeness_other", "closeness_top")
            table.add_row(
                cell["trained"],
                f"{cell['layer'] + 1}, n = {cell['n']}",
                f"{cell['cosine2']['mean']:.2f} ± {cell['cosine2']['half_width']:.2f}",
                f"{100 * q['top']:.1f}, {100 * q['top_other']:.1f}",
                ", ".join(f"{q[name]:.3f}" for name in closeness),
                f"{q['ratio_gv']:.2f}",
            )
        found.append(table)
    return found


def summary(result: dict[str, Any]) -> list[str]:
    """Sentences: how far w is the dominant eigenvector, what the projection does, and where it does nothing."""
    settings, cells = result["settings"], _at_the_end(result)
    units = sum(cell["units"] for cell in cells)
    parallel = sum(cell["units"] * cell["parallel"] for cell in cells) / units
    ordered = sorted(cells, key=lambda cell: float(cell["cosine2"]["mean"]))
    chance = [cell for cell in ordered if cell["cosine2"]["mean"] - cell["cosine2"]["half_width"] <= 1]
    lines = [
        (
            "In the tables, n cos² of w and the dominant eigenvector of C is a mean, and 1 for a random direction. "
            "Others are medians over units: what is left of the largest eigenvalue of C; closeness to the identity, "
            "tr(C)²/(n tr C²); and the condition number of the covariance in (g, v) over that in w."
        ),
        (
            f"Covariances are over the gradients of {settings['rows']} rows, one by one; {settings['runs']} runs, "
            f"momentum {settings['momentum']}, rate {settings['rate']}. The covariance of ∇v is (g²/‖v‖²) M C M to "
            f"{result['identity']:.0e} of its size, measured from gradients of both networks."
        ),
        (
            f"After {settings['stages'][-1]} epochs, {parallel:.1%} of {units} units have w nearly parallel to the "
            "dominant eigenvector (cos² above ½). cos² is on average "
            f"{ordered[0]['cosine2']['mean']:.2g} ({_name(ordered[0])}) to {ordered[-1]['cosine2']['mean']:.2g} times "
            f"({_name(ordered[-1])}) what it is for a random direction, 1/n."
        ),
        f"Above chance, beyond its 95 % interval, in {len(cells) - len(chance)} of {len(cells)} cases"
        + (f"; not so: {'; '.join(map(_name, chance))}." if chance else "."),
    ]
    last = max(cell["layer"] for cell in cells)
    for trained in dict.fromkeys(cell["trained"] for cell in cells):
        own = [cell for cell in cells if cell["trained"] == trained]
        lines.append(f"{trained}, hidden layers: {_projected([cell for cell in own if cell['layer'] < last])}")
        lines.append(f"{trained}, output layer: {_projected([cell for cell in own if cell['layer'] == last])}")
    return [
        *lines,
        (
            "Where it does not help: in the cases that are not above chance, M does what a random projection does. The "
            f"condition number falls with either, to {_range(cells, 'ratio_v', '.2g')} of that of C with M and to "
            f"{_range(cells, 'ratio_other', '.2g')} with a random one, because one dimension less is counted, and "
            "pixels that are rarely on make the smallest eigenvalues tiny."
        ),
        (
            "g and v together see no better covariance than w: for g = ‖v‖ they are w in rotated coordinates. The "
            f"condition number of (g, v) is {_range(cells, 'ratio_gv', '.3g')} times that of w, at g/‖v‖ of "
            f"{_range(cells, 'scale', '.2g')}. A gain is open to v alone, and to rules that give g a rate of its own."
        ),
        PAPER,
    ]


def draw(result: dict[str, Any]) -> Any:
    """Alignment by stage, spectra before and after, and closeness to the identity.

    Raises ImportError where matplotlib is not installed.
    """
    figure = import_module("matplotlib.figure").Figure(figsize=(15, 9), dpi=100, layout="constrained")
    above, below = figure.subplots(2, 3)
    cells = result["cells"]
    trainings = list(dict.fromkeys(cell["trained"] for cell in cells))
    for axes, trained in zip(above, trainings, strict=True):
        _alignment(axes, [cell for cell in cells if cell["trained"] == trained], trained)
    low, high = (limit(axes.get_ylim()[i] for axes in above) for i, limit in enumerate((min, max)))
    for axes in above:
        axes.set_ylim(low, high)
    above[0].legend(fontsize="small")
    some = [cell for cell in cells if cell["inputs"] == cells[-1]["inputs"]]
    ends = [cell for cell in some if "spectra" in cell]
    _spectra(below[0], [cell for cell in ends if cell["trained"] == trainings[-1]])
    _closeness(below[1], ends)
    _conditions(below[2], some)
    below[0].legend(fontsize="small")
    below[1].legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.4, -0.12), ncols=2)
    below[2].legend(fontsize="small")
    for axes in (*above, *below):
        axes.grid(alpha=0.3)
    figure.suptitle(f"Lower row: {cells[-1]['inputs']}; spectra and closeness after {ends[0]['epochs']} epochs")
    return figure


def _alignment(axes: Any, cells: list[dict[str, Any]], trained: str) -> None:
    stages = list(dict.fromkeys(cell["epochs"] for cell in cells))
    for number, inputs in enumerate(dict.fromkeys(cell["inputs"] for cell in cells)):
        for layer in dict.fromkeys(cell["layer"] for cell in cells):
            own = [cell for cell in cells if cell["inputs"] == inputs and cell["layer"] == layer]
            means = [cell["cosine2"]["mean"] for cell in own]
            errors = [cell["cosine2"]["half_width"] for cell in own]
            places = [stages.index(cell["epochs"]) + 0.05 * (layer - 1) + 0.02 * number for cell in own]
            axes.errorbar(
                places,
                means,
                errors,
                color=COLORS[layer],
                marker="osD"[layer],
                linestyle=("-", "--")[number],
                markerfacecolor=(COLORS[layer], "white")[number],
                capsize=2,
                linewidth=1.2,
                label=f"layer {layer + 1} (n = {own[0]['n']}), {inputs}",
            )
    axes.axhline(1, color="black", linewidth=1, linestyle=":", label="a random direction")
    axes.set_xticks(range(len(stages)), [str(stage) for stage in stages])
    axes.set(title=f"trained as {trained}", xlabel="epochs", ylabel="n cos²(w, dominant eigenvector of C)")


def _spectra(axes: Any, cells: list[dict[str, Any]]) -> None:
    for cell in cells:
        style = {"color": COLORS[cell["layer"]], "linewidth": 1.2}
        before, after = (
            [x for x in cell["spectra"][name] if x > 1e-9 * cell["spectra"][name][0]] for name in ("before", "after")
        )
        axes.plot(range(1, len(before) + 1), before, label=f"layer {cell['layer'] + 1}: C", **style)
        axes.plot(range(1, len(after) + 1), after, label="M C M", linestyle="--", **style)
    axes.set(title=f"Spectra, {cells[0]['trained']}", xscale="log", yscale="log")
    axes.set(xlabel="number of the eigenvalue", ylabel="share of the trace of C, mean")


def _closeness(axes: Any, cells: list[dict[str, Any]]) -> None:
    shown = {"closeness": "C", "closeness_other": "less a random direction", "closeness_v": "less w (M)"}
    shown["closeness_top"] = "less the dominant eigenvector"
    for marker, color, (name, label) in zip("o^sD", ("black", "#999999", *COLORS[:2]), shown.items(), strict=True):
        axes.scatter(
            [cell["quartiles"][name][1] for cell in cells],
            [-i for i in range(len(cells))],
            marker=marker,
            color=color,
            facecolors="none" if name == "closeness" else color,
            label=label,
        )
    names = [f"{cell['trained'].replace('weight norm', 'w.n.')}, {cell['layer'] + 1}" for cell in cells]
    axes.set_yticks([-i for i in range(len(cells))], names)
    axes.set(title="Closeness to I: tr(C)² / (n tr C²), at most 1")


def _conditions(axes: Any, cells: list[dict[str, Any]]) -> None:
    stages = list(dict.fromkeys(cell["epochs"] for cell in cells))
    for number, trained in enumerate(dict.fromkeys(cell["trained"] for cell in cells)):
        for layer in dict.fromkeys(cell["layer"] for cell in cells):
            own = [cell for cell in cells if cell["trained"] == trained and cell["layer"] == layer]
            axes.plot(
                [stages.index(cell["epochs"]) for cell in own],
                [cell["quartiles"]["ratio_gv"][1] for cell in own],
                color=COLORS[layer],
                marker="osD"[layer],
                linestyle=("-", "--", ":")[number],
                label=f"{trained}, layer {layer + 1}",
            )
    axes.set_xticks(range(len(stages)), [str(stage) for stage in stages])
    axes.set(title="Condition number of (g, v) over that of w", yscale="log")
    axes.set(xlabel="epochs", ylabel="ratio, median of units")


def _at_the_end(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in result["cells"] if "spectra" in cell]


def _name(cell: dict[str, Any]) -> str:
    return f"{cell['inputs']}, {cell['trained']}, layer {cell['layer'] + 1}"


def _projected(cells: list[dict[str, Any]]) -> str:
    """What the projection does to units of these cells, as medians."""
    return (
        f"without w, {_range(cells, 'top', '.1%')} of the largest eigenvalue are left, without a random direction "
        f"{_range(cells, 'top_other', '.1%')}; closeness to the identity goes from {_range(cells, 'closeness', '.3f')} "
        f"to {_range(cells, 'closeness_v', '.3f')} (random {_range(cells, 'closeness_other', '.3f')}, at best "
        f"{_range(cells, 'closeness_top', '.3f')})."
    )


def _range(cells: list[dict[str, Any]], name: str, style: str) -> str:
    """The lowest and highest median of some cells."""
    found = sorted(cell["quartiles"][name][1] for cell in cells)
    low, high = f"{found[0]:{style}}", f"{found[-1]:{style}}"
    return low if low == high else f"{low} … {high}"
