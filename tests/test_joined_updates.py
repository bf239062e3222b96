"""Updates of v that a compiled step joins with the pullback that makes ∇v: the same bits as one after the other."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, strategies as st

import tinygrad_wn as tg
from tinygrad_wn import nn, optim

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


@given(
    st.sampled_from(sorted(OPTIMIZERS)),
    st.sampled_from([(16, 2), (2, 16), (5, 1), (3, 33), (70, 20), (130, 300)]),
    st.sampled_from([np.float32, np.float64]),
    st.sampled_from([1.0, 1.0, 2.0**-100, 2.0**40]),
)
@example("roll", (70, 20), np.float32, 1.0)
@example("roll", (200, 1), np.float32, 3.7)
@example("adapt", (3, 33), np.float32, 1.0)
@example("roll", (3, 33), np.float32, 2.0**-100)
def test_joined_updates_give_the_bits_of_those_that_are_not(name, shape, dtype, scale):
    together, source = trained(name, shape, dtype, scale, joined=True)
    apart, other = trained(name, shape, dtype, scale, joined=False)
    assert "pull_back_and_update" in source
    assert "pull_back_and" not in other
    for x, y in zip(together, apart, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(("name", "joined"), [("roll", True), ("adapt", False)])
def test_an_update_of_g_that_comes_first_is_not_seen_by_the_pullback(name, joined):
    """The update of v may come earlier, or the pullback later; with a count of steps and g before v, neither may."""
    order = ("g", "v", "bias")
    together, source = trained(name, (6, 40), np.float32, 1.0, joined=True, order=order)
    apart, _ = trained(name, (6, 40), np.float32, 1.0, joined=False, order=order)
    assert ("pull_back_and" in source) is joined
    for x, y in zip(together, apart, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
@pytest.mark.parametrize("every", [1, 2])
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
