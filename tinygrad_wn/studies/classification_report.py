"""What the study of classification found, as tables, curves and sentences."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from rich.table import Table

PAPER = (
    "The paper (arXiv 1602.07868, section 5.1) reports for CIFAR-10, without augmentation: normal 8.43 %, weight norm "
    "8.46 %, batch norm 8.05 %, weight norm with mean-only batch norm 7.31 %: there, weight norm alone did not help."
)
COMPARABLE = (
    "Those are errors of a convolutional network of nine layers on colour images; here are networks of Linear and ReLU "
    "on small images without colour. Errors cannot be compared, and an order of methods that differs contradicts "
    "nothing. What can be compared: whether weight norm alone lowers the error, whether learning is faster by epoch, "
    "and what an epoch costs (the paper: batch norm about 16 % more, weight norm nothing)."
)


def tables(result: dict[str, Any]) -> list[Table]:
    """A table for each data set: a row for each method.

    >>> from tinygrad_wn.studies.classification_report import tables
    >>> tables({"data": {}})
    []
    """
    found = []
    for name, one in result["data"].items():
        rows = one["rows"]
        title = (
            f"{name}: {rows['train']} rows to train on, {rows['test']} to test, "
            f"{'-'.join(map(str, one['sizes']))}, {one['epochs']} epochs"
        )
        table = Table("method", "learning rate", "test error, %", "less normal", "time per epoch", title=title)
        for method, its in one["methods"].items():
            table.add_row(
                method,
                f"{its['rate']:g}",
                _percent(its["error"]),
                "" if method == "normal" else _percent(its["difference"], sign="+"),
                f"{its['relative_time']['median']:.2f}",
            )
        found.append(table)
    return found


def summary(result: dict[str, Any]) -> list[str]:
    """Sentences: which methods differ from normal, at what cost, and what this says about the paper."""
    runs = result["settings"]["runs"]
    what = (
        f"Errors are means of {runs} runs with 95 % intervals by Student's t, over initial weights and batches; the "
        "test rows are the same in all runs. Differences to normal are paired by seed, not corrected for their number."
    )
    lines = [what]
    for name, one in result["data"].items():
        methods = one["methods"]
        best = min(methods, key=lambda method: methods[method]["error"]["mean"])
        share = methods[best]["error"]["mean"]
        lines.append(
            f"{name}: the lowest error is that of {best}, {_percent(methods[best]['error'])} %; "
            f"{one['rows']['test']} test rows alone leave ± {_sampling(share, one['rows']['test']):.2f} points."
        )
        lines += [f"{name}: {_verdict(method, its)}" for method, its in methods.items() if method != "normal"]
        rates = result["settings"]["rates"]
        edge = [method for method, its in methods.items() if its["rate"] in (rates[0], rates[-1])]
        if edge:
            lines.append(f"{name}: at the edge of the rates that were tried: {', '.join(edge)}.")
    return [*lines, PAPER, COMPARABLE]


def draw(result: dict[str, Any]) -> Any:
    """Error by epoch and by second, errors at the end, and time per epoch: a row of pictures for each data set.

    Raises ImportError where matplotlib is not installed.
    """
    data = result["data"]
    size = (16, 0.5 + 3.8 * len(data))
    figure = import_module("matplotlib.figure").Figure(figsize=size, dpi=110, layout="constrained")
    formatter = import_module("matplotlib.ticker").FuncFormatter(lambda x, _: f"{x:g}")
    for row, (name, one) in zip(figure.subplots(len(data), 4, squeeze=False), data.items(), strict=True):
        by_epoch, by_second, error, time = row
        for number, (method, its) in enumerate(one["methods"].items()):
            style = {"color": f"C{number}", "label": method, "linewidth": 1.2}
            curve = [100 * x for x in its["curve"]["error"]]
            epochs = range(1, len(curve) + 1)
            by_epoch.plot(epochs, curve, **style)
            by_second.plot([its["seconds_per_epoch"] * e for e in epochs], curve, **style)
            middle, half = (100 * its["error"][key] for key in ("mean", "half_width"))
            error.errorbar(middle, -number, xerr=half, fmt="o", color=f"C{number}", capsize=3)
            ratio = its["relative_time"]
            time.barh(-number, ratio["median"], color=f"C{number}")
            time.plot(ratio["quartiles"], [-number, -number], color="black", linewidth=1.2)
        names, places = list(one["methods"]), [-number for number in range(len(one["methods"]))]
        error.set_yticks(places, names)
        time.set_yticks(places, [])
        by_epoch.set(title=f"{name}: test error by epoch", xlabel="epoch", ylabel="%", yscale="log")
        by_second.set(title="by time in steps", xlabel="seconds", ylabel="%", yscale="log")
        error.set(title="test error at the end", xlabel="%, with 95 % interval")
        time.set(title="time per epoch", xlabel="ratio to normal, with quartiles")
        time.axvline(1, color="black", linewidth=0.8)
        for axes in (by_epoch, by_second):
            axes.yaxis.set_major_formatter(formatter)
            axes.yaxis.set_minor_formatter(formatter)
        by_epoch.legend(fontsize="small")
        for axes in row:
            axes.grid(alpha=0.3)
    return figure


def _percent(one: dict[str, float], sign: str = "") -> str:
    return f"{100 * one['mean']:{sign}.2f} ± {100 * one['half_width']:.2f}"


def _sampling(share: float, rows: int) -> float:
    """Half the width, in points, of the normal 95 % interval of a share that was counted on so many rows."""
    return float(100 * 1.96 * (share * (1 - share) / rows) ** 0.5)


def _verdict(method: str, its: dict[str, Any]) -> str:
    middle, half = its["difference"]["mean"], its["difference"]["half_width"]
    if abs(middle) <= half:
        what = "no difference to normal is shown"
    else:
        what = "lower error than normal" if middle < 0 else "higher error than normal"
    ratio, (lower, upper) = its["relative_time"]["median"], its["relative_time"]["quartiles"]
    cost = f"an epoch takes {ratio:.2f} times as long (quartiles {lower:.2f} and {upper:.2f})"
    return f"{method}: {what} ({_percent(its['difference'], '+')} points); {cost}."
