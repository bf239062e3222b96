"""The pictures of docs/weight-norm.md: `python -m docs.pictures` draws them into docs/_static; needs `[plots]`.

All numbers come from tinygrad_wn. Each SVG holds those it shows as its description, and
tests/test_explained.py compares them with what is computed now.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import tinygrad_wn as tg
from tinygrad_wn import nn, optim

if TYPE_CHECKING:
    from collections.abc import Callable

    from tinygrad_wn.domains import Array

FOLDER = Path(__file__).parent / "_static"
# Colours that stay apart for colour-blind readers (after Okabe and Ito), on white, also in a dark page.
V, W, ALONG, ACROSS, INK, SOFT = "#0072B2", "#c04a00", "#A0488A", "#00795A", "#1b1f24", "#5b6470"
MINUS = "\N{MINUS SIGN}"
BEST = np.array([2.4, 1.2])
FLAT, STEEP = 0.25, 4.0
START = 2 * np.array([np.cos(np.radians(65)), np.sin(np.radians(65))])
RATES = (0.1, 0.4, 0.8, 1.6)

Numbers = dict[str, Any]


def valley(w: Any) -> Any:
    """A loss with its minimum at BEST: flat along that direction, steep across it; w of shape (2,), float64."""
    along = BEST / np.linalg.norm(BEST)
    across = np.array([-along[1], along[0]])
    off = w - BEST
    return (FLAT * tg.square((off * along).sum()) + STEEP * tg.square((off * across).sum())) / 2


def one_step(v: Array, g: float, rate: float) -> dict[str, Array]:
    """w, the gradients of the valley, and v, g and w after a step of gradient descent at that rate."""
    leaf_v, leaf_g = (tg.tensor(x, "float64", requires_grad=True) for x in (v, [g]))
    w = tg.weight_norm(leaf_v, leaf_g, axis=None)
    at_w = tg.grad(valley)(w.detach()).numpy()
    dv, dg = (slope.numpy() for slope in valley(w).gradient(leaf_v, leaf_g))
    new_v, new_g = v - rate * dv, np.array([g]) - rate * dg
    new_w = tg.weight_norm(new_v, new_g, axis=None).numpy()
    return {"w": w.numpy(), "∇w": at_w, "∇v": dv, "∇g": dg, "v'": new_v, "g'": new_g, "w'": new_w}


def descent(rate: float, steps: int, normalized: bool) -> dict[str, Array]:
    """Loss before each step, and ‖v‖ and the effective step size of each, from w = START."""
    layer: Any = nn.Linear(2, 1, bias=False, dtype="float64")
    layer.weight.data = START[None]
    layer = nn.weight_norm(layer) if normalized else layer
    optimizer = optim.SGD(layer.parameters(), lr=rate)
    recorder = tg.NormRecorder(layer, optimizer, every=1) if normalized else None
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = valley((layer.weight() if normalized else layer.weight).reshape(2))
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    table = recorder.table() if recorder else None
    fields = {} if table is None else {name: table[name] for name in ("norm", "effective_lr")}
    return {"loss": np.array(losses), **fields}


def picture(width: float, height: float, panels: int = 1) -> tuple[Any, Any]:
    figure = import_module("matplotlib.figure").Figure(figsize=(width, height), layout="constrained", facecolor="white")
    return figure, np.atleast_1d(figure.subplots(1, panels))


def plane(axes: Any, low: tuple[float, float], high: tuple[float, float]) -> None:
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    axes.axhline(0, color=SOFT, linewidth=0.6)
    axes.axvline(0, color=SOFT, linewidth=0.6)
    axes.tick_params(colors=SOFT, labelsize=9)
    for side in axes.spines.values():
        side.set_visible(False)


def arrow(
    axes: Any, start: Any, end: Any, color: str, text: str = "", off: tuple[float, float] = (0, 0), **style: Any
) -> None:
    style = {
        "arrowstyle": "-|>",
        "color": color,
        "linewidth": 2,
        "shrinkA": 0,
        "shrinkB": 0,
        "mutation_scale": 13,
    } | style
    axes.annotate("", xy=tuple(end), xytext=tuple(start), arrowprops=style)
    if text:
        middle = (np.asarray(start) + np.asarray(end)) / 2 + off
        axes.text(*middle, text, color=color, ha="center", va="center", fontsize=11)


def right_angle(axes: Any, corner: Any, first: Any, second: Any, size: float = 0.16) -> None:
    a, b = (np.asarray(x) / np.linalg.norm(x) * size for x in (first, second))
    axes.plot(*np.transpose([corner + a, corner + a + b, corner + b]), color=INK, linewidth=1)


def circle(axes: Any, radius: float, color: str, **style: Any) -> None:
    angle = np.linspace(0, 2 * np.pi, 181)
    axes.plot(radius * np.cos(angle), radius * np.sin(angle), color=color, linewidth=1, **style)


def length_and_direction() -> tuple[Any, Numbers]:
    """Left: v of three lengths and one w. Right: one v and three g."""
    figure, (left, right) = picture(7.4, 3.7, 2)
    u, g = np.array([0.8, 0.6]), 2.0
    lengths, lengths_of_w = (0.9, 1.5, 2.9), (0.8, 1.6, 2.4)
    same = [tg.weight_norm(n * u, [g], axis=None).numpy() for n in lengths]
    other = [tg.weight_norm(1.2 * u, [n], axis=None).numpy() for n in lengths_of_w]
    for axes in (left, right):
        plane(axes, (-0.6, -0.6), (2.9, 2.9))
    circle(left, g, W, linestyle="--")
    left.text(1.15, 2.05, "all w of length g = 2", color=W, fontsize=11)
    arrow(left, (0, 0), same[0], W, linewidth=4)
    left.text(*(same[0] + (0.18, -0.28)), "w", color=W, fontsize=13, weight="bold")
    for number, n in enumerate(lengths):
        shift = (0.09 + 0.09 * number) * np.array([-u[1], u[0]])
        arrow(left, shift, n * u + shift, V, linewidth=1.6)
    left.text(1.05, 1.35, "v, of three\nlengths", color=V, fontsize=11, ha="right")
    left.set_title("The length of v does not matter", fontsize=11)
    for n, w in zip(lengths_of_w, other, strict=True):
        circle(right, n, W, linestyle="--", alpha=0.6)
        right.plot(*w, "o", color=W, markersize=8)
        right.text(w[0] + 0.12, w[1] - 0.22, f"g = {n}", color=W, fontsize=11)
    arrow(right, (0, 0), other[-1], W, linewidth=1.6)
    arrow(right, (0, 0), 1.2 * u, V, linewidth=3)
    right.text(0.62, 0.72, "v", color=V, fontsize=13, weight="bold", ha="right")
    right.set_title("g is the length of w", fontsize=11)
    return figure, {"one w": same, "three w": other}


def split_gradient() -> tuple[Any, Numbers]:
    """The step of w, its parts along and across v, and the steps of g and v that they become."""
    figure, (left, right) = picture(7.8, 3.8, 2)
    v, g, rate = 1.5 * START / 2, 2.2, 0.25
    found = one_step(v, g, rate)
    w, u = found["w"], v / np.linalg.norm(v)
    end, leg = w - rate * found["∇w"], w - rate * found["∇g"] * u
    for axes in (left, right):
        plane(axes, (-0.4, -0.3), (3.1, 2.4))
        axes.plot(*np.transpose([-0.4 * u, 3 * u]), color=SOFT, linewidth=1, linestyle=":")
    arrow(left, (0, 0), w, W, "w", (-0.2, 0.1))
    arrow(left, w, end, INK, f"{MINUS}η∇w", (0.25, 0.2))
    arrow(left, w, leg, ALONG, f"along v:\n{MINUS}η∇g", (-0.5, 0.1), linewidth=3)
    arrow(left, leg, end, ACROSS, f"across v:\n{MINUS}η M∇w", (-0.12, -0.33), linewidth=3)
    right_angle(left, leg, w - leg, end - leg)
    left.set_title("A step of w has a part along v and one across it", fontsize=11)
    arrow(right, (0, 0), v, V, "v", (-0.16, 0.1))
    arrow(right, v, found["v'"], ACROSS, f"{MINUS}η∇v = {MINUS}η (g/‖v‖) M∇w", (0.72, 0.16), linewidth=3)
    arrow(right, (0, 0), found["v'"], V, linestyle="--", linewidth=1.4)
    right_angle(right, v, -v, found["v'"] - v)
    right.plot(*w, "o", color=W)
    right.text(w[0] - 0.1, w[1] + 0.05, "w", color=W, ha="right", fontsize=11)
    right.plot(*found["w'"], "D", color=W)
    right.text(*(found["w'"] + (0.1, 0.02)), "w after the step\nof g and v", color=W, fontsize=11, va="top")
    right.text(*(found["v'"] + (0.08, -0.2)), "v after it,\nlonger", color=V, fontsize=11)
    right.set_title("g takes the part along v, v turns by the other", fontsize=11)
    return figure, found


def growing_length() -> tuple[Any, Numbers]:
    """v under noisy gradients, each step at a right angle to it; and ‖v‖ beside what Pythagoras says."""
    figure, (left, right) = picture(7.8, 3.7, 2)
    rng, g, rate, path = np.random.default_rng(2), np.array([2.0]), 0.2, [START / 2]
    for _ in range(20):
        v = tg.tensor(path[-1], requires_grad=True)
        w = tg.weight_norm(v, g, axis=None)
        noisy = w.numpy() - BEST + 2 * rng.standard_normal(2)  # of the round bowl ½‖w - BEST‖²
        path.append(path[-1] - rate * w.gradient(v, cotangent=noisy)[0].numpy())
    points = np.array(path)
    norms = np.linalg.norm(points, axis=1)
    moves = np.linalg.norm(np.diff(points, axis=0), axis=1)
    law = norms[:-1] * np.sqrt(1 + (moves / norms[:-1]) ** 2)
    plane(left, (-0.3, -0.2), (2.3, 1.8))
    circle(left, 1, SOFT, linestyle=":")
    left.plot(*points.T, "-o", color=V, markersize=3, linewidth=1)
    for number in range(4):
        arrow(left, (0, 0), points[number], SOFT, linewidth=1)
        right_angle(left, points[number], -points[number], points[number + 1] - points[number], 0.08)
        left.text(*(points[number] * 1.05 - (0.08, 0)), f"v{'₀₁₂₃'[number]}", color=V, fontsize=12)
    left.set_title("Each step of v is at a right angle to v", fontsize=11)
    right.plot(norms, "o-", color=V, label="‖v‖")
    right.plot(range(1, 21), law, "x", color=W, markersize=9, label="√(1 + c²)‖v‖ of the step before")
    right.set(xlabel="step", title="so ‖v‖ grows as Pythagoras says")
    right.xaxis.get_major_locator().set_params(integer=True)
    right.title.set_fontsize(11)
    right.legend(loc="lower right")
    right.grid(alpha=0.3)
    return figure, {"path": points, "predicted": law}


def step_sizes() -> tuple[Any, Numbers]:
    """Four step sizes in a valley: loss with w trained alone, with g and v, and the effective step sizes."""
    figure, (alone, split, effective) = picture(9, 3.4, 3)
    numbers: Numbers = {}
    for number, rate in enumerate(RATES):
        style = {
            "color": (V, ACROSS, ALONG, W)[number],
            "linestyle": ("-", "--", "-.", ":")[number],
            "label": f"η = {rate}",
        }
        runs = [descent(rate, 61, normalized) for normalized in (False, True)]
        alone.plot(runs[0]["loss"], **style)
        split.plot(runs[1]["loss"], **style)
        effective.plot(runs[1]["effective_lr"], **style)
        numbers[f"η = {rate}"] = [runs[0]["loss"][[0, 1, 10]], runs[1]["loss"][[0, 1, 10]], runs[1]["norm"][[0, 1, 10]]]
    for axes, title in ((alone, "loss, w trained alone"), (split, "loss, g and v trained")):
        axes.set(yscale="log", ylim=(1e-6, 1e3), title=title)
    effective.axhline(2 / STEEP, color=INK, linewidth=1)
    effective.text(60, 2.2 / STEEP, "2 / steepest curvature", ha="right", fontsize=9)
    effective.set(yscale="log", title="effective step size η g²/‖v‖²")
    for axes in (alone, split, effective):
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        axes.title.set_fontsize(11)
    alone.legend(fontsize=9)
    return figure, numbers


PICTURES: dict[str, Callable[[], tuple[Any, Numbers]]] = {
    "length-and-direction": length_and_direction,
    "split-gradient": split_gradient,
    "growing-length": growing_length,
    "step-sizes": step_sizes,
}


def plain(value: Any) -> Any:
    """Numbers with six digits, as JSON has them."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if np.ndim(value) else float(f"{float(value):.6g}")


def main() -> None:
    """Draw all pictures."""
    settings = {"svg.hashsalt": "tinygrad_wn", "font.family": "DejaVu Sans", "font.size": 11}
    with import_module("matplotlib").rc_context(settings):
        for name, draw in PICTURES.items():
            figure, numbers = draw()
            metadata = {"Date": None, "Description": json.dumps(plain(numbers), ensure_ascii=False)}
            figure.savefig(FOLDER / f"{name}.svg", metadata=metadata)


if __name__ == "__main__":
    main()
