"""All declared ops. Importing this fills the registry."""

from . import arithmetic, comparison, elementwise, linear, loss, matmul, norm, random, reductions, structural, update

__all__ = [
    "arithmetic",
    "comparison",
    "elementwise",
    "linear",
    "loss",
    "matmul",
    "norm",
    "random",
    "reductions",
    "structural",
    "update",
]
