"""Compiled steps take the notes that eager ones do, in the pass that updates v."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from test_dynamics import LAW, SEEDS, batch, mlp, residual
from training import step_of

import tinygrad_wn as tg
from tinygrad_wn import dynamics, nn, optim
from tinygrad_wn.dynamics import FIELDS
from tinygrad_wn.kernels import noted, notes, rules
from tinygrad_wn.kernels.layouts import AnyLayout

RULES = [(2, 1), (2, 2), (3, 2), (3, 4), (4, 8), (4, 10)]
"""How many arrays and how many numbers there are: gradient descent, momentum, Adam, each without and with decay."""


def types_of(arrays: int, numbers: int) -> str:
    """What an update takes, as `AnyLayout` says it."""
    return f"({' + '.join(['out 1 C'] * arrays)}), ({' + '.join(['real'] * numbers)})"


def call(kernel: Any, kinds: str, size: int, *given: Any) -> None:
    """Call a kernel for the types that a compiled step asks for."""
    AnyLayout(kernel, kinds)[size](*given)


# Compiled steps


def forms(dtype: str) -> Any:
    """A layer of each form: rows and s = log g, columns, and one length for all."""
    layers: list[Any] = []
    for i, options in enumerate([{"axis": 0, "log_scale": True}, {"axis": 1}, {"axis": None}]):
        layers += [nn.weight_norm(nn.Linear(4, 4, dtype=dtype, rng=i), **options), nn.Tanh()]
    return nn.Sequential(*layers)


COMPILED: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "SGD": ("float64", lambda p: optim.SGD(p, lr=0.5)),
    "momentum": ("float32", lambda p: optim.SGD(p, lr=0.1, momentum=0.9)),
    "AdamW": ("float64", lambda p: optim.AdamW(p, lr=0.01)),
}


@pytest.mark.parametrize("name", ["momentum", *(pytest.param(one, marks=pytest.mark.once) for one in ("SGD", "AdamW"))])
def test_compiled_steps_take_the_same_notes_whatever_is_done_between_them(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamics, "ROOM", 3)
    dtype, make = COMPILED[name]
    tables, ends = [], []
    for compiled in (False, True):
        net = forms(dtype)
        optimizer = make(net.parameters())
        step = step_of(net, optimizer)
        step = tg.jit(step) if compiled else step
        if name == "SGD":
            step(*batch(0, dtype))  # recorders come when the step is compiled already
        recorders = [tg.NormRecorder(net, optimizer, every) for every in (1, 2)]
        schedule, before, rates = optim.Step(optimizer, every=5, factor=0.5), net.state_dict(), []
        for i in range(14):
            if i == 4:
                net.load_state_dict(before)
            if i == 6:
                nn.retract(net)
            rates.append(optimizer.param_groups[0]["lr"])
            step(*batch(i, dtype))
            schedule.step()
        tables.append([one.table() for one in recorders])
        table = tables[-1][0].reshape(14, -1)
        used = table["effective_lr"] * (table["norm"] / table["g"]) ** 2
        assert_allclose(used, np.broadcast_to(np.reshape(rates, (-1, 1)), used.shape), rtol=1e-12)
        ends.append(net.state_dict())
    close = 1e-9 if dtype == "float64" else 1e-3
    for eager, own in zip(*tables, strict=True):
        assert_array_equal(own["step"], eager["step"])
        for field in FIELDS:
            assert_allclose(own[field], eager[field], rtol=close, atol=close if field == "cosine" else 0)
    assert_array_equal(tables[1][1], tables[1][0][tables[1][0]["step"] % 2 == 0])
    if name == "SGD":
        assert np.all(residual(tables[1][0]) <= LAW)
    for one in ends[0]:
        assert_allclose(ends[1][one], ends[0][one], rtol=close, atol=close)


def test_notes_do_not_make_a_step_longer_than_brief() -> None:
    """They write one row of many; of the digits' network, all rows are twice what the rest of a step touches."""
    layers = [nn.Linear(64, 64, rng=0), nn.ReLU(), nn.Linear(64, 32, rng=1), nn.ReLU(), nn.Linear(32, 10, rng=2)]
    net = nn.weight_norm(nn.Sequential(*layers))
    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    tg.NormRecorder(net, optimizer, 100)
    step = tg.jit(step_of(net, optimizer))
    step(np.ones((32, 64), "f4"), np.arange(32) % 10)
    assert step._last().brief


def test_an_epoch_in_one_call_is_recorded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamics, "ROOM", 3)
    tables = []
    xs, ys = (np.stack(some) for some in zip(*map(batch, range(8)), strict=True))
    for scanned in (False, True):
        net = mlp()
        optimizer = optim.SGD(net.parameters(), lr=0.5)
        recorder = tg.NormRecorder(net, optimizer, 1)
        step = tg.jit(step_of(net, optimizer))
        if scanned:
            tg.scan(step, xs, ys)
        else:
            for x, y in zip(xs, ys, strict=True):
                step(x, y)
        tables.append(recorder.table())
    assert_array_equal(tables[1], tables[0])


def test_threads_take_the_same_notes_as_one() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((64, 300)).astype("f4"), rng.integers(0, 10, 64)
    threads, tables = tg.get_num_threads(), []
    for count in (1, 2):
        tg.set_num_threads(count)
        net = nn.weight_norm(nn.Sequential(nn.Linear(300, 128, rng=0), nn.ReLU(), nn.Linear(128, 10, rng=1)))
        optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        recorder = tg.NormRecorder(net, optimizer, 1)
        step = tg.jit(step_of(net, optimizer))
        for _ in range(4):
            step(x, y)
        assert step.newest.plan.team
        tables.append(recorder.table())
    tg.set_num_threads(threads)
    assert_array_equal(tables[1], tables[0])
    assert_allclose(tables[0]["actual"][:-138], tables[0]["norm"][138:], rtol=1e-7)


# The pass that updates v


@pytest.mark.once
@given(SEEDS, st.sampled_from([np.float32, np.float64]), st.sampled_from([1, 3, 20, 2050]), st.sampled_from([0, -99]))
def test_updates_that_take_notes_are_the_updates_bit_for_bit(seed: int, dtype: Any, count: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    rows, size = int(rng.integers(1, 10)), np.dtype(dtype).itemsize
    v = np.ldexp(rng.standard_normal((rows, count)), k * (1 if size == 4 else 5)).astype(dtype)
    for outs, many in RULES:
        arrays = tuple(np.ldexp(rng.random(v.size), k).astype(dtype) for _ in range(outs - 1))
        arrays, numbers = (v.flatten(), *arrays), tuple(rng.uniform(0.1, 0.9, many))
        own = tuple(x.copy() for x in arrays)
        call(rules.update, types_of(outs, many), size, arrays, numbers)
        found, expected = np.zeros((2, 2, 5, rows), dtype)
        notes.noted_lengths(found, found, 2, v, np.ones((rows, 1), dtype), axis=0, every=2)
        found[0], expected[:] = np.nan, found
        call(noted.update_noted, f"out 3, count, count, {types_of(outs, many)}", size, found, 1, count, own, numbers)
        assert all(map(np.array_equal, own, arrays))
        notes.noted_changes(expected, expected, 3, v, arrays[0].reshape(v.shape), axis=0, every=2)
        assert np.all(np.isnan(found[0]))
        assert_allclose(found[1], expected[1], rtol=1e-5 if size == 4 else 1e-13, atol=1e-6 if size == 4 else 1e-14)
