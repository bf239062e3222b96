"""Covariance of the gradient in w, in v and in (g, v), unit by unit, at several stages of training.

Section 2.1 of arXiv 1602.07868: ∇v = (g/‖v‖) M ∇w with M = I - w wᵀ/‖w‖², so the covariance C of ∇w becomes
D = (g²/‖v‖²) M C M. The paper finds w often close to the dominant eigenvector of C, which M then removes, and D closer
to the identity. Here both covariances are taken over the gradients of all training rows, one by one; that of batches of
B rows drawn with replacement is 1/B of it, with the same eigenvectors. Beside w, a random direction and the dominant
eigenvector itself are removed: the one shows what any projection does, the other what it could do at best.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import data, nn, optim
from ..compiled import jit, scan
from ..errors import ValueRangeError
from ..train import step_of
from .conditioning_report import draw, summary, tables
from .environment import environment
from .intervals import interval
from .training import one_thread

if TYPE_CHECKING:
    from rich.progress import Progress

    from ..domains import Array

__all__ = ["draw", "run", "summary", "tables"]

TRAINED = ("normal", "weight norm", "weight norm, from data")
"""Trained as w; as g and v that start as ‖w‖ and w; and as the paper starts: v from N(0, 0.05²), g and b from data."""
INPUTS = ("pixels", "centred pixels")
FLAT = 1e-12
"""An eigenvalue below this share of the largest is none."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides the result, apart from the seed: the network, its training, and after which epochs to look."""

    hidden: tuple[int, ...]
    rows: int
    stages: tuple[int, ...]
    runs: int
    batch: int = 32
    rate: float = 0.003
    momentum: float = 0.9


FULL = Settings(hidden=(32, 16), rows=1438, stages=(0, 1, 5, 30), runs=5)
QUICK = Settings(hidden=(16, 8), rows=320, stages=(0, 3), runs=2)


def run(quick: bool, seed: int, progress: Progress) -> dict[str, Any]:
    """Measures of all units: of each kind of inputs and of training, after each stage, for each layer."""
    settings = QUICK if quick else FULL
    rows, _ = data.split(data.digits())
    x, y = rows.x[: settings.rows].astype(np.float64), rows.y[: settings.rows]
    found: dict[tuple[str, str, int, int], list[list[dict[str, Any]]]] = {}
    task = progress.add_task("conditioning", total=len(INPUTS) * len(TRAINED) * settings.runs)
    with one_thread():
        for inputs in INPUTS:
            given = x - x.mean(axis=0) if inputs == "centred pixels" else x
            probe = Probe((x.shape[1], *settings.hidden, rows.classes))
            for trained in TRAINED:
                for number in range(settings.runs):
                    for epochs, layers in _stages(probe, trained, given, y, settings, (seed, number)):
                        for i, units in enumerate(layers):
                            found.setdefault((inputs, trained, epochs, i), []).append(units)
                    progress.advance(task)
        where = environment()
    return {
        "settings": asdict(settings),
        "environment": where,
        "identity": max(unit["identity"] for runs in found.values() for units in runs for unit in units),
        "cells": [_cell(key, runs, key[2] == settings.stages[-1]) for key, runs in found.items()],
    }


class Probe:
    """Gradients of single rows at the weights of any network of these sizes, by w and by (g, v).

    >>> from tinygrad_wn.studies.conditioning import Probe, network
    >>> x, y = np.random.default_rng(0).standard_normal((5, 4)), np.arange(5) % 3
    >>> (_, _, dw, dv, dg), last = Probe((4, 6, 3)).gradients(network("weight norm", (4, 6, 3), 0, x), x, y)
    >>> dw.shape, dv.shape, dg.shape
    ((5, 6, 4), (5, 6, 4), (5, 6, 1))
    """

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self.sizes = sizes
        self.plain, self.pair = (_linears(network(kind, sizes, 0, None)) for kind in TRAINED[:2])
        self.by_w = jit(lambda x, y: _loss(self.plain, x, y).gradient(*[one.weight for one in self.plain]))
        self.by_pair = jit(lambda x, y: _loss(self.pair, x, y).gradient(*_parameters(self.pair)))

    def gradients(self, model: nn.Sequential, x: Array, y: Array) -> list[tuple[Array, Array, Array, Array, Array]]:
        """Of each layer w (units, inputs), g/‖v‖ (units, 1), and the gradients of w, v and g for each row of x."""
        weights = []
        for layer, plain, pair in zip(_linears(model), self.plain, self.pair, strict=True):
            w = nn.effective(layer.weight).detach().numpy()
            length = np.linalg.norm(w, axis=1, keepdims=True)
            own = layer.weight if isinstance(layer.weight, nn.WeightNorm) else None
            v, g = (w, length) if own is None else (own.v.numpy(), own.g.detach().numpy())
            plain.weight.data, pair.weight.v.data, pair.weight.scale.data = w, v, g
            plain.bias.data = pair.bias.data = layer.bias.numpy()
            weights.append((w.copy(), g / np.linalg.norm(v, axis=1, keepdims=True)))
        one_by_one = x[:, None], y[:, None]
        slopes = [one.numpy() for one in scan(self.by_w, *one_by_one)]
        pairs = [one.numpy() for one in scan(self.by_pair, *one_by_one)]
        return [(*own, slopes[i], pairs[2 * i], pairs[2 * i + 1]) for i, own in enumerate(weights)]


