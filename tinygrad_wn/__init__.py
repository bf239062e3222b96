"""tinygrad_wn: a small reverse-mode autodiff framework to learn, verify and use weight normalization on a CPU."""

import sys
from typing import TYPE_CHECKING

from . import data, engine as engine, interop, linalg, nn, optim
from .compiled import jit, scan
from .creation import arange, full, generator, ones, randn, seed, tensor, zeros
from .dynamics import NormRecorder
from .functions import concat, gelu, leaky_relu, stack, take, weight_norm, weight_norm_linear
from .graph import graph
from .io import load, load_metadata, save
from .kernels import kernels
from .kernels.threads import get_num_threads, set_num_threads
from .names import FUNCTIONS, missing
from .ops.arithmetic import (
    add,
    clip,
    divide,
    floor_divide,
    maximum,
    minimum,
    multiply,
    power,
    remainder,
    subtract,
    where,
)
from .ops.comparison import (
    all,
    any,
    argmax,
    bitwise_and,
    bitwise_invert,
    bitwise_left_shift,
    bitwise_or,
    bitwise_right_shift,
    bitwise_xor,
    equal,
    greater,
    greater_equal,
    isfinite,
    less,
    less_equal,
    not_equal,
    sign,
)
from .ops.elementwise import (
    abs,
    cos,
    erf,
    exp,
    expm1,
    log,
    log1p,
    negative,
    positive,
    relu,
    sigmoid,
    sin,
    softplus,
    sqrt,
    square,
    tanh,
)
from .ops.linear import linear
from .ops.loss import cross_entropy, mse
from .ops.matmul import matmul
from .ops.reductions import log_softmax, logsumexp, max, mean, min, prod, softmax, sum, var
from .ops.structural import (
    astype,
    broadcast_to,
    expand_dims,
    permute_dims,
    reshape,
    squeeze,
    stop_gradient,
)
from .tensor import Tensor
from .transforms import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp
from .walk import no_grad

__version__ = "0.1.0"

if not TYPE_CHECKING:  # a type checker is to find misspelt names

    def __getattr__(name: str) -> object:
        """Raise AttributeError, and say what to take for a function that PyTorch or NumPy has."""
        raise AttributeError(missing(f"module {__name__!r}", name, FUNCTIONS), name=name, obj=sys.modules[__name__])


__all__ = [
    "NormRecorder",
    "Tensor",
    "abs",
    "add",
    "all",
    "any",
    "arange",
    "argmax",
    "astype",
    "bitwise_and",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "broadcast_to",
    "clip",
    "concat",
    "cos",
    "cross_entropy",
    "data",
    "divide",
    "equal",
    "erf",
    "exp",
    "expand_dims",
    "expm1",
    "floor_divide",
    "full",
    "gelu",
    "generator",
    "get_num_threads",
    "grad",
    "graph",
    "greater",
    "greater_equal",
    "hessian",
    "hvp",
    "interop",
    "isfinite",
    "jacobian",
    "jit",
    "jvp",
    "kernels",
    "leaky_relu",
    "less",
    "less_equal",
    "linalg",
    "linear",
    "load",
    "load_metadata",
    "log",
    "log1p",
    "log_softmax",
    "logsumexp",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "mse",
    "multiply",
    "negative",
    "nn",
    "no_grad",
    "not_equal",
    "ones",
    "optim",
    "permute_dims",
    "positive",
    "power",
    "prod",
    "randn",
    "relu",
    "remainder",
    "reshape",
    "save",
    "scan",
    "seed",
    "set_num_threads",
    "sigmoid",
    "sign",
    "sin",
    "softmax",
    "softplus",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "stop_gradient",
    "subtract",
    "sum",
    "take",
    "tanh",
    "tensor",
    "value_and_grad",
    "var",
    "vjp",
    "weight_norm",
    "weight_norm_linear",
    "where",
    "zeros",
]
