"""Elementwise ops of two or three arguments, and what Python's operators need; comparison.py has the comparisons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..domains import Array, Boolean, Distinct, NonZero, Positive, Real
from ..op import case, op
from ..shapes import broadcast
from .comparison import BINARY, bitwise_and, equal, greater, less
from .elementwise import log

if TYPE_CHECKING:
    from ..tensor import Tensor


@op(cases=BINARY, shape=broadcast, elementwise=True)
def add(a: Real, b: Real) -> Array:
    """a + b.

    >>> tg.tensor([1.0, 2.0]) + 3
    Tensor([4., 5.])
    """
    return np.add(a, b)


@add.vjp
def add_vjp(ct: Tensor, _: None, a: Tensor, b: Tensor) -> Any:
    return ct, ct


@op(cases=BINARY, shape=broadcast, elementwise=True)
def subtract(a: Real, b: Real) -> Array:
    """a - b.

    >>> 3 - tg.tensor([1.0, 2.0])
    Tensor([2., 1.])
    """
    return np.subtract(a, b)


@subtract.vjp
def subtract_vjp(ct: Tensor, _: None, a: Tensor, b: Tensor) -> Any:
    return ct, lambda: -ct


@op(cases=BINARY, shape=broadcast, elementwise=True)
def multiply(a: Real, b: Real) -> Array:
    """a · b, entry by entry.

    >>> tg.tensor([1.0, 2.0]) * 3
    Tensor([3., 6.])
    """
    return np.multiply(a, b)


@multiply.vjp
def multiply_vjp(ct: Tensor, _: None, a: Tensor, b: Tensor) -> Any:
    return lambda: ct * b, lambda: ct * a


@op(cases=BINARY, shape=broadcast, elementwise=True)
def divide(a: Real, b: NonZero) -> Array:
    """a / b, entry by entry.

    >>> 6 / tg.tensor([1.0, 2.0])
    Tensor([6., 3.])
    """
    return np.true_divide(a, b)


@divide.vjp
def divide_vjp(ct: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Any:
    return lambda: ct / b, lambda: -(ct * y / b)


@op(cases=BINARY, shape=broadcast, elementwise=True)
def power(a: Positive, b: Real) -> Array:
    """a to the power b. A base of zero has the gradient that the limit from above has; 0**0 counts as constant.

    >>> tg.tensor([2.0, 3.0]) ** 2
    Tensor([4., 9.])
    """
    return np.power(a, b)


@power.vjp
def power_vjp(ct: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Any:
    def to_base() -> Any:
        constant = bitwise_and(equal(a, 0), equal(b, 0))
        return where(constant, 0.0, ct * b * power(a, where(constant, 1.0, b - 1)))

    def to_exponent() -> Any:
        return where(equal(a, 0), 0.0, ct * y * log(where(equal(a, 0), 1.0, a)))

    if isinstance(b, int | float):
        return (lambda: ct * (b * a ** (b - 1))) if b != 0 else None, None
    return to_base, to_exponent


@op(cases=BINARY, shape=broadcast, elementwise=True)
def maximum(a: Distinct, b: Distinct) -> Array:
    """The larger of a and b, entry by entry; NaN wins. Where they are equal each gets half of the gradient.

    >>> tg.maximum(tg.tensor([1.0, 5.0]), 3.0)
    Tensor([3., 5.])
    """
    return np.maximum(a, b)


@maximum.vjp
def maximum_vjp(ct: Tensor, _: None, a: Tensor, b: Tensor) -> Any:
    return lambda: _share(ct, greater(a, b), equal(a, b)), lambda: _share(ct, less(a, b), equal(a, b))


def _share(ct: Tensor, wins: Tensor, tied: Tensor) -> Tensor:
    return where(tied, 0.5 * ct, where(wins, ct, 0.0))


@op(cases=BINARY, shape=broadcast, elementwise=True)
def minimum(a: Distinct, b: Distinct) -> Array:
    """The smaller of a and b, entry by entry; NaN wins. Where they are equal each gets half of the gradient.

    >>> tg.minimum(tg.tensor([1.0, 5.0]), 3.0)
    Tensor([1., 3.])
    """
    return np.minimum(a, b)


@minimum.vjp
def minimum_vjp(ct: Tensor, _: None, a: Tensor, b: Tensor) -> Any:
    return lambda: _share(ct, less(a, b), equal(a, b)), lambda: _share(ct, greater(a, b), equal(a, b))


@op(cases=[case("(m,n),(m,n),(m,n)"), case("(m,1),(n),()"), case("(),(n),(m,n)")], shape=broadcast, elementwise=True)
def where(condition: Boolean, a: Real, b: Real) -> Array:
    """a where the condition holds, else b.

    >>> tg.where(tg.tensor([True, False]), tg.tensor([1.0, 2.0]), 0.0)
    Tensor([1., 0.])
    """
    return np.asarray(np.where(condition, a, b))


@where.vjp
def where_vjp(ct: Tensor, _: None, condition: Tensor, a: Tensor, b: Tensor) -> Any:
    return None, lambda: where(condition, ct, 0.0), lambda: where(condition, 0.0, ct)


@op(cases=[case("(m,n),(m,1),(n)"), case("(n),(),()")], shape=broadcast, elementwise=True)
def clip(x: Distinct, min: Distinct = None, max: Distinct = None) -> Array:
    """x, but at least `min` and at most `max`; either may be None. On a bound the gradient goes to x.

    >>> tg.clip(tg.tensor([-2.0, 0.5, 2.0]), -1.0, 1.0)
    Tensor([-1. ,  0.5,  1. ])
    """
    low = x if min is None else np.maximum(x, min)
    dtype = np.result_type(*(a for a in (x, min, max) if a is not None))
    return np.asarray(low if max is None else np.minimum(low, max), dtype)


@clip.vjp
def clip_vjp(ct: Tensor, _: None, x: Tensor, min: Tensor | None, max: Tensor | None) -> Any:
    above = False if max is None else greater(x if min is None else maximum(x, min), max)
    below = False if min is None else less(x, min)
    return (
        lambda: where(above, 0.0, where(below, 0.0, ct)),
        lambda: where(above, 0.0, where(below, ct, 0.0)),
        lambda: where(above, ct, 0.0),
    )


@op(cases=[case("(m,n),(n)"), case("(),()")], shape=broadcast, elementwise=True)
def remainder(a: Real, b: NonZero) -> Array:
    """a - b·⌊a/b⌋, with the sign of b, as Python's %. Between the jumps its gradients are 1 and -⌊a/b⌋.

    >>> tg.tensor([5.0, -1.0]) % 3
    Tensor([2., 2.])
    """
    return np.remainder(a, b)


@remainder.vjp
def remainder_vjp(ct: Tensor, _: None, a: Tensor, b: Tensor) -> Any:
    return ct, lambda: -(ct * floor_divide(a, b))


@op(cases=BINARY, shape=broadcast, elementwise=True, gradient=False)
def floor_divide(a: Real, b: NonZero) -> Array:
    """⌊a/b⌋, as Python's //. Data: a step has no gradient.

    >>> tg.tensor([5.0, -1.0]) // 3
    Tensor([ 1., -1.])
    """
    return np.floor_divide(a, b)
