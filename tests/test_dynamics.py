"""The recorder of norms: the law of plain gradient descent, who breaks it, and where the numbers go."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import tinygrad_wn as tg
from tinygrad_wn import nn, optim
from tinygrad_wn.dynamics import FIELDS
from tinygrad_wn.errors import CompileError, DTypeError, StateError, ValueRangeError

SEEDS = st.integers(0, 2**32)
LAW = 1e-12
BREAKERS: dict[str, Callable[[Any], Any]] = {
    "momentum": lambda net: optim.SGD(net.parameters(), lr=0.1, momentum=0.9),
    "Adam": lambda net: optim.Adam(net.parameters(), lr=0.01),
    "decay": lambda net: optim.SGD(net.parameters(), lr=0.1, weight_decay=0.01),
    "decoupled decay": lambda net: optim.AdamW(net.parameters(), lr=0.01),
}


def message(kind: type[Exception], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    return str(caught.value)


def mlp(dtype: str = "float64", seed: int = 0, axis: Any = 0) -> Any:
    layers = [nn.Linear(4, 5, dtype=dtype, rng=seed), nn.Tanh(), nn.Linear(5, 3, dtype=dtype, rng=seed + 1)]
    return nn.weight_norm(nn.Sequential(*layers), axis=axis)


def batch(seed: int, dtype: str = "float64") -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((12, 4)).astype(dtype), rng.integers(0, 3, 12)


def step_of(net: Any, optimizer: Any) -> Callable[[Any, Any], Any]:
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = tg.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def recorded(net: Any, optimizer: Any, steps: int, every: int = 1, compiled: bool = False) -> Any:
    recorder = tg.NormRecorder(net, optimizer, every, compiled=compiled)
    step = step_of(net, optimizer)
    step = tg.jit(step) if compiled else step
    for i in range(steps):
        step(*batch(i, str(net[0].weight.v.dtype)))
        recorder.record()
    return recorder


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
    table = recorded(net, optim.SGD(nn.parameter_groups(net, v=v), lr=0.1), 5).table()
    assert np.all(residual(table) <= LAW)
    assert np.all(table["actual"] >= table["norm"] * (1 - LAW))
    turned = table["predicted"] / table["norm"] > 1 + 1e-12  # by more than c = 1e-6, else the angle is rounding
    assert np.all(np.abs(table["cosine"][turned]) <= 1e-8)
    assert turned.any()


def test_the_law_holds_for_compiled_steps_too() -> None:
    tables = []
    for compiled in (False, True):
        net = mlp()
        tables.append(recorded(net, optim.SGD(net.parameters(), lr=0.5), 10, compiled=compiled).table())
    assert np.all(residual(tables[1]) <= LAW)
    for field in FIELDS:
        assert_allclose(tables[1][field], tables[0][field], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", BREAKERS)
def test_momentum_adam_and_decay_break_the_law(name: str) -> None:
    net = mlp()
    table = recorded(net, BREAKERS[name](net), 10).table()
    assert residual(table).max() > 1e-5
    assert np.abs(table["cosine"]).max() > 1e-3


def test_decay_makes_v_shorter_against_the_law() -> None:
    net = mlp()
    for p in net.parameters():
        p.grad = tg.zeros(p.shape, p.dtype)
    optimizer = optim.AdamW(net.parameters(), lr=0.5, weight_decay=0.5)
    recorder = tg.NormRecorder(net, optimizer)
    optimizer.step()
    recorder.record()
    table = recorder.table()
    assert_allclose(table["actual"], 0.75 * table["norm"], rtol=1e-14)
    assert_allclose(table["predicted"], np.sqrt(1 + 0.25**2) * table["norm"], rtol=1e-14)
    assert_allclose(table["cosine"], -1, rtol=1e-14)


# Each field


@given(SEEDS, st.sampled_from(["float32", "float64"]), st.sampled_from([0, 1, None, (0, 1)]))
def test_fields_are_their_formulas(seed: int, dtype: str, axis: Any) -> None:
    net = mlp(dtype, seed, axis)
    part = net[2].weight
    before, g = part.v.numpy().astype(float), part.g.numpy().astype(float)
    optimizer = optim.SGD(nn.parameter_groups(net, v={"lr": 0.7}), lr=0.1, momentum=0.9)
    table = recorded(net, optimizer, 1).table()
    table = table[table["layer"] == "2.weight"]
    after = part.v.numpy().astype(float)
    rest = {0: (1,), 1: (0,), None: (0, 1), (0, 1): ()}[axis]

    def norm(x: Any) -> Any:
        return np.sqrt(np.sum(x * x, axis=rest)).ravel()

    move = after - before
    assert_array_equal(table["unit"], np.arange(g.size))
    assert_array_equal(table["g"], g.ravel())
    assert_allclose(table["norm"], norm(before), rtol=1e-14)
    assert_allclose(table["actual"], norm(after), rtol=1e-14)
    assert_allclose(table["predicted"], np.sqrt(1 + (norm(move) / norm(before)) ** 2) * norm(before), rtol=1e-13)
    assert_allclose(table["effective_lr"], 0.7 * (g.ravel() / norm(before)) ** 2, rtol=1e-13)
    size = norm(move) * norm(before)
    assert_allclose(table["cosine"] * size, np.sum(move * before, axis=rest).ravel(), atol=1e-13 * size.max())


def test_the_effective_rate_is_that_of_a_step_on_w_itself() -> None:
    net = mlp()
    x, y = batch(0)
    lr = 1e-6
    optimizer = optim.SGD([net[0].weight.v], lr=lr)
    recorder = tg.NormRecorder(net[:1], optimizer)
    w = net[0].weight()
    slope = tg.cross_entropy(net[1:](tg.linear(x, w, net[0].bias)), y).gradient(w)[0].numpy()
    before, unit = w.detach().numpy(), w.detach().numpy() / np.linalg.norm(w.detach().numpy(), axis=1, keepdims=True)
    step_of(net, optimizer)(x, y)
    recorder.record()
    moved = net[0].weight().detach().numpy() - before
    across = slope - np.sum(slope * unit, axis=1, keepdims=True) * unit
    assert_allclose(moved, -recorder.table()["effective_lr"][:, None] * across, rtol=1e-4, atol=1e-12)


def test_without_an_optimizer_there_is_no_rate_and_v_may_stand_still() -> None:
    net = mlp()
    recorder = tg.NormRecorder(net)
    recorder.record()
    table = recorder.table()
    assert np.all(np.isnan(table["effective_lr"]))
    assert_array_equal(table["cosine"], 0)
    assert_array_equal(table["predicted"], table["actual"])
    frozen = tg.NormRecorder(net, optim.SGD([net[0].weight.v], lr=0.5))
    frozen.record()
    assert_array_equal(np.isnan(frozen.table()["effective_lr"]), frozen.table()["layer"] == "2.weight")


def test_a_layer_that_is_there_twice_is_recorded_once() -> None:
    shared = nn.weight_norm(nn.Linear(2, 2))
    recorder = tg.NormRecorder(nn.Sequential(shared, shared))
    recorder.record()
    assert recorder.table()["layer"].tolist() == ["0.weight"] * 2


@pytest.mark.parametrize("every", [1, 2, 3, 7])
def test_one_step_in_k_is_the_step_that_recording_all_shows(every: int) -> None:
    tables = []
    for k in (1, every):
        net = mlp()
        tables.append(recorded(net, optim.SGD(net.parameters(), lr=0.3, momentum=0.5), 15, k).table())
    assert_array_equal(tables[1], tables[0][tables[0]["step"] % every == 0])
    assert tables[1]["step"].max() == 15 // every * every


# Where the numbers go


def test_csv_reads_back_as_the_table(tmp_path: Path) -> None:
    net = mlp()
    recorder = recorded(net, optim.SGD(net.parameters(), lr=0.3), 3)
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
    net = mlp()
    recorder = recorded(net, optim.SGD(net.parameters(), lr=0.3), 5)
    assert recorder.plot("$ in a title").startswith(b"\x89PNG")


def test_an_empty_record_is_an_empty_table_and_no_plot() -> None:
    recorder = tg.NormRecorder(mlp())
    assert recorder.table().shape == (0,)
    assert "nothing was recorded" in message(StateError, recorder.plot)


# What is refused


def test_mistakes_are_explained() -> None:
    wrong: Any = tg.ones(2)
    assert "not a module" in message(DTypeError, lambda: tg.NormRecorder(wrong))
    assert "no layer is weight-normalized" in message(StateError, lambda: tg.NormRecorder(nn.Linear(2, 2)))
    for bad in (0, -1, 1.5, True, None):
        assert "every" in message(ValueRangeError, lambda bad=bad: tg.NormRecorder(mlp(), every=bad))


def test_recording_inside_of_a_compiled_step_is_refused() -> None:
    net = mlp()
    recorder = tg.NormRecorder(net)

    @tg.jit
    def step(x: Any) -> Any:
        y = net(x)
        recorder.record()
        return y

    with pytest.raises(CompileError):
        step(batch(0)[0])
    assert recorder.steps == 0
