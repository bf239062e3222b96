"""Numba loops on arrays. They fill their first arguments and know no Tensor."""

from .elementwise import erf, relu, relu_pullback
from .jit import kernels, kernels_are_on
from .linear import linear, linear_pullback, matmul, weight_norm_linear, weight_norm_linear_pullback
from .norm import vector_norm, weight_norm, weight_norm_pullback

__all__ = [
    "erf",
    "kernels",
    "kernels_are_on",
    "linear",
    "linear_pullback",
    "matmul",
    "relu",
    "relu_pullback",
    "vector_norm",
    "weight_norm",
    "weight_norm_linear",
    "weight_norm_linear_pullback",
    "weight_norm_pullback",
]
