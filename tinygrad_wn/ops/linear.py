"""Layers y = x·wᵀ + bias with a plain weight, or with w = g v / ‖v‖ as one op that need not build w."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import kernels
from ..domains import Array, NonZero, Real, Shape
from ..op import case, op
from ..shapes import Misfit
from .matmul import matmul
from .norm import weight_norm, weight_norm_pullback, weight_norm_second
from .structural import broadcast_to, permute_dims

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..tensor import Tensor


def _layer(x: Shape, weight: Shape, bias: Shape | None, name: str = "weight") -> Shape:
    if len(weight) != 2:
        raise Misfit(f"{name} must be a matrix (out, in)")
    if not x or x[-1] != weight[1]:
        raise Misfit(f"the last axis of x must equal the columns of {name} (out, in)")
    if bias is not None and bias != weight[:1]:
        raise Misfit(f"bias must have one value for each row of {name}")
    return (*x[:-1], weight[0])


def _normalized(x: Shape, v: Shape, g: Shape, bias: Shape | None = None) -> Shape:
    y = _layer(x, v, bias, "v")
    if g != (v[0], 1):
        raise Misfit(f"g must have shape {[v[0], 1]}, one value for each row of v")
    return y


def _pulled(ct: Shape, y: Shape, results: list[Shape], wanted: tuple[bool, ...]) -> tuple[Shape, ...]:
    if ct != y:
        raise Misfit(f"the cotangent must have the shape of the result, {list(y)}")
    if len(wanted) != len(results) or True not in wanted:
        raise Misfit(f"wanted must say of {len(results)} cotangents which to compute, at least one")
    return tuple([shape for shape, asked in zip(results, wanted, strict=True) if asked])


def _rows(x: Any) -> Any:
    """All axes but the last as one."""
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


@op(
    cases=[case("(n,i),(o,i),(o)"), case("(n,i),(o,i)"), case("(i),(o,i),(o)"), case("(l,n,i),(o,i),(o)")],
    shape=_layer,
    kernel=kernels.linear,
)
def linear(x: Real, weight: Real, bias: Real = None) -> Array:
    """x·weightᵀ + bias: (…, in), (out, in), (out,) → (…, out).

    >>> tg.linear(tg.tensor([[1.0, 2.0]]), tg.tensor([[3.0, 4.0]]), tg.tensor([0.5]))
    Tensor([[11.5]])
    """
    y = np.matmul(x, np.transpose(weight))
    return np.asarray(y if bias is None else y + bias)


@linear.vjp
def linear_vjp(ct: Tensor, _: None, x: Tensor, weight: Tensor, bias: Tensor | None, *, asked: list[bool]) -> Any:
    return _placed(linear_pullback(ct, x, weight, wanted=tuple(asked)), asked)


@op(
    cases=[
        case("(n,o),(n,i),(o,i)"),
        case("(o),(i),(o,i)"),
        case("(l,n,o),(l,n,i),(o,i)", wanted=(True, True, False)),
    ],
    shape=lambda ct, x, weight, *, wanted: _pulled(ct, _layer(x, weight, None), [x, weight, weight[:1]], wanted),
    kernel=kernels.linear_pullback,
)
def linear_pullback(
    ct: Real, x: Real, weight: Real, wanted: tuple[bool, ...] = (True, True, True)
) -> tuple[Array, ...]:
    """Cotangents of x, weight and bias of `linear`, those that are `wanted`: ct·weight, ctᵀ·x, and Σ ct over rows.

    >>> from tinygrad_wn.ops.linear import linear_pullback
    >>> one = np.ones((1, 1), "f4")
    >>> linear_pullback(one, np.array([[1.0, 2.0]], "f4"), np.array([[3.0, 4.0]], "f4"))
    (Tensor([[3., 4.]]), Tensor([[1., 2.]]), Tensor([1.]))
    """
    rows = _rows(ct)
    made = (np.matmul(ct, weight), np.matmul(rows.T, _rows(x)), np.sum(rows, axis=0))
    dtype = np.result_type(*made)
    return tuple(np.asarray(one, dtype) for one, asked in zip(made, wanted, strict=True) if asked)


@linear_pullback.vjp
def linear_pullback_vjp(cts: Any, _: Any, ct: Tensor, x: Tensor, weight: Tensor, *, wanted: tuple[bool, ...]) -> Any:
    to_x, to_weight, to_bias = _placed(cts, wanted)
    return (
        lambda: _added(
            None if to_x is None else linear(to_x, weight),
            None if to_weight is None else linear(x, to_weight),
            to_bias,
            like=ct,
        ),
        None if to_weight is None else lambda: matmul(ct, to_weight),
        None if to_x is None else lambda: matmul(permute_dims(_rows(ct), axes=(1, 0)), _rows(to_x)),
    )


def _placed(cts: Any, wanted: Sequence[bool]) -> tuple[Any, ...]:
    """Cotangents at the places of all possible results; None where there was none."""
    given = iter(cts)
    return tuple(next(given) if one else None for one in wanted)


def _added(*terms: Any, like: Tensor) -> Any:
    there = [term for term in terms if term is not None]
    if not there:
        return None
    found = there[0]
    for term in there[1:]:
        found = found + term
    return found if found.shape == like.shape else broadcast_to(found, shape=like.shape)


@op(
    cases=[
        case("(n,i),(o,i),(o,1),(o)"),
        case("(n,i),(o,i),(o,1)"),
        case("(i),(o,i),(o,1),(o)"),
        case("(l,n,i),(o,i),(o,1)"),
    ],
    shape=_normalized,
    kernel=kernels.weight_norm_linear,
)
def weight_norm_linear(x: Real, v: NonZero, g: Real, bias: Real = None) -> Array:
    """x·wᵀ + bias with w = g v / ‖v‖ row by row: (…, in), (out, in), (out, 1), (out,) → (…, out).

    `tg.weight_norm_linear` is this op, with a choice of what a row of zeros is.

    >>> x, v, g = (tg.tensor(values) for values in ([[1.0, 2.0]], [[3.0, 4.0]], [[10.0]]))
    >>> tg.weight_norm_linear(x, v, g)
    Tensor([[22.]])
    """
    y = np.matmul(x, weight_norm.definition(v, g, axis=0).T)
    return np.asarray(y if bias is None else y + bias)


@weight_norm_linear.vjp
def weight_norm_linear_vjp(
    ct: Tensor, _: None, x: Tensor, v: Tensor, g: Tensor, bias: Tensor | None, *, asked: list[bool]
) -> Any:
    return _placed(weight_norm_linear_pullback(ct, x, v, g, wanted=tuple(asked)), asked)


@op(
    cases=[
        case("(n,o),(n,i),(o,i),(o,1)"),
        case("(o),(i),(o,i),(o,1)", wanted=(True, False, True, False)),
        case("(l,n,o),(l,n,i),(o,i),(o,1)", wanted=(True, True, False, True)),
    ],
    shape=lambda ct, x, v, g, *, wanted: _pulled(ct, _normalized(x, v, g), [x, v, g, v[:1]], wanted),
    kernel=kernels.weight_norm_linear_pullback,
)
def weight_norm_linear_pullback(
    ct: Real, x: Real, v: NonZero, g: Real, wanted: tuple[bool, ...] = (True, True, True, True)
) -> tuple[Array, ...]:
    """Cotangents of x, v, g and bias of `weight_norm_linear`, those that are `wanted`.

    ∇x = ct·w; ∇v and ∇g by equation 3 of arXiv 1602.07868 from ∇w = ctᵀ·x; Σ ct over rows.

    >>> from tinygrad_wn.ops.linear import weight_norm_linear_pullback
    >>> ct, x, v, g = (np.array(values, "f4") for values in ([[1.0]], [[1.0, 0.0]], [[3.0, 4.0]], [[5.0]]))
    >>> weight_norm_linear_pullback(ct, x, v, g, wanted=(True, True, True, False))
    (Tensor([[3., 4.]]), Tensor([[ 0.64, -0.48]]), Tensor([[0.6]]))
    """
    rows = _rows(ct)
    dw = np.matmul(rows.T, _rows(x))
    dv, dg = weight_norm_pullback.definition(dw, v, g, axis=0)
    dx = np.matmul(ct, weight_norm.definition(v, g, axis=0))
    made = (dx, dv, dg, np.sum(rows, axis=0))
    dtype = np.result_type(dx, dw, np.float32)
    return tuple(np.asarray(one, dtype) for one, asked in zip(made, wanted, strict=True) if asked)


@weight_norm_linear_pullback.vjp
def weight_norm_linear_pullback_vjp(
    cts: Any, _: Any, ct: Tensor, x: Tensor, v: Tensor, g: Tensor, *, wanted: tuple[bool, ...]
) -> Any:
    """∇w is a node of its own here: what reaches it by ∇v and ∇g, M, goes on to ct and x as in `linear`."""
    to_x, to_v, to_g, to_bias = _placed(cts, wanted)
    w = weight_norm(v, g, axis=0)
    rows = _rows(ct)
    to_w: Any = (None, None)
    if to_x is not None:
        to_w = weight_norm_pullback(matmul(permute_dims(rows, axes=(1, 0)), _rows(to_x)), v, g)
    slopes: tuple[Any, ...] = (None, None, None)
    if to_v is not None or to_g is not None:
        dw = matmul(permute_dims(rows, axes=(1, 0)), _rows(x))
        pair = (np.zeros_like(v._data) if to_v is None else to_v, np.zeros_like(g._data) if to_g is None else to_g)
        slopes = tuple(weight_norm_second(*pair, dw, v, g, axis=0))
    only_bias = to_x is None and slopes[0] is None
    return (
        lambda: _added(
            None if to_x is None else linear(to_x, w),
            None if slopes[0] is None else linear(x, slopes[0]),
            to_bias,
            like=ct,
        ),
        None if slopes[0] is None else lambda: matmul(ct, slopes[0]),
        None if only_bias else lambda: _added(to_w[0], slopes[1], like=v),
        None if only_bias else lambda: _added(to_w[1], slopes[2], like=g),
    )
