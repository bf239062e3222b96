"""The six methods of section 5 of arXiv 1602.07868, as networks of one architecture and the same initial directions.

"normal" has a weight and a bias a layer. With data-dependent initialization its weights are scaled, and its biases
set, so that each unit starts with mean 0 and standard deviation 1 on one batch (equations 5 and 6). Weight
normalization starts the same way, as the paper uses it, so that "normal, data init" and "weight norm" are the same
function at first. Both kinds of batch normalization stand between a hidden layer and its ReLU, and take the place of
its bias; the last layer has none of them. Where weights are normalized, those of the last layer are, too.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..domains import Array

BATCH: dict[str, Callable[[int], nn.Module]] = {
    "batch norm": nn.BatchNorm1d,
    "mean-only batch norm": nn.MeanOnlyBatchNorm1d,
    "weight norm + mean-only": nn.MeanOnlyBatchNorm1d,
}
WEIGHT = ("weight norm", "weight norm + mean-only")
FROM_DATA = ("normal, data init", *WEIGHT)
METHODS = (
    "normal",
    "normal, data init",
    "weight norm",
    "batch norm",
    "mean-only batch norm",
    "weight norm + mean-only",
)


def network(method: str, sizes: Sequence[int], seed: int | Sequence[int], x: Array, **options: Any) -> nn.Sequential:
    """A network of this method out of `METHODS`, with layers of `sizes` (inputs, hidden …, classes) and ReLUs between.

    `seed` draws the weights: for the same one, all methods get the same v (or w), whose lengths alone differ. `x`
    (rows, inputs) is the batch that data-dependent initialization looks at. `options` are those of `nn.weight_norm`.

    >>> from tinygrad_wn.studies.methods import network
    >>> network("mean-only batch norm", [2, 8, 2], seed=0, x=tg.data.moons(50, rng=0).x)
    Sequential(
      (0): Linear(in_features=2, out_features=8, bias=False)
      (1): MeanOnlyBatchNorm1d(num_features=8, momentum=0.1)
      (2): ReLU()
      (3): Linear(in_features=8, out_features=2, bias=True)
    )
    """
    rng = np.random.default_rng(seed)
    layers: list[nn.Module] = []
    for inputs, units in pairwise(sizes[:-1]):
        layers.append(nn.Linear(inputs, units, bias=method not in BATCH, rng=rng))
        layers += [BATCH[method](units)] if method in BATCH else []
        layers.append(nn.ReLU())
    model = nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1], rng=rng))
    if method in WEIGHT:
        model = nn.weight_norm(model, **options)
    return nn.data_init(model, x, std=None) if method in FROM_DATA else model
