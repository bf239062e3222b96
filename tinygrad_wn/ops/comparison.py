"""Ops whose results are data: comparisons, places of extremes, and bits. Nothing here has a gradient."""

from __future__ import annotations

import numpy as np

from ..domains import Array, Axis, Bits, Real
from ..op import case, op
from ..shapes import broadcast, reduced, reduced_nonempty, same

BINARY = [case("(m,n),(m,n)"), case("(m,n),(n)"), case("(m,1),(l,1,n)"), case("(),(n)")]
BITS = [case("(m,n):8,(n):8"), case("():8,(m):8")]


@op(cases=BINARY, shape=broadcast, elementwise=True, gradient=False)
def equal(a: Real, b: Real) -> Array:
    """Whether a = b, entry by entry.

    >>> tg.tensor([1, 2]) == 2
    Tensor([False,  True])
    """
    return np.asarray(np.equal(a, b))


@op(cases=BINARY, shape=broadcast, elementwise=True, gradient=False)
def not_equal(a: Real, b: Real) -> Array:
    """Whether a ≠ b, entry by entry.

    >>> tg.tensor([1, 2]) != 2
    Tensor([ True, False])
    """
    return np.asarray(np.not_equal(a, b))


@op(cases=BINARY, shape=broadcast, elementwise=True, gradient=False)
def less(a: Real, b: Real) -> Array:
    """Whether a < b, entry by entry.

    >>> tg.tensor([1, 2]) < 2
    Tensor([ True, False])
    """
    return np.asarray(np.less(a, b))


@op(cases=BINARY, shape=broadcast, elementwise=True, gradient=False)
def less_equal(a: Real, b: Real) -> Array:
    """Whether a ≤ b, entry by entry.

    >>> tg.tensor([1, 3]) <= 2
    Tensor([ True, False])
    """
    return np.asarray(np.less_equal(a, b))


@op(cases=BINARY, shape=broadcast, elementwise=True, gradient=False)
def greater(a: Real, b: Real) -> Array:
    """Whether a > b, entry by entry.

    >>> tg.tensor([1, 3]) > 2
    Tensor([False,  True])
    """
    return np.asarray(np.greater(a, b))


@op(cases=BINARY, shape=broadcast, elementwise=True, gradient=False)
def greater_equal(a: Real, b: Real) -> Array:
    """Whether a ≥ b, entry by entry.

    >>> tg.tensor([1, 2]) >= 2
    Tensor([False,  True])
    """
    return np.asarray(np.greater_equal(a, b))


@op(cases=BITS, shape=broadcast, elementwise=True, gradient=False)
def bitwise_and(a: Bits, b: Bits) -> Array:
    """Bits that both have; for booleans: and.

    >>> tg.tensor([True, False]) & True
    Tensor([ True, False])
    """
    return np.asarray(np.bitwise_and(a, b))


@op(cases=BITS, shape=broadcast, elementwise=True, gradient=False)
def bitwise_or(a: Bits, b: Bits) -> Array:
    """Bits that either has; for booleans: or.

    >>> tg.tensor([4, 2]) | 1
    Tensor([5, 3])
    """
    return np.asarray(np.bitwise_or(a, b))


@op(cases=BITS, shape=broadcast, elementwise=True, gradient=False)
def bitwise_xor(a: Bits, b: Bits) -> Array:
    """Bits that one of the two has.

    >>> tg.tensor([4, 3]) ^ 1
    Tensor([5, 2])
    """
    return np.asarray(np.bitwise_xor(a, b))


@op(cases=BITS, shape=broadcast, elementwise=True, gradient=False)
def bitwise_left_shift(a: Bits, b: Bits) -> Array:
    """a · 2^b in integers.

    >>> tg.tensor([1, 3]) << 2
    Tensor([ 4, 12])
    """
    return np.asarray(np.left_shift(a, b))


@op(cases=BITS, shape=broadcast, elementwise=True, gradient=False)
def bitwise_right_shift(a: Bits, b: Bits) -> Array:
    """⌊a / 2^b⌋ in integers.

    >>> tg.tensor([4, 12]) >> 2
    Tensor([1, 3])
    """
    return np.asarray(np.right_shift(a, b))


@op(cases=[case("(m,n):8"), case("():8")], shape=same, elementwise=True, gradient=False)
def bitwise_invert(x: Bits) -> Array:
    """The bits that x has not; for booleans: not.

    >>> ~tg.tensor([True, False])
    Tensor([False,  True])
    """
    return np.asarray(np.invert(x))


@op(cases=[case("(m,n)"), case("()")], shape=same, elementwise=True, gradient=False)
def isfinite(x: Real) -> Array:
    """Whether an entry is neither NaN nor infinite.

    >>> tg.isfinite(tg.tensor([1.0, float("inf")]))
    Tensor([ True, False])
    """
    return np.asarray(np.isfinite(x))


@op(cases=[case("(m,n)"), case("()")], shape=same, elementwise=True, gradient=False)
def sign(x: Real) -> Array:
    """-1, 0 or 1, the sign of each entry.

    >>> tg.sign(tg.tensor([-2.0, 0.0, 3.0]))
    Tensor([-1.,  0.,  1.])
    """
    return np.asarray(np.sign(x))


@op(
    cases=[case("(m,n)", axis=1), case("(m,n)", axis=None), case("(m,n)", axis=0, keepdims=True)],
    shape=reduced_nonempty,
    gradient=False,
)
def argmax(x: Real, axis: int | None = None, keepdims: bool = False) -> Array:
    """The first place of the largest value along `axis`, or in all values read in order; int64.

    >>> tg.argmax(tg.tensor([[1.0, 3.0], [5.0, 2.0]]), axis=1)
    Tensor([1, 0])
    """
    return np.asarray(np.argmax(x, axis=axis, keepdims=keepdims))


@op(
    cases=[case("(m,n)", axis=1), case("(l,m,n)", axis=(0, 2)), case("(m,n)", keepdims=True)],
    shape=reduced,
    gradient=False,
)
def all(x: Real, axis: Axis = None, keepdims: bool = False) -> Array:
    """Whether every entry along `axis` is true or not zero.

    >>> tg.all(tg.tensor([[True, False], [True, True]]), axis=1)
    Tensor([False,  True])
    """
    return np.asarray(np.all(x, axis=axis, keepdims=keepdims))


@op(
    cases=[case("(m,n)", axis=1), case("(l,m,n)", axis=(0, 2)), case("(m,n)", keepdims=True)],
    shape=reduced,
    gradient=False,
)
def any(x: Real, axis: Axis = None, keepdims: bool = False) -> Array:
    """Whether some entry along `axis` is true or not zero.

    >>> tg.any(tg.tensor([[False, False], [False, True]]), axis=1)
    Tensor([False,  True])
    """
    return np.asarray(np.any(x, axis=axis, keepdims=keepdims))
