"""Linear algebra, as in the array API's `linalg`."""

from .ops.matmul import matmul
from .ops.norm import vector_norm

__all__ = ["matmul", "vector_norm"]
