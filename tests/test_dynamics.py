"""The recorder of norms: the law of plain gradient descent, who breaks it, and where the numbers go."""

import copy
import csv
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from refusals import message
from training import step_of

import tinygrad_wn as tg
from tinygrad_wn import dynamics, nn, optim
from tinygrad_wn.dynamics import FIELDS
from tinygrad_wn.errors import DTypeError, StateError, ValueRangeError, ZeroNormError

SEEDS = st.integers(0, 2**32)
LAW = 1e-12
BREAKERS: dict[str, Callable[[Any], Any]] = {
    "momentum": lambda net: optim.SGD(net.parameters(), lr=0.1, momentum=0.9),
    "Adam": lambda net: optim.Adam(net.parameters(), lr=0.01),
    "decay": lambda net: optim.SGD(net.parameters(), lr=0.1, weight_decay=0.01),
    "decoupled decay": lambda net: optim.AdamW(net.parameters(), lr=0.01),
}


def mlp(dtype: str = "float64", seed: int = 0, axis: Any = 0) -> Any:
    layers = [nn.Linear(4, 5, dtype=dtype, rng=seed), nn.Tanh(), nn.Linear(5, 3, dtype=dtype, rng=seed + 1)]
    return nn.weight_norm(nn.Sequential(*layers), axis=axis)


def batch(seed: int, dtype: str = "float64") -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((12, 4)).astype(dtype), rng.integers(0, 3, 12)


def norms(part: Any) -> Any:
    """‖v‖ of each slice, at any scale."""
    v = part.v.numpy().astype(float)
    rest = {0: (1,), 1: (0,), None: (0, 1), (0, 1): ()}[part.axis]
    top = np.abs(v).max()
    return top * np.sqrt(np.sum((v / top) ** 2, axis=rest)).ravel()


def recorded(net: Any, optimizer: Any, steps: int, every: int = 1) -> Any:
    """The record of eager steps, and ‖v‖ before and after each of them, as NumPy measures it."""
    recorder = tg.NormRecorder(net, optimizer, every)
    step = step_of(net, optimizer)
    lengths = []
    for i in range(steps):
        before = np.concatenate([norms(part) for part in recorder.parts.values()])
        step(*batch(i, str(net[0].weight.v.dtype)))
        lengths.append((before, np.concatenate([norms(part) for part in recorder.parts.values()])))
    return recorder.table(), *(np.concatenate(some) for some in zip(*lengths, strict=True))


def residual(table: Any) -> Any:
    return np.abs(table["predicted"] / table["actual"] - 1)


# The law


@given(SEEDS, st.sampled_from([0.01, 1.0, 30.0]), st.sampled_from([0, 1, None]), st.sampled_from([0, -500, 500]))
def test_with_plain_gradient_descent_v_grows_as_predicted_and_steps_are_at_right_angles(
    seed: int, lr: float, axis: Any, k: int
) -> None:
    net = mlp(seed=seed, axis=axis)
    for layer in (net[0], net[2]):  # lr grows with the square of v, so that steps keep their size beside it
        layer.weight.v.data = np.ldexp(layer.weight.v.numpy(), k)
    v = {"lr": lr * 4.0**k}
    table, before, after = recorded(net, optim.SGD(nn.parameter_groups(net, v=v), lr=0.1), 5)
    assert_allclose(table["norm"], before, rtol=1e-14)
    assert_allclose(table["actual"], after, rtol=1e-14)
    assert np.all(residual(table) <= LAW)
    assert np.all(np.abs(table["predicted"] / after - 1) <= LAW)
    assert np.all(table["actual"] >= table["norm"] * (1 - LAW))
    turned = table["predicted"] / table["norm"] > 1 + 1e-12  # by more than c = 1e-6, else the angle is rounding
    assert np.all(np.abs(table["cosine"][turned]) <= 1e-8)
    assert turned.any()


@pytest.mark.parametrize("name", BREAKERS)
def test_momentum_adam_and_decay_break_the_law(name: str) -> None:
    net = mlp()
    table, before, after = recorded(net, BREAKERS[name](net), 10)
    assert_allclose(table["norm"], before, rtol=1e-14)
    assert_allclose(table["actual"], after, rtol=1e-13)
    assert residual(table).max() > 1e-5
    assert np.abs(table["cosine"]).max() > 1e-3


def test_decay_makes_v_shorter_against_the_law() -> None:
    net = mlp()
    for p in net.parameters():
        p.grad = tg.zeros(p.shape, p.dtype)
    optimizer = optim.AdamW(net.parameters(), lr=0.5, weight_decay=0.5)
    recorder = tg.NormRecorder(net, optimizer, 1)
    optimizer.step()
    table = recorder.table()
    assert_allclose(table["actual"], 0.75 * table["norm"], rtol=1e-14)
    assert_allclose(table["predicted"], np.sqrt(1 + 0.25**2) * table["norm"], rtol=1e-14)
    assert_allclose(table["cosine"], -1, rtol=1e-14)


