"""NumPy without a framework; weight normalization by equations 2 and 3 of arXiv 1602.07868.

With float64 parameters it is what every contender is held against.
"""

from typing import Any

import numpy as np

from ..task import BETAS, EPSILON, MOMENTUM, Array, Arrays
from .base import Contender


class ByHand(Contender):
    """Forward and backward written out, updates in place."""

    def build(self) -> None:
        self.parameters = {name: x.copy() for name, x in self.task.parameters.items()}
        self.first = {name: np.zeros_like(x) for name, x in self.parameters.items()}
        self.second = {name: np.zeros_like(x) for name, x in self.parameters.items()}
        self.count = 0

    def gradients(self, i: int) -> tuple[float, Arrays]:
        return self.backward(*self.batches[i])

    def outputs(self, i: int) -> Array:
        return self.forward(self.batches[i][0])[-1][0]

    def predict(self, x: Any) -> None:
        self.forward(x)

    def forward(self, x: Array) -> list[tuple[Array, Any, Any]]:
        """For each layer its input, w and ‖v‖; at the end what comes out."""
        found: list[tuple[Array, Any, Any]] = []
        for i in self.task.layers:
            if self.task.normalized:
                v, g = self.parameters[f"{i}.weight.v"], self.parameters[f"{i}.weight.g"]
                norm = np.sqrt(np.einsum("ij,ij->i", v, v))[:, None]
                w = v * (g / norm)
            else:
                w, norm = self.parameters[f"{i}.weight"], None
            found.append((x, w, norm))
            x = x @ w.T
            x += self.parameters[f"{i}.bias"]
            if i < self.task.layers[-1]:
                np.maximum(x, 0, out=x)
        return [*found, (x, None, None)]

    def backward(self, x: Array, y: Array) -> tuple[float, Arrays]:
        """Loss, and all gradients by equation 3 where there is a norm."""
        *layers, (out, _, _) = self.forward(x)
        rows = np.arange(len(y))
        out -= out.max(axis=1, keepdims=True)
        ct = np.exp(out)
        total = ct.sum(axis=1, keepdims=True)
        loss = float(np.mean(np.log(total[:, 0]) - out[rows, y]))
        ct /= total
        ct[rows, y] -= 1
        ct /= len(y)
        found: Arrays = {}
        for i, (x, w, norm) in reversed([*enumerate(layers)]):
            dw = ct.T @ x
            found[f"{i}.bias"] = ct.sum(axis=0)
            if norm is None:
                found[f"{i}.weight"] = dw
            else:
                v, g = self.parameters[f"{i}.weight.v"], self.parameters[f"{i}.weight.g"]
                dg = np.einsum("ij,ij->i", dw, v)[:, None] / norm
                dw *= g / norm
                dw -= (g * dg / norm**2) * v
                found[f"{i}.weight.g"], found[f"{i}.weight.v"] = dg, dw
            if i:
                ct = ct @ w
                ct *= x > 0
        return loss, found

    def step(self, x: Any, y: Any) -> None:
        _, found = self.backward(x, y)
        self.count += 1
        for name, slope in found.items():
            p, first = self.parameters[name], self.first[name]
            if self.task.optimizer == "sgd":
                first *= MOMENTUM
                first += slope
                p -= self.task.rate * first
                continue
            second = self.second[name]
            one, two = BETAS
            first *= one
            first += (1 - one) * slope
            second *= two
            second += (1 - two) * slope * slope
            length = np.sqrt(second / (1 - two**self.count))
            length += EPSILON
            p -= self.task.rate / (1 - one**self.count) * first / length
