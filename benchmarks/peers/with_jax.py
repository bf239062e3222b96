"""JAX: a whole step in one jitted function, which may reuse the memory of the parameters it replaces."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..task import BETAS, EPSILON, MOMENTUM, Array, Arrays
from .base import Contender


class Jitted(Contender):
    """Parameters in a dict; weight normalization by its formula."""

    def build(self) -> None:
        self.parameters = {name: jnp.array(x) for name, x in self.task.parameters.items()}
        zeros = {name: jnp.zeros_like(x) for name, x in self.parameters.items()}
        copies = {name: jnp.zeros_like(x) for name, x in self.parameters.items()}
        self.state: tuple[Any, ...] = (zeros,) if self.task.optimizer == "sgd" else (zeros, copies, jnp.zeros(()))
        self.forward = jax.jit(self._forward)
        self.loss_and_slopes = jax.jit(jax.value_and_grad(self._loss))
        update = self._sgd if self.task.optimizer == "sgd" else self._adam
        self.update = partial(jax.jit, donate_argnums=(0, 1))(update)
        self.last: Any = None

    def _forward(self, parameters: Any, x: Any) -> Any:
        for i in self.task.layers:
            if self.task.normalized:
                v, g = parameters[f"{i}.weight.v"], parameters[f"{i}.weight.g"]
                w = g * v / jnp.linalg.norm(v, axis=1, keepdims=True)
            else:
                w = parameters[f"{i}.weight"]
            x = x @ w.T + parameters[f"{i}.bias"]
            if i < self.task.layers[-1]:
                x = jax.nn.relu(x)
        return x

    def _loss(self, parameters: Any, x: Any, y: Any) -> Any:
        logs = jax.nn.log_softmax(self._forward(parameters, x))
        return -jnp.mean(jnp.take_along_axis(logs, y[:, None], axis=1))

    def _sgd(self, parameters: Any, state: Any, x: Any, y: Any) -> Any:
        slopes = jax.grad(self._loss)(parameters, x, y)
        momenta = jax.tree.map(lambda m, g: MOMENTUM * m + g, state[0], slopes)
        return jax.tree.map(lambda p, m: p - self.task.rate * m, parameters, momenta), (momenta,)

    def _adam(self, parameters: Any, state: Any, x: Any, y: Any) -> Any:
        slopes = jax.grad(self._loss)(parameters, x, y)
        (one, two), count = BETAS, state[2] + 1
        first = jax.tree.map(lambda m, g: one * m + (1 - one) * g, state[0], slopes)
        second = jax.tree.map(lambda m, g: two * m + (1 - two) * g * g, state[1], slopes)
        rate, scale = self.task.rate / (1 - one**count), 1 / (1 - two**count)

        def moved(p: Any, m: Any, s: Any) -> Any:
            return p - rate * m / (jnp.sqrt(s * scale) + EPSILON)

        return jax.tree.map(moved, parameters, first, second), (first, second, count)

    def converted(self, x: Array, y: Array) -> tuple[Any, Any]:
        return jnp.array(x), jnp.array(y.astype(np.int32))

    def gradients(self, i: int) -> tuple[float, Arrays]:
        loss, slopes = self.loss_and_slopes(self.parameters, *self.batches[i])
        return float(loss), {name: np.asarray(x) for name, x in slopes.items()}

    def outputs(self, i: int) -> Array:
        return np.asarray(self.forward(self.parameters, self.batches[i][0]))

    def step(self, x: Any, y: Any) -> None:
        self.parameters, self.state = self.update(self.parameters, self.state, x, y)
        self.last = self.parameters

    def predict(self, x: Any) -> None:
        self.last = self.forward(self.parameters, x)

    def steps(self) -> None:
        super().steps()
        jax.block_until_ready(self.last)

    def predictions(self) -> None:
        super().predictions()
        jax.block_until_ready(self.last)
