"""Learning curves, and lengths of v, as pictures; needs the extra `[plots]`."""

from __future__ import annotations

import io
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .domains import Array
    from .train import Record


def curves(history: Sequence[Record], title: str) -> bytes:
    """A PNG of loss, test accuracy and norms by epoch. Raises ImportError where matplotlib is not installed."""
    figure = import_module("matplotlib.figure").Figure(figsize=(13, 4.2), dpi=120, layout="constrained")
    loss, accuracy, norm = figure.subplots(1, 3)
    marker = "." if history[-1].epoch < 20 else ""
    for number, network in enumerate(dict.fromkeys(record.network for record in history)):
        records = [record for record in history if record.network == network]
        epochs = [record.epoch for record in records]
        style = {"color": f"C{number}", "marker": marker}
        loss.plot(epochs, [r.train_loss for r in records], label=f"{network}, train", **style)
        loss.plot(epochs, [r.test_loss for r in records], label=f"{network}, test", linestyle="--", **style)
        accuracy.plot(epochs, [100 * r.test_accuracy for r in records], label=network, **style)
        norm.plot(epochs, [r.mean_norm_w for r in records], label=f"{network}, ‖w‖", **style)
        if records[0].mean_norm_v is not None:
            norm.plot(epochs, [r.mean_norm_v for r in records], label=f"{network}, ‖v‖", linestyle=":", **style)
    loss.set(title="Loss", ylabel="cross-entropy", yscale="log")
    accuracy.set(title="Test accuracy", ylabel="right answers, %")
    norm.set(title="Mean norm of the rows of all weights", ylabel="norm")
    for axes in (loss, accuracy, norm):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title, parse_math=False)  # a path may hold a $
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def norms(means: Mapping[str, tuple[Array, Array]], title: str) -> bytes:
    """A PNG of the means of a `NormRecorder`: of each layer the steps, and `dynamics.FIELDS` by step."""
    figure = import_module("matplotlib.figure").Figure(figsize=(13, 4.2), dpi=120, layout="constrained")
    length, rate, cosine, law = figure.subplots(1, 4)
    colors = import_module("matplotlib").colormaps["viridis"](np.linspace(0, 0.9, len(means)))
    for color, (name, (steps, fields)) in zip(colors, means.items(), strict=True):
        norm, _, effective, turned, predicted, actual = fields
        style = {"color": color, "label": name, "linewidth": 1}
        length.plot(steps, norm, **style)
        rate.plot(steps, effective, **style)
        cosine.plot(steps, turned, **style)
        law.plot(steps, predicted / actual - 1, **style)
    length.set(title="Length of v", ylabel="‖v‖")
    rate.set(title="Effective learning rate", ylabel="lr g²/‖v‖²")
    cosine.set(title="Cosine of the step and v", ylabel="cos(Δv, v)")
    law.set(title="Predicted / actual length", ylabel="√(1 + c²)‖v‖ / ‖v after‖ - 1")
    for axes in (length, rate, cosine, law):
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    figure.legend(*length.get_legend_handles_labels(), loc="outside right upper", ncols=1 + len(means) // 16)
    figure.suptitle(title, parse_math=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()
