"""Numba loops on arrays. They fill their first arguments and know no Tensor."""

from .elementwise import erf
from .jit import kernels, kernels_are_on
from .norm import vector_norm, weight_norm, weight_norm_pullback

__all__ = ["erf", "kernels", "kernels_are_on", "vector_norm", "weight_norm", "weight_norm_pullback"]