# Each field


@given(SEEDS, st.sampled_from(["float32", "float64"]), st.sampled_from([0, 1, None, (0, 1)]))
def test_fields_are_their_formulas(seed: int, dtype: str, axis: Any) -> None:
    net = mlp(dtype, seed, axis)
    part = net[2].weight
    old, g = part.v.numpy().astype(float), part.g.numpy().astype(float)
    optimizer = optim.SGD(nn.parameter_groups(net, v={"lr": 0.7}), lr=0.1, momentum=0.9)
    table, before, after = recorded(net, optimizer, 1)
    move = part.v.numpy().astype(float) - old
    rest = {0: (1,), 1: (0,), None: (0, 1), (0, 1): ()}[axis]
    own = table["layer"] == "2.weight"
    table, norm, actual = table[own], before[own], after[own]
    turn = np.sqrt(np.sum(move * move, axis=rest)).ravel() / norm
    close = 1e-14 if dtype == "float64" else 1e-6  # sums of float32 run in float32
    assert_array_equal(table["unit"], np.arange(g.size))
    assert_array_equal(table["g"], g.ravel())
    assert_allclose(table["norm"], norm, rtol=1e-14)
    assert_allclose(table["actual"], actual, rtol=max(1e-14, close * turn.max()))
    assert_allclose(table["predicted"], np.sqrt(1 + turn**2) * norm, rtol=max(1e-14, close * turn.max() ** 2))
    assert_allclose(table["effective_lr"], 0.7 * (g.ravel() / norm) ** 2, rtol=1e-13)
    assert_allclose(
        table["cosine"] * turn * norm**2, np.sum(move * old, axis=rest).ravel(), atol=close * np.max(norm**2 * turn)
    )


def test_the_effective_rate_is_that_of_a_step_on_w_itself() -> None:
    net = mlp()
    x, y = batch(0)
    lr = 1e-6
    optimizer = optim.SGD([net[0].weight.v], lr=lr)
    recorder = tg.NormRecorder(net[:1], optimizer, 1)
    w = net[0].weight()
    slope = tg.cross_entropy(net[1:](tg.linear(x, w, net[0].bias)), y).gradient(w)[0].numpy()
    before, unit = w.detach().numpy(), w.detach().numpy() / np.linalg.norm(w.detach().numpy(), axis=1, keepdims=True)
    step_of(net, optimizer)(x, y)
    moved = net[0].weight().detach().numpy() - before
    across = slope - np.sum(slope * unit, axis=1, keepdims=True) * unit
    assert_allclose(moved, -recorder.table()["effective_lr"][:, None] * across, rtol=1e-4, atol=1e-12)


def test_v_that_is_not_in_the_optimizer_has_no_rate_and_stands_still() -> None:
    net = mlp()
    optimizer = optim.SGD([net[0].weight.v], lr=0.5)
    recorder = tg.NormRecorder(net, optimizer, 1)
    step_of(net, optimizer)(*batch(0))
    table = recorder.table()
    still = table["layer"] == "2.weight"
    assert_array_equal(np.isnan(table["effective_lr"]), still)
    assert_array_equal(table["cosine"][still], 0)
    assert_array_equal(table["predicted"][still], table["norm"][still])
    assert_array_equal(table["actual"][still], table["norm"][still])
    assert np.all(table["actual"][~still] > table["norm"][~still])


def test_a_layer_that_is_there_twice_is_recorded_once() -> None:
    shared = nn.weight_norm(nn.Linear(2, 2))
    optimizer = optim.SGD(shared.parameters(), lr=0.1)
    recorder = tg.NormRecorder(nn.Sequential(shared, shared), optimizer, 1)
    optimizer.step()
    assert recorder.table()["layer"].tolist() == ["0.weight"] * 2


# Which steps


@pytest.mark.parametrize("every", [1, 2, 3, 7])
def test_one_step_in_k_is_the_step_that_recording_all_shows(every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamics, "ROOM", 2)
    monkeypatch.setattr(dynamics, "BLOCK", 0)
    nets = mlp(), mlp()
    optimizers = [optim.SGD(net.parameters(), lr=0.3, momentum=0.5) for net in nets]
    all_steps, one_in_k = (tg.NormRecorder(*one, k) for *one, k in zip(nets, optimizers, (1, every), strict=True))
    for i in range(15):
        for net, optimizer in zip(nets, optimizers, strict=True):
            step_of(net, optimizer)(*batch(i))
        assert one_in_k.steps == i + 1
        found = one_in_k.table()
    assert_array_equal(found, all_steps.table()[all_steps.table()["step"] % every == 0])
    assert found["step"].max() == 15 // every * every


