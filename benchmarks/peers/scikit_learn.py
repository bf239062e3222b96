"""scikit-learn: MLPClassifier.fit over whole batches, which has no weight normalization."""

from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier

from ..task import MOMENTUM, Array, Arrays
from .base import Contender


class MultiLayerPerceptron(Contender):
    """A warm start from the given weights, without shuffling and without an L2 term: one call of fit for many steps."""

    fewest = 8  # a warm start wants to see every class again

    def build(self) -> None:
        task = self.task
        x, y = task.batches[0]
        self.classes = np.arange(task.sizes()[-1])
        self.model = MLPClassifier(
            task.sizes()[1:-1],
            solver="sgd",
            alpha=0.0,
            batch_size=len(x),
            learning_rate_init=task.rate,
            momentum=MOMENTUM,
            nesterovs_momentum=False,
            shuffle=False,
            max_iter=1,
            warm_start=True,
        )
        self.model.partial_fit(
            x, y, classes=self.classes
        )  # makes the arrays, in which the given weights take their places
        self.model.coefs_ = [np.ascontiguousarray(task.parameters[f"{i}.weight"].T) for i in task.layers]
        self.model.intercepts_ = [task.parameters[f"{i}.bias"].copy() for i in task.layers]

    def gradients(self, i: int) -> tuple[float, Arrays]:
        x, y = self.batches[i]
        hot = y[:, None] == self.classes
        count = len(self.task.layers)
        slopes: list[list[Any]] = [[np.empty_like(p) for p in ps] for ps in (self.model.coefs_, self.model.intercepts_)]
        nothing: list[Any] = [None] * count
        loss, weights, biases = self.model._backprop(x, hot, None, [x, *nothing], nothing, *slopes)
        found = {f"{j}.weight": w.T for j, w in enumerate(weights)}
        return float(loss), found | {f"{j}.bias": b for j, b in enumerate(biases)}

    def outputs(self, i: int) -> Array:
        raise NotImplementedError("MLPClassifier gives probabilities")

    def step(self, x: Any, y: Any) -> None:
        raise NotImplementedError("MLPClassifier.fit takes many steps")

    def predict(self, x: Any) -> None:
        self.model.predict_proba(x)

    def prepare(self, n: int) -> None:
        """Lay the next `n` batches one after the other, which is not the work of a step."""
        super().prepare(n)
        self.rows = np.concatenate([x for x, _ in self.coming]), np.concatenate([y for _, y in self.coming])

    def steps(self) -> None:
        """One pass over all rows."""
        self.model.fit(*self.rows)
