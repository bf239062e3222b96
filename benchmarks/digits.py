"""One training step on the digits: 64-64-32-10, batch 32, float32, ReLU, cross-entropy, SGD with momentum 0.9.

The package's eager step stands beside the same step written by hand in NumPy, each plain and weight-normalized. Both
start from the same weights, and `check` holds them to the same losses and gradients before anything is timed.
"""

from time import perf_counter
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

import tinygrad_wn as tg
from tinygrad_wn import data, nn, optim

SIZES, BATCH, RATE, MOMENTUM = (64, 64, 32, 10), 32, 0.05, 0.9

Array: TypeAlias = NDArray[np.float32]
Batch: TypeAlias = tuple[Array, NDArray[np.int64]]


class Contender(Protocol):
    """A model with its optimizer."""

    def gradients(self, x: Array, y: NDArray[np.int64]) -> tuple[float, dict[str, NDArray[Any]]]:
        """Loss of a batch, and the gradient of each parameter by its name."""

    def step(self, x: Array, y: NDArray[np.int64]) -> None:
        """Forward, backward and update on a batch."""


class Package:
    """What a user of tinygrad_wn writes."""

    def __init__(self, weights: list[Array], normalized: bool) -> None:
        linears = [nn.Linear(w.shape[1], w.shape[0]) for w in weights]
        self.model = nn.Sequential(linears[0], nn.ReLU(), linears[1], nn.ReLU(), linears[2])
        state: dict[str, Array] = {}
        for i, w in zip((0, 2, 4), weights, strict=True):
            state |= {f"{i}.weight": w, f"{i}.bias": np.zeros(len(w), np.float32)}
        self.model.load_state_dict(state)
        if normalized:
            nn.weight_norm(self.model)
        self.optimizer = optim.SGD(self.model.parameters(), lr=RATE, momentum=MOMENTUM)

    def gradients(self, x: Array, y: NDArray[np.int64]) -> tuple[float, dict[str, NDArray[Any]]]:
        self.optimizer.zero_grad()
        loss = tg.cross_entropy(self.model(x), y)
        loss.backward()
        return loss.item(), {name: p.grad.numpy() for name, p in self.model.named_parameters() if p.grad is not None}

    def step(self, x: Array, y: NDArray[np.int64]) -> None:
        self.optimizer.zero_grad()
        tg.cross_entropy(self.model(x), y).backward()
        self.optimizer.step()


class ByHand:
    """The same in NumPy; weight normalization by equations 2 and 3 of arXiv 1602.07868."""

    def __init__(self, weights: list[Array], normalized: bool) -> None:
        self.normalized = normalized
        self.parameters: dict[str, Array] = {}
        for i, w in zip((0, 2, 4), weights, strict=True):
            if normalized:
                self.parameters[f"{i}.weight.v"] = w.copy()
                self.parameters[f"{i}.weight.g"] = np.sqrt(np.sum(w * w, axis=1, keepdims=True))
            else:
                self.parameters[f"{i}.weight"] = w.copy()
            self.parameters[f"{i}.bias"] = np.zeros(len(w), np.float32)
        self.momenta = {name: np.zeros_like(p) for name, p in self.parameters.items()}

    def weight(self, i: int) -> tuple[Array, Array | None]:
        """w of layer `i`, and ‖v‖ where there is one."""
        if not self.normalized:
            return self.parameters[f"{i}.weight"], None
        v, g = self.parameters[f"{i}.weight.v"], self.parameters[f"{i}.weight.g"]
        length = np.sqrt(np.sum(v * v, axis=1, keepdims=True))
        return g * v / length, length

    def gradients(self, x: Array, y: NDArray[np.int64]) -> tuple[float, dict[str, NDArray[Any]]]:
        used: list[tuple[int, Array, Array, Array | None]] = []
        for i in (0, 2, 4):
            w, length = self.weight(i)
            used.append((i, x, w, length))
            x = x @ w.T + self.parameters[f"{i}.bias"]
            if i < 4:
                x = np.maximum(x, 0)
        rows = np.arange(len(y))
        below = x - x.max(axis=1, keepdims=True)
        weights = np.exp(below)
        total = weights.sum(axis=1, keepdims=True)
        loss = float(np.mean(np.log(total[:, 0]) - below[rows, y]))
        ct = weights / total
        ct[rows, y] -= 1
        ct /= len(y)
        found: dict[str, NDArray[Any]] = {}
        for i, x, w, length in reversed(used):
            dw = ct.T @ x
            found[f"{i}.bias"] = ct.sum(axis=0)
            if length is None:
                found[f"{i}.weight"] = dw
            else:
                v, g = self.parameters[f"{i}.weight.v"], self.parameters[f"{i}.weight.g"]
                dg = np.sum(dw * v, axis=1, keepdims=True) / length
                found[f"{i}.weight.g"] = dg
                found[f"{i}.weight.v"] = g / length * dw - g * dg / length**2 * v
            if i:
                ct = (ct @ w) * (x > 0)
        return loss, found

    def step(self, x: Array, y: NDArray[np.int64]) -> None:
        _, gradients = self.gradients(x, y)
        for name, slope in gradients.items():
            momentum = self.momenta[name]
            momentum *= MOMENTUM
            momentum += slope
            self.parameters[name] -= RATE * momentum


def contenders(seed: int = 0) -> dict[str, Contender]:
    """All four, from the same He-normal weights."""
    rng = np.random.default_rng(seed)
    pairs = list(zip(SIZES[1:], SIZES[:-1], strict=True))
    weights = [(rng.standard_normal(pair) * np.sqrt(2 / pair[1])).astype(np.float32) for pair in pairs]
    return {
        "tinygrad_wn, plain": Package(weights, normalized=False),
        "tinygrad_wn, weight norm": Package(weights, normalized=True),
        "NumPy, plain": ByHand(weights, normalized=False),
        "NumPy, weight norm": ByHand(weights, normalized=True),
    }


def batches() -> list[Batch]:
    """One epoch of whole batches."""
    train, _ = data.split(data.digits())
    return list(data.batches(train, BATCH, rng=0, drop_last=True))


def check(one: Contender, other: Contender, epoch: list[Batch]) -> None:
    """Assert that loss and all gradients agree, at the start and after ten steps, which hold the update rule too."""
    for start in (0, 10):
        (loss, found), (expected_loss, expected) = one.gradients(*epoch[start]), other.gradients(*epoch[start])
        np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
        np.testing.assert_equal(sorted(found), sorted(expected))
        for name, slope in expected.items():
            size = float(np.linalg.norm(slope))
            np.testing.assert_allclose(found[name], slope, rtol=0, atol=1e-5 * size, err_msg=f"{name}, step {start}")
        for batch in epoch[:10]:
            one.step(*batch)
            other.step(*batch)


def measure(rounds: int) -> dict[str, list[float]]:
    """Mean microseconds a step of each contender in each of `rounds` epochs. Steps alternate: A B C D A B C D …"""
    epoch, models = batches(), contenders()
    a, b, c, d = contenders().values()
    check(a, c, epoch)
    check(b, d, epoch)
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        spent = dict.fromkeys(models, 0.0)
        for x, y in epoch:
            for name, model in models.items():
                start = perf_counter()
                model.step(x, y)
                spent[name] += perf_counter() - start
        for name, seconds in spent.items():
            times[name].append(seconds / len(epoch) * 1e6)
    return times
