"""Studies of conditioning, learning rates and cost: laws that hold of what was measured, and what is said of it."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.testing import assert_allclose
from rich.console import Console
from rich.progress import Progress

import tinygrad_wn as tg
from tinygrad_wn.data import Dataset
from tinygrad_wn.studies import STUDIES, conditioning, conditioning_report, cost, learning_rate, learning_rate_report
from tinygrad_wn.studies.conditioning import Probe, measures, network, without
from tinygrad_wn.studies.training import Trainer

pytestmark = pytest.mark.once

SEEDS = st.integers(0, 2**32)
SIZES = (5, 6, 3)
ROUNDING = 1e-12
"""Of float64, for sums over 40 rows and eigenvalues of 6 by 6: 1e-14 was seen."""


@pytest.fixture(scope="module")
def probe() -> Probe:
    return Probe(SIZES)


def rows(seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((40, SIZES[0])), rng.integers(0, SIZES[-1], 40)


def stretched(seed: int) -> Any:
    """A weight-normalized network whose g are not ‖v‖."""
    model = network("weight norm", SIZES, seed, None)
    rng = np.random.default_rng((seed, 1))
    for layer in (model[0], model[2]):
        weight: Any = vars(layer)["weight"]
        weight.v.data = weight.v.numpy() * rng.uniform(0.2, 5, weight.g.shape)
        weight.g.data = weight.g.numpy() * rng.uniform(0.2, 5, weight.g.shape)
    return model


def units(probe: Probe, seed: int) -> Any:
    """w, g/‖v‖, and gradients of w, v and g of all units that have gradients in each direction."""
    for w, scale, dw, dv, dg in probe.gradients(stretched(seed), *rows(seed)):
        for k in range(len(w)):
            if np.linalg.matrix_rank(dw[:, k]) == len(w[k]):
                yield w[k], float(scale[k, 0]), dw[:, k], dv[:, k], dg[:, k, 0]


# Conditioning


@given(SEEDS)
def test_the_covariance_in_v_is_that_in_w_projected_and_scaled(probe: Probe, seed: int) -> None:
    """cov(∇v) = (g²/‖v‖²) M cov(∇w) M, from gradients of two networks; and ∇g = ∇w·w/‖w‖."""
    found = 0
    for w, scale, dw, dv, dg in units(probe, seed):
        u = w / np.linalg.norm(w)
        c, d = (np.cov(slopes.T, bias=True) for slopes in (dw, dv))
        m = np.eye(len(w)) - np.outer(w, w) / (w @ w)
        assert_allclose(d, scale**2 * m @ c @ m, rtol=0, atol=ROUNDING * scale**2 * np.trace(c))
        assert_allclose(dg, dw @ u, rtol=0, atol=ROUNDING * np.abs(dw).max())
        assert_allclose(without(c, u), m @ c @ m, rtol=0, atol=ROUNDING * np.trace(c))
        found += 1
    assert found >= SIZES[-1]


@given(SEEDS)
def test_measures_are_their_formulas_and_eigenvalues_interlace(probe: Probe, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for w, scale, dw, dv, dg in units(probe, seed):
        other = rng.standard_normal(len(w))
        other /= np.linalg.norm(other)
        one = measures(w, scale, dw, dv, dg, other)
        assert one is not None
        assert one["identity"] < ROUNDING
        c, u, n = np.cov(dw.T, bias=True), w / np.linalg.norm(w), len(w)
        values, vectors = np.linalg.eigh(c)
        assert_allclose(one["cosine2"], n * (u @ vectors[:, -1]) ** 2, rtol=1e-8, atol=1e-12)
        # the shares of the trace: what M leaves is the rest of what lies along w
        assert_allclose(np.sum(one["after"]), 1 - u @ c @ u / np.trace(c), rtol=1e-9)
        assert_allclose(one["share"], n * (1 - np.sum(one["after"])), rtol=1e-8, atol=1e-11)
        before, after = one["before"], one["after"]
        assert np.all(before[:-1] >= after - ROUNDING)
        assert np.all(after >= before[1:] - ROUNDING)
        assert max(one["ratio_v"], one["ratio_other"]) <= 1 + 1e-6
        # of λ₁ u₁u₁ᵀ alone, M leaves the share sin² of the angle between w and u₁; C has more, so λ₁(M C M) is no less
        assert one["top"] >= 1 - one["cosine2"] / n - ROUNDING
        pure = without(values[-1] * np.outer(vectors[:, -1], vectors[:, -1]), u)
        assert_allclose(np.linalg.eigvalsh(pure)[-1], values[-1] * (1 - one["cosine2"] / n), rtol=1e-8)
        for name in ("closeness", "closeness_v", "closeness_other", "closeness_top"):
            assert 1 / n <= one[name] * (1 + 1e-12) <= 1 + 1e-9


def test_w_that_is_the_dominant_eigenvector_is_found_and_taken_away() -> None:
    rng = np.random.default_rng(0)
    w = np.array([3.0, 0.0, 4.0, 0.0])
    slopes = rng.standard_normal((4000, 4)) + 10 * rng.standard_normal((4000, 1)) * w / 5
    dv = 2 * (slopes - np.outer(slopes @ w / 25, w))
    one = measures(w, 2.0, slopes, dv, slopes @ w / 5, np.array([0.0, 1.0, 0.0, 0.0]))
    assert one is not None
    assert one["cosine2"] > 3.99
    assert one["top"] < 0.02 < one["top_other"]
    assert_allclose(one["closeness_v"], one["closeness_top"], rtol=1e-2)
    assert one["closeness"] < 0.27 < 0.99 < one["closeness_v"]
    assert measures(w, 2.0, 0 * slopes, 0 * dv, slopes @ w, w / 5) is None


def test_with_g_as_long_as_v_the_pair_is_w_in_other_coordinates(probe: Probe) -> None:
    x, y = rows(3)
    for w, scale, dw, dv, dg in probe.gradients(network("normal", SIZES, 3, None), x, y):
        assert_allclose(scale, 1, rtol=1e-14)
        for k in range(len(w)):
            one = measures(w[k], 1.0, dw[:, k], dv[:, k], dg[:, k, 0], np.eye(len(w[k]))[0])
            if one is not None and one["condition"] < 1e8:
                assert_allclose(one["ratio_gv"], 1, rtol=1e-6)


# Learning rates


def test_v_never_shrinks_under_plain_gradient_descent_and_does_under_others() -> None:
    train, _ = tg.data.split(tg.data.moons(300, rng=0))
    found = {}
    rules: dict[str, tuple[str, dict[str, float]]] = {
        "sgd": ("sgd", {}),
        "momentum": ("momentum", {}),
        "decay": ("sgd", {"weight_decay": 1.0}),
    }
    for name, (kind, options) in rules.items():
        trainer = Trainer("weight norm", (2, 6, 2), train.x[:32], kind, **options)
        found[name] = [learning_rate.first_steps(trainer, train, (0, 0), rate, 32) for rate in (0.01, 0.3)]
    for one in found["sgd"]:
        assert one["shrinks"] == 0
        assert one["residual"] < 1e-6  # ‖v'‖² = ‖v‖² + lr²‖∇v‖², to the rounding of float32
    assert found["momentum"][1]["residual"] > 1e-4
    assert found["decay"][1]["residual"] > 1e-4
    assert found["decay"][1]["shrinks"] > 0.5
    lost = learning_rate.first_steps(trainer, Dataset(train.x * 1e38, train.y), (0, 0), 1e38, 32)
    assert lost == {"shrinks": 0, "residual": 0}


def test_lengths_are_those_of_hidden_rows_and_a_run_that_diverges_is_none() -> None:
    train, test = tg.data.split(tg.data.moons(300, rng=0))
    few = dataclasses.replace(learning_rate.QUICK, epochs=2, batch=32)
    for method in ("weight norm", "normal"):
        trainer = Trainer(method, (2, 6, 2), train.x[:32], "sgd")
        trainer.start((0, 0, 0), 0.1)
        layer: Any = trainer.model[0]
        before, w = (np.linalg.norm(tg.nn.effective(layer.weight).detach().numpy(), axis=1) for _ in range(2))
        v, g = learning_rate._lengths(trainer.model)
        assert_allclose(g, w, rtol=1e-6)
        assert len(v) == len(before) == 6
        one = learning_rate._trained(trainer, train, test, (0, 0), 0.1, few)
        assert one is not None
        assert one["lengths"][0] == 1
        assert len(one["lengths"]) == 3
        assert ("rates" in one) == (method == "weight norm")
        if method == "weight norm":
            assert_allclose(one["rates"][0], np.median(0.1 * (g / v) ** 2))
        assert learning_rate._trained(trainer, train, test, (0, 0), 1e30, few) is None


@given(st.floats(-2, 2), st.integers(2, 9))
def test_the_slope_is_the_power_of_the_rate(power: float, count: int) -> None:
    cells = [{"rate": rate, "rates": [rate, 3 * rate**power]} for rate in np.logspace(-3, 1, 2 * count).tolist()]
    assert learning_rate_report.slope(cells) == pytest.approx(power, abs=1e-9)


# Cost


@given(SEEDS)
@settings(max_examples=10)
def test_all_forms_compute_the_same_and_give_the_same_gradients(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((7, 4)), rng.integers(0, 3, 7)
    found = {}
    for form in cost.FORMS:
        forward, parameters = cost.network(form, (4, 5, 3), seed, "float64")
        loss = tg.cross_entropy(forward(x), y)
        found[form] = [loss.detach().numpy(), *(p.numpy() for p in loss.gradient(*parameters))]
    assert_allclose(found["plain"][0], found["layer"][0], rtol=1e-12)
    for form in cost.FORMS[2:]:
        for one, other in zip(found[form], found["layer"], strict=True):
            assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_turns_go_round_and_ratios_are_paired() -> None:
    order: list[str] = []

    def turn(name: str, seconds: float) -> Any:
        def take(steps: int) -> tuple[float, int]:
            order.append(name)
            return seconds * steps, steps

        return take

    given_turns = {("eager", "plain"): turn("p", 0.002), ("eager", "weight-side"): turn("w", 0.004)}
    times = cost.in_turns(given_turns, rounds=3)
    assert "".join(order) == "ppww" + "pw" + "wp" + "pw"
    plain, weight = cost.figures(times)
    assert (plain["minimum"], weight["median"]) == (pytest.approx(2000), pytest.approx(4000))
    assert "over_plain" not in plain
    assert weight["over_plain"] == {"median": 2, "low": 2, "high": 2}
    slow = cost.figures({("a", "plain"): [1.0, 4.0], ("a", "weight-side"): [2.0, 8.0]})[1]
    assert slow["over_plain"]["low"] == 2  # what slows a round down slows both


def test_without_the_benchmarks_peers_are_left_out_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "find_spec", lambda _: None)
    peers = cost.Peers(("torch",))
    assert "run in a clone" in peers.left_out["torch"]
    assert peers.turns((4, 3), 2) == {}
    peers.close()


# All of them

TINY: dict[str, Any] = {
    "conditioning": dataclasses.replace(conditioning.QUICK, hidden=(5, 4), rows=64, stages=(0, 1)),
    "learning-rate": dataclasses.replace(learning_rate.QUICK, optimizers=("SGD",), hidden=(4,), epochs=1),
    "cost": dataclasses.replace(cost.QUICK, batches=(2,), widths=(4,), rounds=2),
}
MEASURES = [
    *("top", "top_other", "ratio_v", "ratio_other", "ratio_gv", "scale"),
    *("closeness", "closeness_v", "closeness_other", "closeness_top"),
]


@pytest.mark.parametrize("name", TINY)
def test_a_result_is_json_depends_on_the_seed_alone_and_can_be_shown(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = STUDIES[name]
    monkeypatch.setattr(study, "QUICK", TINY[name])
    monkeypatch.setattr(cost, "TURN", 0.0)
    results = [study.run(True, seed, Progress(disable=True)) for seed in ((5,) if name == "cost" else (5, 5, 6))]
    first, *others = (json.loads(json.dumps(one, allow_nan=False)) for one in results)
    if others:
        assert first == others[0] != others[1]
    assert {"settings", "environment"} < first.keys()
    console = Console(width=200)
    with console.capture() as shown:
        for table in study.tables(first):
            console.print(table)
    assert "weight" in shown.get()
    sentences = study.summary(first)
    assert all(isinstance(one, str) and one.endswith(".") for one in sentences)
    assert any("The paper (arXiv 1602.07868" in one for one in sentences)
    assert len(study.draw(first).axes) > 1


def test_the_summary_follows_the_figures() -> None:
    cell: dict[str, Any] = {
        "inputs": "pixels",
        "trained": "normal",
        "epochs": 1,
        "layer": 0,
        "n": 4,
        "units": 10,
        "parallel": 0.5,
        "cosine2": {"mean": 2.0, "half_width": 0.5},
        "quartiles": {name: [0.1, 0.2, 0.3] for name in MEASURES},
        "spectra": {},
    }
    result: dict[str, Any] = {"settings": dataclasses.asdict(conditioning.QUICK), "identity": 1e-15}
    for half, text in (
        (0.5, "in 2 of 2 cases."),
        (1.5, "in 0 of 2 cases; not so: pixels, normal, layer 1; pixels, normal, layer 2."),
    ):
        cell["cosine2"] = {"mean": 2.0, "half_width": half}
        found = " ".join(conditioning_report.summary({**result, "cells": [cell, {**cell, "layer": 1}]}))
        assert text in found
        assert "50.0% of 20 units" in found
