"""`tg.jit`: compiled steps equal eager ones, what changes between steps stays live, what cannot be kept is refused."""

import threading
import warnings
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings, strategies as st
from training import step_of

import tinygrad_wn as tg
from tinygrad_wn import nn, optim
from tinygrad_wn.compiled.jit import MANY
from tinygrad_wn.errors import CompileError, GradientError, ValueRangeError, ZeroNormError

OPTIMIZERS = {
    "sgd": lambda ps: optim.SGD(ps, lr=0.05),
    "momentum": lambda ps: optim.SGD(ps, lr=0.05, momentum=0.9),
    "nesterov": lambda ps: optim.SGD(ps, lr=0.02, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": lambda ps: optim.Adam(ps, lr=1e-2, weight_decay=1e-3),
    "adamw": lambda ps: optim.AdamW(ps, lr=1e-2),
}
SMOOTH = {"tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU}


def network(sizes, activation=nn.ReLU, normalized=True, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    layers: list[Any] = []
    for size, out in pairwise(sizes):
        layers += [nn.Linear(size, out, dtype=dtype, rng=rng), activation()]
    model = nn.Sequential(*layers[:-1])
    return nn.weight_norm(model) if normalized else model


def batches(count, rows, sizes, dtype="float32"):
    rng = np.random.default_rng(1)
    return [
        (rng.standard_normal((rows, sizes[0])).astype(dtype), rng.integers(0, sizes[-1], rows)) for _ in range(count)
    ]


def pair(sizes, make, **options):
    """The same network twice, with an eager step and a compiled one."""
    models = [network(sizes, **options) for _ in range(2)]
    optimizers = [make(model.parameters()) for model in models]
    steps = [step_of(*both) for both in zip(models, optimizers, strict=True)]
    return models, optimizers, (steps[0], tg.jit(steps[1]))


def distance(one, other):
    """Of all parameters, relative to their norm."""
    a, b = (np.concatenate([p.numpy().ravel().astype(float) for p in model.parameters()]) for model in (one, other))
    return np.linalg.norm(a - b) / np.linalg.norm(a)


@pytest.mark.parametrize(
    ("name", "dtype", "bound"),
    [*((name, "float64", 1e-9) for name in OPTIMIZERS), ("momentum", "float32", 1e-4), ("adam", "float32", 1e-4)],
)
def test_200_compiled_steps_equal_200_eager_ones(name, dtype, bound):
    sizes = [3, 8, 5, 3]
    models, optimizers, (eager, compiled) = pair(sizes, OPTIMIZERS[name], activation=nn.Tanh, dtype=dtype)
    data = batches(8, 16, sizes, dtype)
    for i in range(200):
        if i == 100:
            for optimizer in optimizers:
                optimizer.param_groups[0]["lr"] *= 0.5
        losses = [float(step(*data[i % 8]).item()) for step in (eager, compiled)]
        assert abs(losses[0] - losses[1]) <= bound * losses[0]
    assert distance(*models) <= bound
    assert sum(map(len, compiled.steps.values())) == 1
    counts = [[one["step"].item() for one in optimizer.state if "step" in one] for optimizer in optimizers]
    assert counts[0] == counts[1]
    assert all(p.grad is None for p in models[1].parameters())


@settings(max_examples=6, phases=[Phase.explicit, Phase.generate])
@given(
    st.sampled_from([[3, 2], [1, 1, 4], [5, 4, 3, 2]]),
    st.sampled_from(sorted(SMOOTH)),
    st.sampled_from(sorted(OPTIMIZERS)),
    st.booleans(),
    st.sampled_from([1, 6]),
)
def test_networks_of_any_shape_take_the_same_steps(sizes, activation, name, normalized, rows):
    options = {"activation": SMOOTH[activation], "normalized": normalized, "dtype": "float64"}
    models, _, steps = pair(sizes, OPTIMIZERS[name], **options)
    for x, y in batches(3, rows, sizes, "float64"):
        losses = [step(x, y).item() for step in steps]
        np.testing.assert_allclose(*losses, rtol=1e-12, atol=1e-15)
    assert distance(*models) <= 1e-11


def test_a_step_of_layers_losses_and_updates_never_returns_to_python():
    for normalized in (True, False):
        _, _, (_, compiled) = pair([3, 8, 3], OPTIMIZERS["momentum"], normalized=normalized)
        compiled(*batches(1, 4, [3, 8, 3])[0])
        assert len(compiled._last().parts) == 1
        assert compiled.source.count("def part_") == 1


def test_eager_code_and_steps_see_what_the_other_wrote():
    sizes = [3, 4, 2]
    models, optimizers, (eager, compiled) = pair(sizes, OPTIMIZERS["adam"])
    data = batches(3, 8, sizes)
    for step in (eager, compiled):
        step(*data[0])
        step(*data[1])
    for model, optimizer in zip(models, optimizers, strict=True):
        model.load_state_dict({name: 0.5 * x for name, x in model.state_dict().items()})
        optimizer.load_state_dict(
            {name: x / 2 if name.endswith("mean") else x for name, x in optimizer.state_dict().items()}
        )
    for step in (eager, compiled):
        step(*data[2])
    step_of(models[1], optimizers[1])(*data[0])
    eager(*data[0])
    assert distance(*models) <= 1e-6
    assert sum(map(len, compiled.steps.values())) == 1


def test_an_option_that_is_part_of_the_update_compiles_anew():
    sizes = [3, 4, 2]
    models, optimizers, (eager, compiled) = pair(sizes, OPTIMIZERS["momentum"])
    for i, (x, y) in enumerate(batches(6, 8, sizes)):
        for optimizer in optimizers:
            optimizer.param_groups[0]["momentum"] = 0.9 if i < 3 else 0.5
        eager(x, y)
        compiled(x, y)
    assert distance(*models) <= 1e-6
    assert sum(map(len, compiled.steps.values())) == 2


def test_a_learning_rate_out_of_range_is_refused_before_the_step():
    sizes = [3, 4, 2]
    models, optimizers, (_, compiled) = pair(sizes, OPTIMIZERS["momentum"])
    data = batches(2, 8, sizes)
    compiled(*data[0])
    before = [p.numpy().copy() for p in models[1].parameters()]
    optimizers[1].param_groups[0]["lr"] = -1.0
    with pytest.raises(ValueRangeError, match="lr must be"):
        compiled(*data[1])
    for p, old in zip(models[1].parameters(), before, strict=True):
        np.testing.assert_array_equal(p.numpy(), old)


def test_a_schedule_inside_of_a_step_goes_on():
    w = tg.tensor([1.0, 2.0], requires_grad=True)
    optimizer = optim.SGD([w], lr=1.0)
    schedule = optim.Step(optimizer, every=1, factor=0.5) if hasattr(optim, "Step") else optim.Constant(optimizer)

    @tg.jit
    def step(x):
        optimizer.zero_grad()
        (w * x).sum().backward()
        optimizer.step()
        schedule.step()

    for _ in range(4):
        step(tg.ones(2))
    assert schedule.count == 4


def test_training_and_evaluation_are_steps_of_their_own_and_both_are_kept():
    model = nn.Sequential(nn.Linear(3, 3, rng=0), nn.ReLU(), nn.Linear(3, 2, rng=1))
    predict = tg.jit(model.forward)
    x = tg.randn(4, 3)
    for _ in range(3):
        for mode in (True, False):
            model.train(mode)
            np.testing.assert_allclose(predict(x).numpy(), model(x).numpy(), rtol=1e-6)
    assert sum(map(len, predict.steps.values())) == 2


def test_a_layer_that_is_replaced_is_not_remembered():
    model = nn.Sequential(nn.Linear(3, 2, rng=0))
    predict = tg.jit(model.forward)
    x = tg.randn(4, 3)
    predict(x)
    model[0].weight = tg.randn(2, 3)
    np.testing.assert_allclose(predict(x).numpy(), model(x).numpy(), rtol=1e-6)


def test_a_failed_step_writes_nothing():
    sizes = [3, 4, 2]
    models, optimizers, (_, compiled) = pair(sizes, OPTIMIZERS["adam"])
    (x, y), *_ = batches(1, 8, sizes)
    compiled(x, y)
    state = models[1].state_dict() | optimizers[1].state_dict()
    with pytest.raises(ValueRangeError, match="names a class that logits do not have"):
        compiled(x, y + 2)
    for name, value in (models[1].state_dict() | optimizers[1].state_dict()).items():
        np.testing.assert_array_equal(value, state[name])
    weight = models[1][0].weight
    weight.v.data = np.zeros_like(weight.v.numpy())
    with pytest.raises(ZeroNormError):
        compiled(x, y)
    assert optimizers[1].state[0]["step"].item() == 1


def test_what_was_written_before_a_failure_is_put_back():
    v, p = tg.tensor([[1.0, 2.0]], requires_grad=True), tg.tensor([1.0], requires_grad=True)
    optimizer = optim.SGD([p], lr=0.1)

    @tg.jit
    def step(x):
        optimizer.zero_grad()
        (p * x).sum().backward()
        optimizer.step()
        return tg.weight_norm(v, tg.ones((1, 1)))

    step(tg.ones(1))
    before = p.numpy().copy()
    v.data = np.zeros((1, 2))
    with pytest.raises(ZeroNormError):
        step(tg.ones(1))
    np.testing.assert_array_equal(p.numpy(), before)


READS = {
    "item": lambda t: t.sum().item(),
    "float": lambda t: float(t.sum()),
    "branch": lambda t: t if t.sum() > 0 else -t,
    "numpy": lambda t: tg.tensor(t.numpy()),
    "data": lambda t: t.data,
    "index": lambda t: [1, 2, 3][tg.argmax(t)],
}


@pytest.mark.parametrize("name", READS)
def test_a_value_read_into_python_is_refused_with_the_line(name):
    with pytest.raises(CompileError, match=r"test_compiled\.py:\d+"):
        tg.jit(READS[name])(tg.tensor([1.0, 2.0]))
    assert READS[name](tg.tensor([1.0, 2.0])) is not None


def test_gradients_from_outside_are_not_added_to():
    w = tg.tensor([1.0], requires_grad=True)
    (w * 2).sum().backward()

    @tg.jit
    def step(x):
        (w * x).sum().backward()

    with pytest.raises(CompileError, match="zero_grad"):
        step(tg.ones(1))


def test_results_have_no_graph():
    w = tg.tensor([1.0], requires_grad=True)
    f = tg.jit(lambda x: (w * x).sum())
    for _ in range(2):
        with pytest.raises(GradientError):
            f(tg.ones(1)).backward()


def leaves(found):
    return [x for one in found for x in leaves(one)] if isinstance(found, tuple | list) else [found]


def test_derivatives_compile():
    def cube(x):
        return (x**3).sum()

    x, t = tg.tensor([1.0, 2.0]), tg.tensor([1.0, -1.0])
    functions = {
        "grad": (tg.grad(cube), (x,)),
        "value_and_grad": (tg.value_and_grad(cube), (x,)),
        "jvp": (
            lambda x, t: tg.jvp(cube, x, t)[1] if False else tg.grad(lambda x: (tg.grad(cube)(x) * t).sum())(x),
            (x, t),
        ),
        "hvp": (lambda x, t: tg.grad(lambda x: (tg.grad(cube)(x) * t).sum())(x), (x, t)),
    }
    for function, arguments in functions.values():
        compiled = tg.jit(function)
        for factor in (1.0, 2.0, -3.0):
            given = [factor * one for one in arguments]
            expected, found = (f(*given) for f in (function, compiled))
            for one, other in zip(leaves(expected), leaves(found), strict=True):
                np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-6)


def test_containers_go_in_and_come_out():
    f = tg.jit(lambda d, *, scale: {"a": [d["x"] * scale, d["y"].T], "n": 3, "again": d["x"]})
    for start in (0.0, 5.0):
        x, y = tg.arange(3) + start, tg.ones((2, 3)) * start
        found = f({"x": x, "y": y}, scale=2)
        assert found["n"] == 3
        for one, other in ((found["a"][0], x * 2), (found["a"][1], y.T), (found["again"], x)):
            np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.parametrize("change", ["strided", "fortran", "swapped", "unaligned", "view"])
def test_arrays_in_any_form_are_arguments(change):
    f = tg.jit(lambda x: tg.tanh(x) @ tg.ones((3, 2), dtype="float64"))
    base = np.random.default_rng(0).standard_normal((4, 3))
    f(base)
    raw = np.zeros(4 * 3 * 8 + 1, np.uint8)
    unaligned = raw[1:].view(np.float64).reshape(4, 3)
    unaligned[...] = base * 2
    forms = {
        "strided": np.repeat(base * 2, 2, axis=1)[:, ::2],
        "fortran": np.asfortranarray(base * 2),
        "swapped": (base * 2).astype(">f8"),
        "unaligned": unaligned,
        "view": np.concatenate([base * 2] * 2)[:4],
    }
    np.testing.assert_allclose(f(forms[change]).numpy(), np.tanh(base * 2) @ np.ones((3, 2)), rtol=1e-12)
    assert sum(map(len, f.steps.values())) == 1


def test_a_new_shape_or_dtype_is_a_new_step_and_many_of_them_a_warning():
    f = tg.jit(lambda x: x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in range(MANY):
            assert f(np.ones(n)).shape == (n,)
    with pytest.warns(UserWarning, match="compiled for 17 signatures"):
        f(np.ones(100))


def test_two_threads_call_one_step():
    f = tg.jit(lambda x: tg.tanh(x @ x.T).sum(axis=0))
    inputs = [np.random.default_rng(i).standard_normal((16, 16)) for i in range(8)]
    expected = [np.tanh(x @ x.T).sum(axis=0) for x in inputs]
    f(inputs[0])
    wrong: list[int] = []

    def work(mine):
        for _ in range(100):
            wrong.extend(i for i in mine if not np.allclose(f(inputs[i]).numpy(), expected[i], rtol=1e-10))

    threads = [threading.Thread(target=work, args=(range(k, 8, 2),)) for k in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert wrong == []


def test_a_step_shows_what_it_does():
    _, _, (_, compiled) = pair([3, 8, 3], OPTIMIZERS["momentum"])
    with pytest.raises(CompileError, match="not called yet"):
        compiled.plan()
    compiled(*batches(1, 4, [3, 8, 3])[0])
    assert "momentum_update" in compiled.plan()
    assert "weight_norm_linear" in compiled.source
    assert compiled.graph().startswith("digraph")
    assert compiled.graph("mermaid").startswith("flowchart")
    with pytest.raises(ValueRangeError, match="style"):
        compiled.graph("png")
