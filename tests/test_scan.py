"""Steps in a row, dropout and clipping inside of compiled steps."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tinygrad_wn as tg
from tinygrad_wn import nn, optim
from tinygrad_wn.errors import DTypeError, GradientError, ShapeError, ZeroNormError


def training(*, compiled: bool, dropout: bool = False, clip: float | None = None, adam: bool = False) -> Any:
    layers = [nn.Linear(5, 9, rng=0), nn.Tanh(), *([nn.Dropout(0.4, rng=7), nn.Dropout(0.1)] if dropout else [])]
    model = nn.weight_norm(nn.Sequential(*layers, nn.Linear(9, 3, rng=1)))
    params = model.parameters()
    optimizer = optim.Adam(params, lr=0.01) if adam else optim.SGD(params, lr=0.1, momentum=0.9)
    schedule = optim.Cosine(optimizer, steps=20)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = nn.cross_entropy(model(x), y)
        loss.backward()
        norm = loss if clip is None else optim.clip_grad_norm(params, clip)
        optimizer.step()
        schedule.step()
        return {"loss": loss, "norm": norm}

    return tg.jit(step) if compiled else step, model, optimizer


def stacks(n: int = 7) -> tuple[Any, Any]:
    rng = np.random.default_rng(3)
    return rng.standard_normal((n, 6, 5)).astype("f4"), rng.integers(0, 3, (n, 6))


@pytest.mark.once
@pytest.mark.parametrize(
    ("adam", "dropout", "clip"),
    [
        (False, True, None),
        (True, False, None),
        (False, False, 0.2),
        (True, True, 0.2),
        (False, True, 1e9),
        (True, False, 1e9),
    ],
)
def test_calls_scans_and_eager_steps_do_the_same(adam: bool, dropout: bool, clip: float | None) -> None:
    """Each is compiled, so every two options meet, and not every three."""
    found = []
    for compiled, scanned in ((False, False), (True, False), (False, True), (True, True)):
        tg.seed(0)
        step, model, optimizer = training(compiled=compiled, adam=adam, dropout=dropout, clip=clip)
        xs, ys = stacks()
        if scanned:
            rows = tg.scan(step, xs, ys)
            seen = np.stack([rows["loss"].numpy(), rows["norm"].numpy()])
        else:
            calls = [step(x, y) for x, y in zip(xs, ys, strict=True)]
            seen = np.array([[one[name].item() for one in calls] for name in ("loss", "norm")])
        found.append((seen, model.state_dict(), optimizer.param_groups[0]["lr"], optimizer.state_dict()))
    for seen, state, rate, kept in found[1:]:
        assert_allclose(seen, found[0][0], rtol=1e-5)
        assert rate == found[0][2]
        for one, first in ((state, found[0][1]), (kept, found[0][3])):
            for name, value in one.items():
                assert_allclose(value, first[name], rtol=1e-4, atol=1e-6)


def test_dropout_is_fresh_in_each_compiled_step_and_repeats_with_its_seed() -> None:
    x = tg.ones((4, 50))
    eager, layer = nn.Dropout(0.5, rng=3), nn.Dropout(0.5, rng=3)
    compiled = tg.jit(layer)
    rows = [compiled(x).numpy() for _ in range(4)]
    assert all((one != other).any() for i, one in enumerate(rows) for other in rows[:i])
    for row in rows:
        assert_array_equal(row, eager(x).numpy())


def test_gradients_of_dropout_are_those_of_the_same_choice() -> None:
    layer = nn.Dropout(0.5, rng=3)

    def loss(x: Any) -> Any:
        return 2 * layer(x).sum()

    step = tg.jit(tg.value_and_grad(loss))
    for _ in range(3):
        value, slope = step(tg.ones(64))
        assert slope.numpy().sum() == value.item()


def test_a_norm_that_is_not_finite_stops_a_compiled_step_before_it_writes() -> None:
    step, model, _ = training(compiled=True, clip=1.0)
    xs, ys = stacks()
    step(xs[0], ys[0])
    held = model.state_dict()
    with pytest.raises(GradientError, match="not finite"):
        step(np.full((6, 5), np.nan, "f4"), ys[0])
    for name, value in model.state_dict().items():
        assert_array_equal(value, held[name])


def test_an_error_in_the_middle_of_a_scan_leaves_the_steps_before_it() -> None:
    weight = tg.tensor([[3.0, 4.0]], requires_grad=True)
    optimizer = optim.SGD([weight], lr=1.0)

    @tg.jit
    def step(by: Any) -> Any:
        optimizer.zero_grad()
        loss = (weight * by).sum()
        loss.backward()
        optimizer.step()
        return tg.weight_norm(weight, tg.ones((1, 1))).sum()

    rows = np.array([[[0, 0]], [[0, 0]], [[1, 0]], [[2, 4]], [[1, 1]]], "f4")
    with pytest.raises(ZeroNormError):
        tg.scan(step, rows)
    assert weight.numpy().tolist() == [[2.0, 4.0]]  # the step that failed put back what it wrote


@pytest.mark.parametrize("stacked", [(), (np.ones(()),), (np.ones((0, 2)),), (np.ones((2, 1)), np.ones((3, 1)))])
def test_stacks_of_different_lengths_or_of_nothing_are_refused(stacked: Any) -> None:
    with pytest.raises(ShapeError, match="stacks of equally many entries"):
        tg.scan(lambda *xs: xs[0], *stacked)


def test_results_that_are_no_tensors_are_refused() -> None:
    with pytest.raises(DTypeError, match="must be tensors"):
        tg.scan(lambda x: 3.0, np.ones(3))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_scans_of_scalars_and_of_few_entries(n: int) -> None:
    step = tg.jit(lambda x, y: (x + 1, [y * 2]))
    for function in (step, step.function):
        first, (second,) = tg.scan(function, np.arange(float(n)), np.ones((n, 2)))
        assert first.numpy().tolist() == [1.0 + i for i in range(n)]
        assert second.numpy().tolist() == [[2.0, 2.0]] * n


def test_a_scan_over_dicts() -> None:
    step = tg.jit(lambda batch, by: {"sum": (batch["x"] * by + batch["more"]["y"]).sum()})
    xs = {"x": np.arange(6.0, dtype="f4").reshape(3, 2), "more": {"y": np.ones((3, 2), "f4")}}
    for function in (step, step.function):
        assert tg.scan(function, xs, tg.tensor([1.0, 2.0, 3.0]))["sum"].numpy().tolist() == [3.0, 12.0, 29.0]


def test_a_scan_inside_a_compiled_step_is_part_of_it() -> None:
    w = tg.tensor(2.0, requires_grad=True)
    outer = tg.jit(lambda xs: tg.scan(lambda x: x * w, xs).sum())
    for _ in range(2):
        assert outer(tg.tensor([1.0, 2.0, 4.0])).item() == 14.0


@pytest.mark.parametrize("warm", [0, 1, 3])
def test_a_scan_is_not_misled_by_the_step_of_the_calls_before(warm):
    many, w = [2], tg.tensor([7.0])
    alone, beside = tg.jit(lambda x: x[: many[0]] * 2), tg.jit(lambda x: (x[: many[0]] * 2, w))
    for size, count in ((4, 2), (5, 3), (5, 2), (4, 3)):
        many[0] = count
        for _ in range(warm):
            alone(tg.ones(9 - size))
        rows = np.arange(6 * size, dtype=np.float32).reshape(6, size)
        for _ in range(2):
            found = tg.scan(alone, rows), *tg.scan(beside, rows)
            for y, expected in zip(found, (2 * rows[:, :count], 2 * rows[:, :count], [[7]] * 6), strict=True):
                np.testing.assert_array_equal(y.numpy(), expected)
