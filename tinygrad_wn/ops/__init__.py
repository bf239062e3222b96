"""All declared ops. Importing this fills the registry."""

from . import (
    arithmetic,
    batch,
    comparison,
    elementwise,
    linear,
    loss,
    matmul,
    norm,
    notes,
    random,
    reductions,
    structural,
    update,
)

__all__ = [
    "arithmetic",
    "batch",
    "comparison",
    "elementwise",
    "linear",
    "loss",
    "matmul",
    "norm",
    "notes",
    "random",
    "reductions",
    "structural",
    "update",
]
