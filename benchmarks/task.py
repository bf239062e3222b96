"""What a contender is given: arrays alone, so that its process need not import this package to make them."""

from dataclasses import dataclass
from typing import Any, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Arrays: TypeAlias = dict[str, Array]
Batch: TypeAlias = tuple[Array, Array]

MOMENTUM = 0.9
RATES = {"sgd": 0.01, "adam": 0.001}
BETAS = (0.9, 0.999)
EPSILON = 1e-8


@dataclass(frozen=True)
class Task:
    """A network of linear layers with relu between them, and the batches that it sees in a circle.

    `parameters` holds "i.weight" (out, in), or "i.weight.v" and "i.weight.g" (out, 1), and "i.bias" (out,) for each
    layer i. `optimizer` is "sgd", with momentum 0.9, or "adam".
    """

    parameters: Arrays
    batches: list[Batch]
    normalized: bool
    optimizer: str
    threads: int

    @property
    def layers(self) -> range:
        """Numbers of the layers."""
        return range(sum(name.endswith("bias") for name in self.parameters))

    @property
    def rate(self) -> float:
        """Learning rate."""
        return RATES[self.optimizer]

    def sizes(self) -> list[int]:
        """Inputs, then outputs of each layer."""
        weights = [self.parameters[f"{i}.weight{'.v' if self.normalized else ''}"] for i in self.layers]
        return [weights[0].shape[1], *(len(w) for w in weights)]