def network(trained: str, sizes: tuple[int, ...], seed: Any, x: Array | None) -> nn.Sequential:
    """A float64 network of Linear and ReLU, as one of `TRAINED`; only the last looks at the batch `x`.

    >>> from tinygrad_wn.studies.conditioning import network
    >>> len(network("normal", (4, 6, 3), 0, None))
    3
    """
    rng = np.random.default_rng(seed)
    layers: list[nn.Module] = []
    for inputs, units in pairwise(sizes):
        layers += [nn.Linear(inputs, units, dtype="float64", rng=rng), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    if trained == TRAINED[0]:
        return model
    model = nn.weight_norm(model)
    return nn.data_init(model, x, rng=rng) if trained == TRAINED[2] else model


def measures(w: Array, scale: float, dw: Array, dv: Array, dg: Array, other: Array) -> dict[str, Any] | None:
    """What the covariances of one unit's gradients are like; None where fewer than three directions have any.

    w (inputs,), `scale` = g/‖v‖, gradients dw and dv (rows, inputs) and dg (rows,); `other` (inputs,) is a direction to
    compare with. `before` and `after` are the eigenvalues of C and of M C M without the one for w, as shares of the
    trace of C. `closeness` is the squared cosine, by the Frobenius product, of a covariance and the identity: 1 for
    equal eigenvalues, 1/n for a single one; with w, with `other`, and with the dominant eigenvector projected out.
    `ratio_v`, `ratio_other` and `ratio_gv` are condition numbers over that of C, one dimension less where one is
    projected out; so the first two are at most 1 (interlacing).

    >>> from tinygrad_wn.studies.conditioning import measures
    >>> slopes = np.diag([3.0, 2.0, 1.0, 1.0]) @ np.array([[1, 1, 1], [1, -1, 0], [1, 0, -1], [-1, 0, 0]])
    >>> w = np.array([1.0, 0.0, 0.0])
    >>> found = measures(w, 1.0, slopes, slopes * (w == 0), slopes @ w, np.array([0.0, 0.0, 1.0]))
    >>> found["identity"] < 1e-15, bool(found["ratio_v"] <= 1)
    (True, True)
    """
    n = len(w)
    unit = w / np.linalg.norm(w)
    c, d, joint = (_covariance(slopes) for slopes in (dw, dv, np.column_stack([dg, dv])))
    values, vectors = np.linalg.eigh(c)
    rank = int(np.sum(values > FLAT * values[-1]))
    if rank < 3:
        return None
    before, after = values[::-1], np.linalg.eigvalsh(d)[:0:-1] / scale**2
    both = np.linalg.eigvalsh(joint)[::-1]
    without_other, without_top = (np.linalg.eigvalsh(without(c, u))[:0:-1] for u in (other, vectors[:, -1]))
    condition = before[0] / before[rank - 1]
    return {
        "cosine2": n * float(unit @ vectors[:, -1]) ** 2,
        "share": n * float(unit @ c @ unit / np.trace(c)),
        "top": after[0] / before[0],
        "top_other": without_other[0] / before[0],
        "closeness": _closeness(before),
        "closeness_v": _closeness(after),
        "closeness_other": _closeness(without_other),
        "closeness_top": _closeness(without_top),
        "condition": condition,
        "ratio_v": after[0] / after[rank - 2] / condition,
        "ratio_other": without_other[0] / without_other[rank - 2] / condition,
        "ratio_gv": both[0] / both[rank - 1] / condition,
        "scale": scale,
        "identity": float(np.abs(d - scale**2 * without(c, unit)).max() / (scale**2 * before[0])),
        "before": before / np.trace(c),
        "after": after / np.trace(c),
    }


def without(c: Array, u: Array) -> Array:
    """M c M with M = I - u uᵀ, for a direction u of length 1.

    >>> from tinygrad_wn.studies.conditioning import without
    >>> without(np.diag([3.0, 2.0]), np.array([1.0, 0.0]))
    array([[0., 0.],
           [0., 2.]])
    """
    m = np.eye(len(u)) - np.outer(u, u)
    return m @ c @ m


def _stages(probe: Probe, trained: str, x: Array, y: Array, settings: Settings, seed: tuple[int, int]) -> Any:
    """After each stage, its epochs and the measures of all units of each layer."""
    model = network(trained, probe.sizes, (*seed, 0), x)
    optimizer = optim.SGD(model.parameters(), lr=settings.rate, momentum=settings.momentum)
    step = jit(step_of(model, optimizer))
    rng = np.random.default_rng((*seed, 1))
    done, steps = 0, len(y) // settings.batch
    for stage in settings.stages:
        while done < stage:
            order = rng.permutation(len(y))[: steps * settings.batch].reshape(steps, -1)
            losses = scan(step, x[order], y[order]).numpy()
            done += 1
            if not np.isfinite(losses).all():
                facts = {"trained": trained, "epoch": done, "seed": seed[0]}
                raise ValueRangeError("study conditioning: the loss is no longer finite", facts, hint="another --seed")
        layers = []
        for w, scale, dw, dv, dg in probe.gradients(model, x, y):
            others = rng.standard_normal(w.shape)
            others /= np.linalg.norm(others, axis=1, keepdims=True)
            units = [
                measures(w[k], float(scale[k, 0]), dw[:, k], dv[:, k], dg[:, k, 0], others[k]) for k in range(len(w))
            ]
            layers.append([one for one in units if one is not None])
        yield stage, layers


def _cell(key: tuple[str, str, int, int], runs: list[list[dict[str, Any]]], last: bool) -> dict[str, Any]:
    """Quartiles over all units of a layer, means by run, and for the last stage mean spectra."""
    inputs, trained, epochs, layer = key
    units = [unit for one in runs for unit in one]
    n = len(units[0]["before"])
    names = [name for name, value in units[0].items() if np.ndim(value) == 0 and name != "identity"]
    quartiles = {name: _short(np.quantile([unit[name] for unit in units], [0.25, 0.5, 0.75])) for name in names}
    cell = {
        "inputs": inputs,
        "trained": trained,
        "epochs": epochs,
        "layer": layer,
        "n": n,
        "units": len(units),
        "parallel": float(np.mean([unit["cosine2"] > n / 2 for unit in units])),
        "cosine2": interval([float(np.mean([unit["cosine2"] for unit in one])) for one in runs]),
        "share": interval([float(np.mean([unit["share"] for unit in one])) for one in runs]),
        "quartiles": quartiles,
    }
    if last:
        spectra = {name: np.mean([unit[name] for unit in units], axis=0) for name in ("before", "after")}
        cell["spectra"] = {name: _short(values) for name, values in spectra.items()}
    return cell


def _short(values: Array) -> list[float]:
    """Four digits of each."""
    return [float(f"{x:.4g}") for x in values]


def _linears(model: nn.Sequential) -> list[Any]:
    return [layer for layer in model if isinstance(layer, nn.Linear)]


def _parameters(layers: list[Any]) -> list[Any]:
    return [one for layer in layers for one in (layer.weight.v, layer.weight.scale)]


def _loss(layers: list[Any], x: Any, y: Any) -> Any:
    for layer in layers[:-1]:
        x = nn.ReLU()(layer(x))
    return nn.cross_entropy(layers[-1](x), y)


def _covariance(slopes: Array) -> Array:
    around = slopes - slopes.mean(axis=0)
    return around.T @ around / len(slopes)


def _closeness(values: Array) -> float:
    """cos² of the identity and a covariance with these eigenvalues."""
    return float(values.sum() ** 2 / (len(values) * np.sum(values**2)))
