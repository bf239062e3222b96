"""All declared ops. Importing this fills the registry."""

from . import arithmetic, comparison, elementwise, loss, matmul, norm, reductions, structural, update

__all__ = ["arithmetic", "comparison", "elementwise", "loss", "matmul", "norm", "reductions", "structural", "update"]
