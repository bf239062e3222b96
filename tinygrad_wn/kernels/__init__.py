"""Numba loops on arrays. They fill their first arguments and know no Tensor."""

from .elementwise import erf, relu, relu_pullback
from .jit import kernels, kernels_are_on
from .linear import linear, linear_pullback, matmul, weight_norm_linear, weight_norm_linear_pullback
from .loss import cross_entropy, cross_entropy_pullback
from .norm import vector_norm, weight_norm, weight_norm_pullback
from .notes import noted_changes, noted_lengths
from .second import weight_norm_second
from .update import adam_update, momentum_update, sgd_update

__all__ = [
    "adam_update",
    "cross_entropy",
    "cross_entropy_pullback",
    "erf",
    "kernels",
    "kernels_are_on",
    "linear",
    "linear_pullback",
    "matmul",
    "momentum_update",
    "noted_changes",
    "noted_lengths",
    "relu",
    "relu_pullback",
    "sgd_update",
    "vector_norm",
    "weight_norm",
    "weight_norm_linear",
    "weight_norm_linear_pullback",
    "weight_norm_pullback",
    "weight_norm_second",
]
