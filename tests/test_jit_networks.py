"""Random networks take the same compiled step as eager ones: loss, predictions, parameters, state of the optimizer."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings, strategies as st
from rounding import flat, near, reach

import tinygrad_wn as tg
from tinygrad_wn import nn, optim
from tinygrad_wn.tensor import wrap

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("many_steps")]

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn

    from tinygrad_wn.tensor import Tensor

WIDTHS = [1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 65]
ROWS = [1, 2, 15, 16, 17, 32, 33]
SMOOTH = [nn.Tanh, nn.Sigmoid, nn.GELU]
ACTIVATIONS = [*SMOOTH, nn.ReLU, nn.LeakyReLU, lambda: nn.LeakyReLU(0.2), nn.Sequential]
STEPS = 3
PHASES = [Phase.explicit, Phase.reuse, Phase.generate]  # a network is shown as it is: each try to shrink it is compiled
some = settings(max_examples=max(settings.default.max_examples // 5, 1), deadline=None, phases=PHASES)
both = pytest.mark.parametrize("dtype", ["float32", "float64"])


class Training:
    """A network, its optimizer and its step; `begin` brings all of it back to where it began."""

    def __init__(self, model: nn.Module, optimizer: Any, loss: Any, clip: float | None) -> None:
        self.model, self.optimizer, self.loss, self.clip = model, optimizer, loss, clip
        self.first = model.state_dict()
        self.text = ""

    def __repr__(self) -> str:
        groups = [{k: x for k, x in one.items() if k != "params"} for one in self.optimizer.param_groups]
        names = ", ".join(name for name, _ in self.model.named_parameters())
        return f"{self.model!r}\n{names}\n{type(self.optimizer).__name__} {groups}, clip {self.clip}, {self.text}"

    def begin(self) -> None:
        """Start again."""
        tg.seed(0)
        self.model.load_state_dict(self.first)
        for state in self.optimizer.state:
            for name, x in state.items():
                if isinstance(x, tg.Tensor):
                    x.data = np.zeros_like(x.numpy())
                else:
                    state[name] = 0

    def step(self, x: Any, y: Any) -> Any:
        """One step, with the predictions that it began with."""
        self.model.zero_grad()
        predictions = self.model(x)
        loss = self.loss(predictions, y)
        (loss if loss.shape == () else loss.sum()).backward()
        norm = None if self.clip is None else optim.clip_grad_norm(self.model.parameters(), self.clip)
        self.optimizer.step()
        return {"loss": loss, "predictions": predictions, "norm": norm}

    def outcome(self, step: Any, batches: Any) -> list[Any]:
        """What steps from the beginning give, and where they lead."""
        self.begin()
        found = [flat(step(x, y)) for x, y in batches]
        state = self.model.state_dict() | self.optimizer.state_dict()
        return [*itertools.chain.from_iterable(found), *(state[name] for name in sorted(state))]

    def held(self, batches: Any) -> None:
        """Compiled steps against eager ones: the first records, the others run."""
        compiled = tg.jit(self.step)
        self.outcome(compiled, batches[:1])
        expected = self.outcome(self.step, batches)
        bounds = reach(lambda: self.outcome(self.step, batches), expected)
        near(self.outcome(compiled, batches), expected, bounds)
        assert sum(map(len, compiled.steps.values())) == 1


@st.composite
def networks(draw: DrawFn, dtype: str, activations: Any) -> tuple[nn.Sequential, int, int]:
    """A chain of one to four layers, some of them weight-normalized, and its numbers of inputs and outputs."""
    sizes = draw(st.lists(st.sampled_from(WIDTHS), min_size=2, max_size=5))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    layers: list[nn.Module] = []
    for width, out in itertools.pairwise(sizes):
        layer = nn.Linear(width, out, draw(st.integers(0, 3)) > 0, dtype=dtype, rng=rng)
        if layer.bias is not None:
            layer.bias.data = rng.normal(0, 0.3, out).astype(dtype)
        if draw(st.booleans()):
            nn.weight_norm(layer, axis=draw(st.sampled_from([0, 0, 0, 1, -1, None, (0, 1)])))
            frozen = draw(st.sampled_from(["neither", "neither", "v", "g"]))
            if frozen != "neither":
                getattr(layer.weight, frozen).requires_grad = False
        layers += [layer, draw(st.sampled_from(activations))()]
        if draw(st.integers(0, 3)) == 0:
            layers.append(nn.Dropout(draw(st.sampled_from([0.1, 0.5]))))
    return nn.Sequential(*layers[: len(layers) - draw(st.integers(0, 1))]), sizes[0], sizes[-1]


def optimizers(draw: DrawFn, params: list[Tensor]) -> Any:
    """An optimizer with options, for all parameters or for groups of them."""
    decay = draw(st.sampled_from([0.0, 0.01]))
    make, options = draw(
        st.sampled_from(
            [
                (optim.SGD, {"lr": 0.05}),
                (optim.SGD, {"lr": 0.05, "momentum": 0.9}),
                (optim.SGD, {"lr": 0.02, "momentum": 0.5, "nesterov": True}),
                (optim.Adam, {"lr": 0.01}),
                (optim.Adam, {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-3}),
                (optim.AdamW, {"lr": 0.01}),
            ]
        )
    )
    half = len(params) // 2
    groups: Any = params
    if half and draw(st.booleans()):
        groups = [{"params": params[:half]}, {"params": params[half:], "lr": 0.003, "weight_decay": 0.1}]
        groups = groups[draw(st.integers(0, 1)) :]
    return make(groups, **options, weight_decay=decay)


@st.composite
def trainings(draw: DrawFn, dtype: str, activations: Any) -> tuple[Training, Any]:
    """A training and its batches."""
    model, inputs, outputs = draw(networks(dtype, activations))
    rows, rng = draw(st.sampled_from(ROWS)), np.random.default_rng(draw(st.integers(0, 99)))
    reduction = draw(st.sampled_from(["mean", "sum", "none"]))
    xs = rng.standard_normal((STEPS, rows, inputs)).astype(dtype)
    if draw(st.booleans()):
        weight = draw(st.sampled_from([None, rng.uniform(0.5, 2, outputs).astype(dtype)]))
        ys: Any = rng.integers(0, outputs, (STEPS, rows))

        def loss(found: Any, y: Any) -> Any:
            return nn.cross_entropy(found, y, weight, reduction=reduction)
    else:
        ys = rng.standard_normal((STEPS, rows, outputs)).astype(dtype)

        def loss(found: Any, y: Any) -> Any:
            return nn.mse(found, y, reduction=reduction)

    clip = draw(st.sampled_from([None, None, 0.1, 1e6]))
    training = Training(model, optimizers(draw, model.parameters()), loss, clip)
    training.text = f"{rows} rows, {'classes' if ys.ndim == 2 else 'values'}, {reduction}"
    return training, list(zip(xs, ys, strict=True))


@both
@some
@given(data=st.data())
def test_one_step_of_random_networks_equals_an_eager_one(dtype: str, data: st.DataObject) -> None:
    training, batches = data.draw(trainings(dtype, ACTIVATIONS))
    training.held(batches[:1])


@both
@some
@given(data=st.data())
def test_steps_of_smooth_random_networks_equal_eager_ones(dtype: str, data: st.DataObject) -> None:
    training, batches = data.draw(trainings(dtype, SMOOTH))
    training.held(batches)


def assert_same_steps(make: Any, batches: list[tuple[Any, ...]]) -> None:
    """A step that `make` builds, with the tensors to look at, against the same compiled."""
    found = []
    for compiled in (False, True):
        step, tensors = make()
        step = tg.jit(step) if compiled else step
        results = [flat(step(*batch)) for batch in batches]
        found.append([*itertools.chain.from_iterable(results), *flat(tensors)])
    for one, other in zip(*found, strict=True):
        if isinstance(one, np.ndarray):
            np.testing.assert_allclose(other, one, rtol=1e-12, atol=1e-14)


def rows(width: int = 4, count: int = 4) -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(5)
    return [(rng.standard_normal((6, width)), rng.standard_normal((6, width))) for _ in range(count)]


@pytest.mark.parametrize("normalized", [False, True])
def test_a_weight_that_two_layers_share_gets_the_sum_of_both_cotangents(normalized: bool) -> None:
    def make() -> Any:
        first, second = (nn.Linear(4, 4, dtype="float64", rng=seed) for seed in (0, 1))
        second.weight = first.weight
        model = nn.Sequential(first, nn.Tanh(), second)
        model = nn.weight_norm(model) if normalized else model
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = nn.mse(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        return step, model.parameters()

    assert_same_steps(make, rows())


def test_parameters_that_lie_in_one_array_are_updated_there_and_nothing_beside_them_is() -> None:
    def make() -> Any:
        whole = np.random.default_rng(0).standard_normal((6, 12))
        places = [whole[:4, :4], whole[4:, 8:].T, whole[4, :4]]
        weight, turned, bias = (wrap(x, requires_grad=True) for x in places)
        optimizer = optim.Adam([weight, turned, bias], lr=0.01)

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            predictions = tg.tanh(tg.linear(x, weight, bias)) @ turned
            loss = nn.mse(predictions, y[:, :2])
            loss.backward()
            optimizer.step()
            return predictions, loss

        return step, [wrap(whole)]

    assert_same_steps(make, rows())


def test_a_step_updates_some_parameters_and_leaves_the_others() -> None:
    def make() -> Any:
        model = nn.weight_norm(nn.Sequential(*(nn.Linear(4, 4, dtype="float64", rng=seed) for seed in range(3))))
        optimizer = optim.SGD([model[0].weight.g, model[2].weight.v, model[1].bias], lr=0.1)

        def step(x: Any, y: Any) -> Any:
            model.zero_grad()
            hidden = model[:2](x)
            loss = nn.mse(model[2](hidden), y)
            loss.backward()
            optimizer.step()
            return [hidden, {"loss": loss}, model[0].weight.v]

        return step, model.parameters()

    assert_same_steps(make, rows())


def test_weights_that_are_read_after_an_update_are_the_new_ones() -> None:
    def make() -> Any:
        layer = nn.weight_norm(nn.Linear(4, 4, dtype="float64", rng=0))
        optimizer = optim.SGD(layer.parameters(), lr=0.1)

        def step(x: Any, y: Any) -> Any:
            found = []
            for _ in range(3):
                optimizer.zero_grad()
                loss = nn.mse(layer(x), y)
                loss.backward()
                optimizer.step()
                found += [loss, layer.weight.v.T, layer.weight()]
            return found

        return step, layer.parameters()

    assert_same_steps(make, rows())
