"""Lengths, and weight normalization w = g v / ‖v‖ (Salimans & Kingma 2016, arXiv 1602.07868) as one fused op.

Each slice of v is first scaled by a power of two. That rounds nothing, no square leaves the range, and as w does not
depend on the length of v, it stays the same bit for bit. Sums and differences run in float64 and are rounded once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import kernels
from ..domains import Array, Axis, Integer, NonZero, Real, Shape, float_of
from ..errors import zero_norm
from ..op import case, op
from ..shapes import Misfit, axes_of, broadcast, other_axes, reduced
from .arithmetic import where
from .comparison import equal
from .reductions import sum as total
from .structural import astype

if TYPE_CHECKING:
    from ..tensor import Tensor

FLOAT64 = np.float64


def _leveled(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """2⁻ᵉx with entries below 1, and e of each slice over `axes`, which stay with size 1."""
    wide = np.asarray(x, FLOAT64)
    e = np.frexp(np.max(np.abs(wide), axis=axes, keepdims=True, initial=0.0))[1]
    return np.ldexp(wide, -e), e


def _scaled(v: Array, axes: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """v̂ = 2⁻ᵉv with entries below 1, its norm over `axes`, and e; reduced axes stay with size 1."""
    unit, e = _leveled(v, axes)
    return unit, np.sqrt(np.sum(unit * unit, axis=axes, keepdims=True)), e


def lengths(v: Array, axes: tuple[int, ...]) -> Array:
    """Norms over `axes` in float64, which stay with size 1."""
    _, norm, e = _scaled(v, axes)
    return np.asarray(np.ldexp(norm, e))


@op(
    cases=[case("(m,n)", axis=1), case("(m,n)"), case("(l,m,n)", axis=(0, 2), keepdims=True), case("()")],
    shape=reduced,
    kernel=kernels.vector_norm,
)
def vector_norm(x: NonZero, axis: Axis = None, keepdims: bool = False) -> Array:
    """Euclidean norm √Σx² over `axis`, right to the last bits from the smallest to the largest number.

    The gradient of a zero vector counts as 0, in every order.

    >>> tg.linalg.vector_norm(tg.tensor([[3e20, 4e20], [3e-30, 4e-30]]), axis=1)
    Tensor([5.e+20, 5.e-30])
    """
    found = lengths(x, axes_of(axis, np.ndim(x)))
    return found.reshape(reduced(np.shape(x), axis=axis, keepdims=keepdims)).astype(float_of(x))


@vector_norm.vjp
def vector_norm_vjp(ct: Tensor, y: Tensor, x: Tensor, *, axis: Axis, keepdims: bool) -> Tensor:
    y, ct = (t.reshape(reduced(x.shape, axis=axis, keepdims=True)) for t in (y, ct))
    zero = equal(y, 0)
    return where(zero, 0.0, ct * (x / where(zero, 1.0, y)))


@op(
    cases=[case("(m,n)", axis=1), case("(l,m,n)", axis=(0, 2)), case("(n)")],
    shape=lambda v, *, axis: reduced(v, axis=axis, keepdims=True),
    gradient=False,
)
def exponent(v: NonZero, axis: Axis = None) -> Array:
    """The power of two e with max|v| = m·2ᵉ, ½ ≤ m < 1, of each slice over `axis`; int32. Zero slices raise.

    It is part of the composed weight normalization, whose name an error has.

    >>> from tinygrad_wn.ops.norm import exponent
    >>> exponent(tg.tensor([3.0, 4.0]))
    Tensor([3], dtype=int32)
    """
    top = np.max(np.abs(v), axis=axis, keepdims=True, initial=0)
    if not top.all():
        raise zero_norm("weight_norm", v, top == 0)
    return np.frexp(top)[1].astype(np.int32)


@op(cases=[case("(m,n),(m,n):9"), case("(m,n),(m,1):9"), case("(),(n):9")], shape=broadcast, elementwise=True)
def ldexp(x: Real, e: Integer) -> Array:
    """x · 2ᵉ, exact wherever the result is a normal number.

    >>> from tinygrad_wn.ops.norm import ldexp
    >>> ldexp(tg.tensor([1.0, 3.0]), tg.tensor([4, -1]))
    Tensor([16. ,  1.5])
    """
    return np.asarray(np.ldexp(x, e))


@ldexp.vjp
def ldexp_vjp(ct: Tensor, _: None, x: Tensor, e: Tensor) -> Any:
    return ldexp(ct, e), None


def g_shape(v: Shape, axis: Axis) -> Shape:
    """The shape of g for a v of shape `v`: its size on each axis that keeps its own g, 1 on all others."""
    rest = other_axes(axis, len(v))
    return tuple(1 if i in rest else n for i, n in enumerate(v))


def _weight_shape(v: Shape, g: Shape, *, axis: Axis) -> Shape:
    if g != (expected := g_shape(v, axis)):
        raise Misfit(f"g must have shape {list(expected)}", "g has as many axes as v, with size 1 where it is shared")
    return v


def _pullback_shape(ct: Shape, v: Shape, g: Shape, *, axis: Axis) -> tuple[Shape, Shape]:
    if ct != v:
        raise Misfit("the cotangent must have the shape of v")
    return _weight_shape(v, g, axis=axis), g


def _direction(name: str, v: Array, axis: Axis) -> tuple[Array, Array, Array]:
    """u = v/‖v‖, ‖v̂‖ and e of each slice."""
    unit, norm, e = _scaled(v, other_axes(axis, np.ndim(v)))
    if not norm.all():
        raise zero_norm(name, v, norm == 0)
    return unit / norm, norm, e


@op(
    cases=[
        case("(o,i),(o,1)", axis=0),
        case("(o,i),(1,i)", axis=1),
        case("(o,i),(1,1)", axis=None),
        case("(n),(n)", axis=-1),
        case("(n),(1)", axis=None),
        case("(l,m,n),(l,1,n)", axis=(0, -1)),
        case("(k,l,m,n),(1,l,1,1)", axis=1),
        case("(m,n),(m,n)", axis=(0, 1)),
    ],
    shape=_weight_shape,
    kernel=kernels.weight_norm,
)
def weight_norm(v: NonZero, g: Real, axis: Axis = 0) -> Array:
    """Stretch each slice of v to length g: w = g v / ‖v‖, equation 2 of arXiv 1602.07868.

    `tg.weight_norm` is this op, with the choice of a composed form.

    >>> tg.weight_norm(tg.tensor([[3.0, 4.0], [0.0, 2.0]]), tg.tensor([[10.0], [1.0]]))
    Tensor([[6., 8.],
            [0., 1.]])
    """
    u, _, _ = _direction("weight_norm", v, axis)
    return np.asarray(g * u).astype(float_of(v, g))


@weight_norm.vjp
def weight_norm_vjp(ct: Tensor, _: None, v: Tensor, g: Tensor, *, axis: Axis) -> Any:
    return tuple(weight_norm_pullback(ct, v, g, axis=axis))


@op(
    cases=[
        case("(o,i),(o,i),(o,1)", axis=0),
        case("(o,i),(o,i),(1,i)", axis=-1),
        case("(n),(n),(1)", axis=None),
        case("(l,m,n),(l,m,n),(l,1,n)", axis=(0, 2)),
    ],
    shape=_pullback_shape,
    kernel=kernels.weight_norm_pullback,
)
def weight_norm_pullback(ct: Real, v: NonZero, g: Real, axis: Axis = 0) -> tuple[Array, Array]:
    """∇v and ∇g of weight_norm for a cotangent ∇w: equation 3 of arXiv 1602.07868, in one pass.

    ∇g = ∇w·v/‖v‖ and ∇v = (g/‖v‖)∇w - (g∇g/‖v‖²)v, written as (g/‖v‖)(∇w - ∇g u) with u = v/‖v‖.

    >>> from tinygrad_wn.ops.norm import weight_norm_pullback
    >>> one = np.ones((1, 1), "f4")
    >>> weight_norm_pullback(np.array([[1.0, 0.0]], "f4"), np.array([[3.0, 4.0]], "f4"), 5 * one)
    (Tensor([[ 0.64, -0.48]]), Tensor([[0.6]]))
    """
    u, norm, e = _direction("weight_norm_pullback", v, axis)
    rest, dtype = other_axes(axis, np.ndim(v)), float_of(ct, v, g)
    (level, e_ct), (m, e_g) = _leveled(ct, rest), np.frexp(g)
    along = np.sum(level * u, axis=rest, keepdims=True)
    dv = np.ldexp(m * ((level - along * u) / norm), e_g + e_ct - e)
    return dv.astype(dtype), np.ldexp(along, e_ct).astype(dtype)


@weight_norm_pullback.vjp
def weight_norm_pullback_vjp(cts: Any, _: Any, ct: Tensor, v: Tensor, g: Tensor, *, axis: Axis) -> Any:
    a, b = cts
    return tuple(weight_norm_second(a, b, ct, v, g, axis=axis))


def _second_shape(a: Shape, b: Shape, ct: Shape, v: Shape, g: Shape, *, axis: Axis) -> tuple[Shape, Shape, Shape]:
    if a != v or b != g:
        raise Misfit("the cotangents must have the shapes of v and of g")
    _pullback_shape(ct, v, g, axis=axis)
    return v, v, g


@op(
    cases=[
        case("(o,i),(o,1),(o,i),(o,i),(o,1)", axis=0),
        case("(o,i),(1,i),(o,i),(o,i),(1,i)", axis=-1),
        case("(n),(1),(n),(n),(1)", axis=None),
        case("(l,m,n),(l,1,n),(l,m,n),(l,m,n),(l,1,n)", axis=(0, 2)),
    ],
    shape=_second_shape,
    kernel=kernels.weight_norm_second,
)
def weight_norm_second(a: Real, b: Real, ct: Real, v: NonZero, g: Real, axis: Axis = 0) -> tuple[Array, Array, Array]:
    """Cotangents of ∇w, v and g in `weight_norm_pullback`, for cotangents a of ∇v and b of ∇g.

    They are the gradient of S = ⟨a, ∇v⟩ + ⟨b, ∇g⟩. With u = v/‖v‖, P = 1 - u uᵀ, A = P a/‖v‖ and C = P ∇w/‖v‖,
    equation 3 is ∇v = g C and ∇g = u·∇w, so S = (g/‖v‖)(a·∇w - (u·a)(u·∇w)) + b (u·∇w).
    The norm is no constant: ∂‖v‖/∂v = u, and ∂(u·x)/∂v = P x/‖v‖. Hence

    ∂S/∂∇w = g A + b u, ∂S/∂g = ‖v‖ A·C, ∂S/∂v = b C - g ((A·C) u + (u·a/‖v‖) C + (u·∇w/‖v‖) A).

    >>> from tinygrad_wn.ops.norm import weight_norm_second
    >>> one, v = np.ones((1, 1), "f4"), np.array([[3.0, 4.0]], "f4")
    >>> weight_norm_second(np.array([[1.0, 0.0]], "f4"), 0 * one, np.array([[0.0, 1.0]], "f4"), v, 5 * one)[2]
    Tensor([[-0.096]])
    """
    u, norm, e = _direction("weight_norm_second", v, axis)
    rest, dtype = other_axes(axis, np.ndim(v)), float_of(a, b, ct, v, g)
    (a, e_a), (ct, e_ct), (m_b, e_b), (m_g, e_g) = _leveled(a, rest), _leveled(ct, rest), np.frexp(b), np.frexp(g)
    along_a, along_ct = (np.sum(x * u, axis=rest, keepdims=True) for x in (a, ct))
    across_a, across_ct = (a - along_a * u) / norm, (ct - along_ct * u) / norm
    both = np.sum(across_a * across_ct, axis=rest, keepdims=True)
    bent = both * u + (along_a / norm) * across_ct + (along_ct / norm) * across_a
    to_v = np.ldexp(m_b * across_ct, e_b + e_ct - e) - np.ldexp(m_g * bent, e_g + e_a + e_ct - 2 * e)
    return (
        (np.ldexp(m_g * across_a, e_g + e_a - e) + b * u).astype(dtype),
        to_v.astype(dtype),
        np.ldexp(norm * both, e_a + e_ct - e).astype(dtype),
    )


@weight_norm_second.vjp
def weight_norm_second_vjp(
    cts: Any, _: Any, a: Tensor, b: Tensor, ct: Tensor, v: Tensor, g: Tensor, *, axis: Axis
) -> Any:
    """Walk back through the formulas above, in float64: A and C are pullbacks, so their vjp is this op again."""
    p, q, r, a, b, ct, v, g = (astype(t, dtype=FLOAT64) for t in (*cts, a, b, ct, v, g))
    one, rest = np.ones(g.shape), other_axes(axis, v.ndim)

    def along(x: Tensor, y: Tensor) -> Tensor:
        return total(x * y, axis=rest, keepdims=True)

    across_a, along_a = weight_norm_pullback(a, v, one, axis=axis)
    across_ct, along_ct = weight_norm_pullback(ct, v, one, axis=axis)
    u, norm = weight_norm(v, one, axis=axis), vector_norm(v, axis=rest, keepdims=True)
    qu, by_a, by_ct = along(q, u), along(q, across_a) / norm, along(q, across_ct) / norm
    both = along(across_a, across_ct)
    to_across_a = g * (p - qu * across_ct - along_ct / norm * q)
    to_across_ct = (b - g * along_a / norm) * q - g * qu * across_a + r * a
    from_a = weight_norm_second(to_across_a, -g * by_ct, a, v, one, axis=axis)
    from_ct = weight_norm_second(to_across_ct, -g * by_a, ct, v, one, axis=axis)
    to_norm = g * (along_a * by_ct + along_ct * by_a) / norm
    to_v = from_a[1] + from_ct[1] + to_norm * u + weight_norm_pullback(b * p - g * both * q, v, one, axis=axis)[0]
    to_g = along(p, across_a) - along_a * by_ct - both * qu - along_ct * by_a
    return from_a[0] + r * across_ct, along(p, u) + norm * by_ct, from_ct[0], to_v, to_g
