"""Public functions that are composed of ops, or that give an op the signature users know."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ShapeError, ValueRangeError
from .op import OPS
from .operators import HERE, index_arrays
from .ops import arithmetic, comparison, elementwise, linear, norm, reductions, structural
from .shapes import other_axes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .domains import Axis
    from .tensor import Tensor


def concat(arrays: Sequence[Any], axis: int = 0) -> Tensor:
    """Join tensors along an axis that they have; all other sizes must be equal.

    >>> tg.concat([tg.tensor([[1.0]]), tg.tensor([[2.0]])], axis=1)
    Tensor([[1., 2.]])
    """
    return structural.concatenate(*arrays, axis=axis)


def stack(arrays: Sequence[Any], axis: int = 0) -> Tensor:
    """Join tensors of one shape along a new axis.

    >>> tg.stack([tg.tensor([1.0, 2.0]), tg.tensor([3.0, 4.0])], axis=1)
    Tensor([[1., 3.],
            [2., 4.]])
    """
    return structural.concatenate(*(structural.expand_dims(x, axis=axis) for x in arrays), axis=axis)


def take(x: Any, indices: Any, axis: int = 0) -> Tensor:
    """Entries of `x` at integer `indices` along `axis`; negative ones count from the end.

    A mask is the places where it is true. Raises ShapeError for one with several axes.

    >>> tg.take(tg.tensor([10.0, 20.0, 30.0]), tg.tensor([2, 0, 2]))
    Tensor([30., 10., 30.])
    """
    places, *more = index_arrays(indices)
    if more:
        facts = {"mask": list(np.asarray(indices).shape)}
        raise ShapeError("take: a mask must have one axis", facts, hint="x[mask] takes one with several axes")
    front = (slice(None),) * axis if axis >= 0 else (Ellipsis,)
    back = () if axis >= 0 else (slice(None),) * (-1 - axis)
    return structural.index(x, places, key=(*front, HERE, *back))


ZERO = {
    "raise": "an error",
    "zero": "w is 0 there, and so are derivatives of every order",
    "nan": "w is NaN there, and so are derivatives",
}
"""What may be done about a slice of v with norm 0, which has no direction."""


def check_zero(name: str, zero: object) -> None:
    """Raise ValueRangeError unless `zero` is one of `ZERO`."""
    if not isinstance(zero, str) or zero not in ZERO:
        facts = {"given": repr(zero)} | {f'"{one}"': meaning for one, meaning in ZERO.items()}
        hint = f"zero is one of {', '.join(map(repr, ZERO))}"
        raise ValueRangeError(f"{name}: there is no such policy for a slice of norm 0", facts, hint=hint)


def weight_norm(v: Any, g: Any, axis: Axis = 0, *, fused: bool = True, zero: str = "raise") -> Tensor:
    """w = g v / ‖v‖, equation 2 of arXiv 1602.07868: each slice of `v` gets length |g|.

    `axis` is the axis (or tuple of axes) that keeps its own g; None is one g for the whole of v. g has as many axes as
    v, of size 1 where it is shared: for a weight (out, in), axis=0 and g (out, 1). `fused=False` composes the same from
    primitive ops. `zero` is what happens where a slice of v is zero, in compiled steps and all derivatives as well:
    "raise" a ZeroNormError; "zero" makes w 0 there, with all its derivatives; "nan" makes w and its derivatives NaN.
    Other slices are the same to the last bit. Raises ShapeError for another shape of g, ValueRangeError for another
    `zero`.

    >>> v, g = tg.tensor([[3.0, 4.0]], requires_grad=True), tg.tensor([[10.0]], requires_grad=True)
    >>> tg.weight_norm(v, g, fused=False).sum().gradient(v, g)
    (Tensor([[ 0.32, -0.24]]), Tensor([[1.4]]))
    >>> tg.weight_norm(tg.tensor([[0.0, 0.0], [3.0, 4.0]]), tg.tensor([[1.0], [10.0]]), zero="zero")
    Tensor([[0., 0.],
            [6., 8.]])
    """
    if zero != "raise":
        return _without_zeros(v, g, axis, fused, zero)
    if fused:
        return norm.weight_norm(v, g, axis=axis)
    v, g = (x if hasattr(x, "_data") else structural.stop_gradient(x) for x in (v, g))
    norm.weight_norm.result_shape([v.shape, g.shape], {"axis": axis})
    rest = other_axes(axis, v.ndim)
    wide = structural.astype(v, dtype=np.float64)
    unit = norm.ldexp(wide, -norm.exponent(v, axis=rest))  # of v itself, which is how an error finds its layer
    length = elementwise.sqrt(reductions.sum(elementwise.square(unit), axis=rest, keepdims=True))
    dtype = np.result_type(v.dtype, g.dtype, np.float32)
    return structural.astype(structural.astype(g, dtype=np.float64) * (unit / length), dtype=dtype)


def _without_zeros(v: Any, g: Any, axis: Axis, fused: bool, zero: str) -> Tensor:
    """w by a policy: ones stand for slices of norm 0 on the way, and no derivative passes through `where` to them.

    So the ops and kernels meet nothing unusual, and other slices the arithmetic that they always meet.
    """
    check_zero("weight_norm", zero)
    v, g = (x if hasattr(x, "_data") else structural.stop_gradient(x) for x in (v, g))
    norm.weight_norm.result_shape([v.shape, g.shape], {"axis": axis})
    where = arithmetic.where
    none = comparison.equal(comparison.any(v, axis=other_axes(axis, v.ndim), keepdims=True), False)
    factor: Any = None
    if zero == "nan":  # a factor, unlike a value that is put in, makes derivatives NaN too; 1 changes no bit
        factor = structural.astype(where(none, math.nan, 1.0), dtype=np.float32)
        v, g = v * factor, g * factor
    v, g = where(none, 1.0, v), where(none, 1.0, g)
    w = where(none, 0.0, weight_norm(v, g, axis, fused=fused) if v._data.size else v * g)
    return w if factor is None else w * factor


def weight_norm_linear(x: Any, v: Any, g: Any, bias: Any = None, *, zero: str = "raise") -> Tensor:
    """x·wᵀ + bias with w = g v / ‖v‖ row by row: (…, in), (out, in), (out, 1), (out,) → (…, out).

    The same as `tg.linear(x, tg.weight_norm(v, g, zero=zero), bias)`, equation 2 of arXiv 1602.07868, as one op that
    need not build w; with `zero="zero"` or "nan", which `tg.weight_norm` explains, it is those two. Raises ShapeError
    for shapes that do not fit, ZeroNormError for a row of zeros, ValueRangeError for another `zero`.

    >>> x, v, g = (tg.tensor(values) for values in ([[1.0, 2.0]], [[3.0, 4.0], [0.0, 0.0]], [[10.0], [1.0]]))
    >>> tg.weight_norm_linear(x, v[:1], g[:1])
    Tensor([[22.]])
    >>> tg.weight_norm_linear(x, v, g, zero="zero")
    Tensor([[22.,  0.]])
    """
    if zero == "raise":
        return linear.weight_norm_linear(x, v, g, bias)
    check_zero("weight_norm_linear", zero)
    return linear.linear(x, weight_norm(v, g, zero=zero), bias)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else negative_slope · x.

    >>> tg.leaky_relu(tg.tensor([1.0, -1.0]))
    Tensor([ 1.  , -0.01])
    """
    return OPS["where"](OPS["greater"](x, 0), x, OPS["multiply"](x, negative_slope))


def gelu(x: Any) -> Tensor:
    """x Φ(x) with Φ the normal distribution function (Hendrycks & Gimpel 2016, arXiv 1606.08415), by erf.

    >>> tg.gelu(tg.tensor([0.0, 1.0]))
    Tensor([0.        , 0.8413])
    """
    return OPS["multiply"](OPS["multiply"](x, 0.5), elementwise.erf(OPS["multiply"](x, 1 / math.sqrt(2))) + 1)