def test_recorders_do_not_mind_each_other_and_may_stop() -> None:
    net = mlp()
    optimizer = optim.SGD(net.parameters(), lr=0.3)
    first, second = (tg.NormRecorder(net, optimizer, 1) for _ in range(2))
    step = step_of(net, optimizer)
    step(*batch(0))
    first.stop()
    step(*batch(1))
    assert (first.steps, second.steps) == (1, 2)
    assert_array_equal(first.table(), second.table()[:8])


@pytest.mark.parametrize("how", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("wrap", [tg.jit, lambda step: step], ids=["compiled", "eager"])
def test_a_copy_records_the_steps_of_the_copied_optimizer(
    how: Callable[[Any], Any], wrap: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamics, "ROOM", 2)
    net = mlp()
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    twins = [(net, optimizer, tg.NormRecorder(net, optimizer, every=1))]
    for seed in range(3):
        step_of(net, optimizer)(*batch(seed))
    twins.append(how(twins[0]))
    tables = [recorder.table() for _, _, recorder in twins]
    assert_array_equal(*tables)
    for one, new in enumerate((0.2, 0.4)):
        net, optimizer, recorder = twins[one]
        optimizer.param_groups[0]["lr"] = new
        step = wrap(step_of(net, optimizer))
        for seed in range(4):
            step(*batch(seed))
        assert recorder.steps == 7
    first, second = [recorder.table() for _, _, recorder in twins]
    count = len(tables[0])
    assert_array_equal(first[:count], tables[0])
    assert_array_equal(second[:count], tables[0])
    assert (second["effective_lr"][count:] != first["effective_lr"][count:]).all()


def test_a_copy_of_the_recorder_alone_keeps_what_was_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamics, "ROOM", 2)
    net = mlp()
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    recorder = tg.NormRecorder(net, optimizer, every=1)
    step = step_of(net, optimizer)
    copies, tables = [], []
    for seed in range(7):
        copies.append(copy.copy(recorder))
        state = recorder.__getstate__()
        tables.append(recorder.table())
        step(*batch(seed))
        copies[-1].table()
        assert (sum(state["_filled"]), len(state["_rates"])) == (sum(map(len, state["_record"])), min(seed, 1))
    for one, table in zip(copies, tables, strict=True):
        assert_array_equal(one.table(), table)
    assert_array_equal(recorder.table()[: len(tables[-1])], tables[-1])


def test_a_step_that_fails_is_not_recorded() -> None:
    net = mlp()
    optimizer = optim.SGD(net.parameters(), lr=0.3)
    recorder = tg.NormRecorder(net, optimizer, 1)
    step = tg.jit(step_of(net, optimizer))
    step(*batch(0))
    good = net.state_dict()
    net[0].weight.v.data = np.zeros((5, 4))
    message(ZeroNormError, lambda: step(*batch(1)))
    assert recorder.steps == 1
    net.load_state_dict(good)
    step(*batch(1))
    assert recorder.table()["step"].tolist() == [1] * 8 + [2] * 8


# Where the numbers go


def some_record(steps: int) -> tg.NormRecorder:
    net = mlp()
    optimizer = optim.SGD(net.parameters(), lr=0.3)
    recorder = tg.NormRecorder(net, optimizer, 1)
    for i in range(steps):
        step_of(net, optimizer)(*batch(i))
    return recorder


def test_csv_reads_back_as_the_table(tmp_path: Path) -> None:
    recorder = some_record(3)
    recorder.save_csv(tmp_path / "norms.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "norms.csv").read_text())))
    table = recorder.table()
    assert list(rows[0]) == ["step", "layer", "unit", *FIELDS]
    assert len(rows) == len(table) == 3 * 8
    for row, own in zip(rows, table, strict=True):
        assert (int(row["step"]), row["layer"], int(row["unit"])) == (own["step"], own["layer"], own["unit"])
        assert all(float(row[field]) == own[field] for field in FIELDS)
    message(FileNotFoundError, lambda: recorder.save_csv(tmp_path / "missing" / "norms.csv"))


def test_the_plot_is_a_picture() -> None:
    recorder = some_record(5)
    assert recorder.plot("$ in a title").startswith(b"\x89PNG")


def test_an_empty_record_is_an_empty_table_and_no_plot() -> None:
    recorder = some_record(0)
    assert recorder.table().shape == (0,)
    assert "nothing was recorded" in message(StateError, recorder.plot)


# What is refused


def test_mistakes_are_explained() -> None:
    wrong: Any = tg.ones(2)
    net = mlp()
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    assert "not a module" in message(DTypeError, lambda: tg.NormRecorder(wrong, optimizer))
    assert "not an optimizer" in message(DTypeError, lambda: tg.NormRecorder(net, wrong))
    plain = nn.Linear(2, 2)
    assert "no layer is weight-normalized" in message(StateError, lambda: tg.NormRecorder(plain, optimizer))
    for bad in (0, -1, 1.5, True, None):
        assert "every" in message(ValueRangeError, lambda bad=bad: tg.NormRecorder(net, optimizer, every=bad))
    assert not optimizer.watchers
