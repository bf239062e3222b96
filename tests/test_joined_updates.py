"""Updates of v that a compiled step joins with the pullback that makes ∇v: the same bits as one after the other."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, strategies as st
from test_dynamics_compiled import RULES, call, types_of

import tinygrad_wn as tg
from tinygrad_wn import nn, optim
from tinygrad_wn.kernels import equation_3, rules, steps
from tinygrad_wn.kernels.measure import ROWS
from tinygrad_wn.kernels.room import NEAR
from tinygrad_wn.kernels.vector import VECTOR_BYTES

pytestmark = pytest.mark.once

OPTIMIZERS = {
    "descend": lambda ps: optim.SGD(ps, lr=0.05, weight_decay=1e-2),
    "roll": lambda ps: optim.SGD(ps, lr=0.05, momentum=0.9),
    "nesterov": lambda ps: optim.SGD(ps, lr=0.02, momentum=0.9, nesterov=True, weight_decay=1e-2),
    "adapt": lambda ps: optim.Adam(ps, lr=1e-2, weight_decay=1e-2),
    "adamw": lambda ps: optim.AdamW(ps, lr=1e-2),
}


def trained(name, shape, dtype, scale, *, joined, order=("v", "g", "bias"), every=0):
    """A layer after some compiled steps, and their source; steps that also give ∇v cannot join what makes it."""
    o, k = shape
    rng = np.random.default_rng(o * k)
    layer = nn.weight_norm(nn.Linear(k, o, dtype=dtype, rng=rng))
    layer.weight.v.data = layer.weight.v.data * dtype(scale)
    parts = {"v": layer.weight.v, "g": layer.weight.g, "bias": layer.bias}
    optimizer = OPTIMIZERS[name]([parts[one] for one in order])
    recorder = tg.NormRecorder(layer, optimizer, every) if every else None

    @tg.jit
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = tg.cross_entropy(layer(x), y)
        loss.backward()
        slope = layer.weight.v.grad
        optimizer.step()
        return loss if joined else (loss, slope)

    for _ in range(5):
        step(rng.standard_normal((9, k)).astype(dtype), rng.integers(0, o, 9))
    state = [x for one in optimizer.state for x in one.values() if isinstance(x, tg.Tensor)]
    table = recorder.table() if recorder is not None else np.zeros(0)
    return [*(x.numpy() for x in (*parts.values(), *state)), table], step.source


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "scale"),
    [
        ("roll", (70, 20), np.float32, 1.0),
        ("adapt", (3, 33), np.float32, 2.0**-100),
        ("nesterov", (130, 300), np.float32, 1.0),
        ("descend", (5, 1), np.float64, 2.0**40),
    ],
)
def test_joined_updates_give_the_bits_of_those_that_are_not(name, shape, dtype, scale):
    together, source = trained(name, shape, dtype, scale, joined=True)
    apart, other = trained(name, shape, dtype, scale, joined=False)
    assert "pull_back_and_update" in source
    assert "pull_back_and" not in other
    for x, y in zip(together, apart, strict=True):
        np.testing.assert_array_equal(x, y)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([np.float32, np.float64]),
    st.integers(1, 140),
    st.integers(1, 70),
    st.sampled_from([0, 0, -100, 40]),
    st.booleans(),
)
@example(0, np.float32, 70, 20, 0, False)
@example(1, np.float32, 5, 1, 3, False)
@example(2, np.float32, 66, 33, -100, False)
@example(3, np.float32, 130, 2, 0, False)
@example(4, np.float32, 64, 15, 0, False)
@example(5, np.float32, 3, 48, 0, False)
def test_one_pass_gives_the_bits_of_two(seed, dtype, rows, count, power, mixed):
    """Of pullback and update; rows of all sizes, some of which float32 does not do for."""
    rng, size = np.random.default_rng(seed), np.dtype(dtype).itemsize
    powers = np.maximum(power + (rng.choice([0, 0, 0, -70, 50], (rows, 1)) if mixed else 0), -110)
    v, ct = np.ldexp(rng.standard_normal((2, rows, count)), powers).astype(dtype)
    g = rng.standard_normal((rows, 1)).astype(dtype)
    kept = np.stack([np.ldexp(1.0, -np.broadcast_to(powers, (rows, 1))[:, 0]), np.ones(rows)])
    kept[1] /= np.linalg.norm(v.astype(float) * kept[0][:, None], axis=1)
    for outs, many in RULES:
        states = [rng.random(v.shape).astype(dtype) for _ in range(outs - 2)]
        numbers = tuple(rng.uniform(0.1, 0.9, many))
        one, two = ([x.copy() for x in (v, *states, ct)] for _ in range(2))
        slopes = np.empty((2, rows, 1), dtype)
        kinds = "out 2, out 2, out 2 A float64, in 2, in 2, in 2"
        call(equation_3.pull_back_kept, kinds, size, two[-1], slopes[1], kept, two[-1], v, g)
        call(rules.update, types_of(outs, many), size, tuple(x.ravel() for x in two), numbers)
        kinds = f"out 2, out 2 A float64, in 2, {types_of(outs, many).replace('out 1 C', 'out 2')}"
        call(steps.pull_back_and_update, kinds, size, slopes[0], kept, g, tuple(one), numbers)
        for x, y in zip((slopes[0], *one[:-1]), (slopes[1], *two[:-1]), strict=True):
            np.testing.assert_array_equal(x, y)


def test_factors_of_narrow_rows_have_room_on_the_stack():
    """Three areas, for as many rows as a block has and a vector behind them."""
    lanes = VECTOR_BYTES // 4
    taken = 3 * ((ROWS + 1) * lanes) + steps.SPREAD
    assert 4 * taken <= NEAR


@pytest.mark.parametrize(("name", "joined"), [("roll", True), ("adapt", False)])
def test_an_update_of_g_that_comes_first_is_not_seen_by_the_pullback(name, joined):
    """The update of v may come earlier, or the pullback later; with a count of steps and g before v, neither may."""
    order = ("g", "v", "bias")
    together, source = trained(name, (6, 40), np.float32, 1.0, joined=True, order=order)
    apart, _ = trained(name, (6, 40), np.float32, 1.0, joined=False, order=order)
    assert ("pull_back_and" in source) is joined
    for x, y in zip(together, apart, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(("name", "every"), [*((name, 1) for name in sorted(OPTIMIZERS)), ("roll", 2)])
def test_a_step_that_is_recorded_is_updated_and_noted_as_if_it_were_not_joined(name, every):
    together, source = trained(name, (20, 33), np.float32, 1.0, joined=True, every=every)
    apart, other = trained(name, (20, 33), np.float32, 1.0, joined=False, every=every)
    assert "pull_back_and" in source
    assert "pull_back_and" not in other
    assert len(together[-1]) == 20 * (5 // every)
    assert np.all(together[-1]["actual"] != together[-1]["norm"])
    for x, y in zip(together, apart, strict=True):
        np.testing.assert_array_equal(x, y)


def test_slopes_that_are_asked_for_are_those_before_the_update():
    _, source = trained("roll", (6, 40), np.float32, 1.0, joined=False)
    assert source.index("pull_back_kept_") < source.index(" update_")


def test_rows_that_need_more_than_float32_are_updated_as_well():
    """A row whose slopes are 2⁻⁹⁰ times as long as v takes the way through float64, and those beside it with it."""
    models = [nn.weight_norm(nn.Linear(20, 3, rng=np.random.default_rng(0))) for _ in range(2)]
    x = np.random.default_rng(1).standard_normal((8, 20)).astype(np.float32)
    ct = np.array([[1.0, 2.0**-90, 1.0]] * 8, np.float32)
    for model, compiled in zip(models, (True, False), strict=True):
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step(x: Any, model: Any = model, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            loss = (model(x) * tg.tensor(ct)).sum()
            loss.backward()
            optimizer.step()
            return loss

        (tg.jit(step) if compiled else step)(tg.tensor(x))
    for p, q in zip(*(model.parameters() for model in models), strict=True):
        np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=1e-5, atol=1e-7)
