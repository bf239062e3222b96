"""Matrix products."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import kernels
from ..domains import Array, Real, Shape
from ..op import case, op
from ..shapes import Misfit, broadcast
from .structural import permute_dims, reshape

if TYPE_CHECKING:
    from ..tensor import Tensor


def _product(a: Shape, b: Shape) -> Shape:
    if len(a) == len(b) == 2 and a[1] == b[0]:
        return a[0], b[1]
    if not a or not b:
        raise Misfit("a matrix product needs vectors, matrices or stacks of them", "multiply by a number with *")
    if a[-1] != b[0 if len(b) == 1 else -2]:
        fits = len(b) > 1 and a[-1] == b[-1]
        raise Misfit("columns of a must equal rows of b", "b with its last two axes swapped would fit" if fits else "")
    return (*broadcast(a[:-2], b[:-2]), *a[-2:-1], *(b[-1:] if len(b) > 1 else ()))


@op(
    cases=[
        case("(m,k),(k,n)"),
        case("(k),(k)"),
        case("(m,k),(k)"),
        case("(k),(k,n)"),
        case("(l,m,k),(k,n)"),
        case("(m,k),(l,k,n)"),
        case("(l,1,m,k),(3,k,n)"),
        case("(l,m,k),(k)"),
        case("(k),(l,k,n)"),
    ],
    shape=_product,
    kernel=kernels.matmul,
)
def matmul(a: Real, b: Real) -> Array:
    """Matrix product of vectors, matrices, or stacks of matrices, by NumPy's rules: (m, k), (k, n) → (m, n).

    >>> tg.tensor([[1.0, 2.0]]) @ tg.tensor([[3.0], [4.0]])
    Tensor([[11.]])
    """
    return np.asarray(np.matmul(a, b))


@matmul.vjp
def matmul_vjp(ct: Tensor, _: None, a: Tensor, b: Tensor) -> Any:
    if a.ndim == b.ndim == 2:
        return lambda: matmul(ct, _swapped(b)), lambda: matmul(_swapped(a), ct)
    left = reshape(a, shape=(1, *a.shape)) if a.ndim == 1 else a
    right = reshape(b, shape=(*b.shape, 1)) if b.ndim == 1 else b
    stack = ct.shape[: ct.ndim - (a.ndim > 1) - (b.ndim > 1)]
    ct = reshape(ct, shape=(*stack, left.shape[-2], right.shape[-1]))

    def to_left() -> Tensor:
        found = matmul(ct, _swapped(right))
        return reshape(found, shape=(*found.shape[:-2], found.shape[-1])) if a.ndim == 1 else found

    def to_right() -> Tensor:
        found = matmul(_swapped(left), ct)
        return reshape(found, shape=found.shape[:-1]) if b.ndim == 1 else found

    return to_left, to_right


def _swapped(x: Tensor) -> Tensor:
    return permute_dims(x, axes=(*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))
