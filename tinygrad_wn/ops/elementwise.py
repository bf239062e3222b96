"""Elementwise ops of one argument, and the pullback of relu."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import kernels
from ..domains import AboveMinusOne, Array, NonZero, Positive, Real
from ..op import case, op
from ..shapes import broadcast, same
from .comparison import sign

if TYPE_CHECKING:
    from ..tensor import Tensor

UNARY = [case("()"), case("(n)"), case("(m,n)")]


@op(cases=UNARY, shape=same, elementwise=True)
def negative(x: Real) -> Array:
    """-x.

    >>> -tg.tensor([1.0, -2.0])
    Tensor([-1.,  2.])
    """
    return np.negative(x)


@negative.vjp
def negative_vjp(ct: Tensor, _: None, x: Tensor) -> Tensor:
    return -ct


@op(cases=UNARY, shape=same, elementwise=True)
def positive(x: Real) -> Array:
    """+x.

    >>> +tg.tensor([1.0, -2.0])
    Tensor([ 1., -2.])
    """
    return np.positive(x)


@positive.vjp
def positive_vjp(ct: Tensor, _: None, x: Tensor) -> Tensor:
    return ct


@op(cases=UNARY, shape=same, elementwise=True)
def abs(x: NonZero) -> Array:
    """|x|; its gradient at zero is 0.

    >>> abs(tg.tensor([1.0, -2.0]))
    Tensor([1., 2.])
    """
    return np.abs(x)


@abs.vjp
def abs_vjp(ct: Tensor, _: None, x: Tensor) -> Tensor:
    return ct * sign(x)


@op(cases=UNARY, shape=same, elementwise=True)
def exp(x: Real) -> Array:
    """e to the power x.

    >>> tg.exp(tg.tensor([0.0, 1.0]))
    Tensor([1.       , 2.71828])
    """
    return np.exp(x)


@exp.vjp
def exp_vjp(ct: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return ct * y


@op(cases=UNARY, shape=same, elementwise=True)
def expm1(x: Real) -> Array:
    """exp(x) - 1, exact near zero.

    >>> tg.expm1(tg.tensor([0.0, 1e-6]))
    Tensor([0.0000000e+00, 1.0000005e-06])
    """
    return np.expm1(x)


@expm1.vjp
def expm1_vjp(ct: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return ct * (y + 1)


@op(cases=UNARY, shape=same, elementwise=True)
def log(x: Positive) -> Array:
    """Natural logarithm.

    >>> tg.log(tg.tensor([1.0, 10.0]))
    Tensor([0.       , 2.30259])
    """
    return np.log(x)


@log.vjp
def log_vjp(ct: Tensor, _: None, x: Tensor) -> Tensor:
    return ct / x


@op(cases=UNARY, shape=same, elementwise=True)
def log1p(x: AboveMinusOne) -> Array:
    """log(1 + x), exact near zero.

    >>> tg.log1p(tg.tensor([0.0, 1e-6]))
    Tensor([0.000000e+00, 9.999995e-07])
    """
    return np.log1p(x)


@log1p.vjp
def log1p_vjp(ct: Tensor, _: None, x: Tensor) -> Tensor:
    return ct / (x + 1)


@op(cases=UNARY, shape=same, elementwise=True)
def sqrt(x: Positive) -> Array:
    """Square root.

    >>> tg.sqrt(tg.tensor([4.0, 9.0]))
    Tensor([2., 3.])
    """
    return np.sqrt(x)


@sqrt.vjp
def sqrt_vjp(ct: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return ct / (2 * y)


@op(cases=UNARY, shape=same, elementwise=True)
def square(x: Real) -> Array:
    """x².

    >>> tg.square(tg.tensor([2.0, -3.0]))
    Tensor([4., 9.])
    """
    return np.square(x)


@square.vjp
def square_vjp(ct: Tensor, _: None, x: Tensor) -> Tensor:
    return ct * (2 * x)


@op(cases=UNARY, shape=same, elementwise=True)
def sin(x: Real) -> Array:
    """Sine of x in radians.

    >>> tg.sin(tg.tensor([0.0, 1.0]))
    Tensor([0.       , 0.84147])
    """
    return np.sin(x)


@sin.vjp
def sin_vjp(ct: Tensor, _: None, x: Tensor) -> Tensor:
    return ct * cos(x)


@op(cases=UNARY, shape=same, elementwise=True)
def cos(x: Real) -> Array:
    """Cosine of x in radians.

    >>> tg.cos(tg.tensor([0.0, 1.0]))
    Tensor([1.       , 0.54030])
    """
    return np.cos(x)


@cos.vjp
def cos_vjp(ct: Tensor, _: None, x: Tensor) -> Tensor:
    return -(ct * sin(x))


@op(cases=UNARY, shape=same, elementwise=True)
def tanh(x: Real) -> Array:
    """Hyperbolic tangent.

    >>> tg.tanh(tg.tensor([0.0, 1.0]))
    Tensor([0.       , 0.76159])
    """
    return np.tanh(x)


@tanh.vjp
def tanh_vjp(ct: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return ct * (1 - square(y))


@op(cases=UNARY, shape=same, elementwise=True)
def sigmoid(x: Real) -> Array:
    """1 / (1 + exp(-x)), without overflow on either side.

    >>> tg.sigmoid(tg.tensor([0.0, -200.0]))
    Tensor([0.5, 0. ])
    """
    small = np.exp(np.copysign(x, -1))  # of integers without a sign, too
    return np.asarray(np.where(np.less(x, 0), small, 1) / (1 + small))


@sigmoid.vjp
def sigmoid_vjp(ct: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return ct * (y * sigmoid(-x))


@op(cases=UNARY, shape=same, elementwise=True, kernel=kernels.relu)
def relu(x: NonZero) -> Array:
    """max(x, 0); its gradient at zero is 0.

    >>> tg.relu(tg.tensor([1.0, -2.0]))
    Tensor([1., 0.])
    """
    return np.maximum(x, 0)


@relu.vjp
def relu_vjp(ct: Tensor, _: None, x: Tensor) -> Tensor:
    return relu_pullback(ct, x)


@op(cases=[case("(m,n),(m,n)"), case("(),()")], shape=broadcast, elementwise=True, kernel=kernels.relu_pullback)
def relu_pullback(ct: Real, x: NonZero) -> Array:
    """ct where x > 0, else 0: the cotangent of x in relu.

    >>> from tinygrad_wn.ops.elementwise import relu_pullback
    >>> relu_pullback(tg.tensor([3.0, 3.0]), tg.tensor([1.0, -2.0]))
    Tensor([3., 0.])
    """
    return np.where(np.greater(x, 0), ct, np.zeros((), np.result_type(ct, x)))


@relu_pullback.vjp
def relu_pullback_vjp(cts: Tensor, _: None, ct: Tensor, x: Tensor) -> Any:
    return relu_pullback(cts, x), None


@op(cases=UNARY, shape=same, elementwise=True)
def softplus(x: Real) -> Array:
    """log(1 + exp(x)), without overflow for large x.

    >>> tg.softplus(tg.tensor([0.0, 100.0]))
    Tensor([  0.69315, 100.       ])
    """
    return np.logaddexp(x, 0)


@softplus.vjp
def softplus_vjp(ct: Tensor, _: None, x: Tensor) -> Tensor:
    return ct * sigmoid(x)


@op(cases=UNARY, shape=same, elementwise=True, kernel=kernels.erf)
def erf(x: Real) -> Array:
    """Error function, 2/√π · ∫₀ˣ exp(-t²) dt. NumPy has none: the definition asks Python's for each entry.

    >>> tg.erf(tg.tensor([0.0, 1.0]))
    Tensor([0.       , 0.84270])
    """
    values = np.asarray(x)
    dtype = values.dtype if values.dtype.kind == "f" else np.float64
    return np.array([math.erf(one) for one in values.ravel()], dtype).reshape(values.shape)


@erf.vjp
def erf_vjp(ct: Tensor, _: None, x: Tensor) -> Tensor:
    return ct * (2 / math.sqrt(math.pi)) * exp(-square(x))
