"""tinygrad_wn: a small reverse-mode autodiff framework to learn, verify and use weight normalization on a CPU."""

from . import linalg
from .creation import arange, full, generator, ones, randn, seed, zeros
from .functions import concat, gelu, leaky_relu, stack, take, weight_norm
from .graph import graph
from .kernels import kernels
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
from .ops.loss import cross_entropy, mse
from .ops.matmul import linear, matmul
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
from .tensor import Tensor, tensor
from .transforms import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp
from .walk import no_grad

__version__ = "0.1.0"
