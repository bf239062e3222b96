"""What every contender can do."""

from abc import ABC, abstractmethod
from typing import Any

from ..task import Array, Arrays, Task


class Contender(ABC):
    """A network with its optimizer in one framework. Data are converted once, as a data loader would do it."""

    fewest = 1
    """Steps that can be asked for."""

    def __init__(self, task: Task) -> None:
        """Build the network, and convert the batches to what the framework computes with."""
        self.task = task
        self.turn = 0
        self.build()
        self.batches = [self.converted(*batch) for batch in task.batches]

    @abstractmethod
    def build(self) -> None:
        """Make parameters and optimizer from `self.task`."""

    def converted(self, x: Array, y: Array) -> tuple[Any, Any]:
        """A batch as the framework wants it."""
        return x, y

    @abstractmethod
    def gradients(self, i: int) -> tuple[float, Arrays]:
        """Loss of batch `i`, and the gradient of each parameter by its name; nothing is updated."""

    @abstractmethod
    def outputs(self, i: int) -> Array:
        """What the last layer gives for batch `i`."""

    @abstractmethod
    def step(self, x: Any, y: Any) -> None:
        """Forward, backward and update on a batch."""

    @abstractmethod
    def predict(self, x: Any) -> None:
        """Forward alone, with nothing recorded."""

    def prepare(self, n: int) -> None:
        """Take the next `n` batches; this is not timed."""
        self.coming = [self.batches[(self.turn + i) % len(self.batches)] for i in range(n)]
        self.turn = (self.turn + n) % len(self.batches)

    def steps(self) -> None:
        """Train on the batches that were prepared, and return when that is done."""
        for x, y in self.coming:
            self.step(x, y)

    def predictions(self) -> None:
        """Predict the batches that were prepared, and return when that is done."""
        for x, _ in self.coming:
            self.predict(x)
