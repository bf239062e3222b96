"""Ops that move values and compute none; adjoint pairs side by side."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..domains import Array, Axis, Integer, Real, Shape
from ..errors import ShapeError
from ..op import case, op
from ..shapes import Misfit, axes_of, same

if TYPE_CHECKING:
    from ..tensor import Tensor

HERE = "array"
"""Marks, in the static part of an index, where an array of the call stands."""


def _resized(shape: Shape, new: Any) -> Shape:
    sizes = (new,) if isinstance(new, int | np.integer) else tuple(new)
    known = math.prod(n for n in sizes if n != -1)
    if sizes.count(-1) == 1 and known and math.prod(shape) % known == 0:
        sizes = tuple(math.prod(shape) // known if n == -1 else n for n in sizes)
    if math.prod(sizes) != math.prod(shape) or min(sizes, default=0) < 0:
        raise Misfit(f"{math.prod(shape)} values do not fill shape {list(sizes)}", "one size may be -1: it is computed")
    return sizes


@op(cases=[case("(m,n)", shape=(-1,)), case("(m,n)", shape=(1, -1, 1))], shape=lambda x, *, shape: _resized(x, shape))
def reshape(x: Real, shape: Any) -> Array:
    """The same values, in order, under another shape; one size may be -1.

    >>> tg.reshape(tg.arange(4), (2, 2))
    Tensor([[0, 1],
            [2, 3]])
    """
    return np.reshape(x, _resized(np.shape(x), shape))


@reshape.vjp
def reshape_vjp(ct: Tensor, _: None, x: Tensor, *, shape: Any) -> Tensor:
    return reshape(ct, shape=x.shape)


def _permuted(shape: Shape, *, axes: Any) -> Shape:
    if axes is None:
        return shape[::-1]
    order = tuple(axes)
    if axes_of(order, len(shape)) != tuple(range(len(shape))):
        raise Misfit("axes must name every axis once")
    return tuple(shape[i] for i in order)


@op(cases=[case("(m,n)", axes=(1, 0)), case("(l,m,n)", axes=(1, -1, 0)), case("(m,n)", axes=None)], shape=_permuted)
def permute_dims(x: Real, axes: Any = None) -> Array:
    """The axes in another order; None reverses them.

    >>> tg.permute_dims(tg.zeros((2, 3, 4)), (2, 0, 1)).shape
    (4, 2, 3)
    """
    return np.transpose(x, axes)


@permute_dims.vjp
def permute_dims_vjp(ct: Tensor, _: None, x: Tensor, *, axes: Any) -> Tensor:
    order = axes if axes is None else tuple(int(i) for i in np.argsort([i % x.ndim for i in axes]))
    return permute_dims(ct, axes=order)


def _squeezed(shape: Shape, *, axis: Axis) -> Shape:
    gone = tuple(i for i, n in enumerate(shape) if n == 1) if axis is None else axes_of(axis, len(shape))
    if any(shape[i] != 1 for i in gone):
        raise Misfit("only axes of size 1 can be squeezed")
    return tuple(n for i, n in enumerate(shape) if i not in gone)


@op(cases=[case("(m,1,n)", axis=1), case("(1,m,1)", axis=None), case("(1,m,1)", axis=(0, -1))], shape=_squeezed)
def squeeze(x: Real, axis: Axis = None) -> Array:
    """Take axes of size 1 away: those named, or all.

    >>> tg.squeeze(tg.zeros((2, 1)), 1).shape
    (2,)
    """
    return np.squeeze(x, axis)


@squeeze.vjp
def squeeze_vjp(ct: Tensor, _: None, x: Tensor, *, axis: Axis) -> Tensor:
    return reshape(ct, shape=x.shape)


def _expanded(shape: Shape, *, axis: Any) -> Shape:
    new = axes_of(axis, len(shape) + (len(axis) if isinstance(axis, tuple) else 1))
    rest = iter(shape)
    return tuple(1 if i in new else next(rest) for i in range(len(shape) + len(new)))


@op(cases=[case("(m,n)", axis=1), case("(m)", axis=(0, -1)), case("()", axis=0)], shape=_expanded)
def expand_dims(x: Real, axis: int | tuple[int, ...] = 0) -> Array:
    """Put in axes of size 1, at the places that `axis` names in the result.

    >>> tg.expand_dims(tg.zeros((2, 3)), -1).shape
    (2, 3, 1)
    """
    return np.expand_dims(x, axis)


@expand_dims.vjp
def expand_dims_vjp(ct: Tensor, _: None, x: Tensor, *, axis: Any) -> Tensor:
    return reshape(ct, shape=x.shape)


def _broadcast(x: Shape, *, shape: Shape) -> Shape:
    wide = tuple(shape)
    if (
        len(x) > len(wide)
        or min(wide, default=0) < 0
        or any(a not in (1, b) for a, b in zip(x[::-1], wide[::-1], strict=False))
    ):
        raise Misfit(f"shape {list(x)} does not broadcast to {list(wide)}")
    return wide


@op(cases=[case("(1,4)", shape=(3, 4)), case("()", shape=(2, 3)), case("(1)", shape=(2, 1, 3))], shape=_broadcast)
def broadcast_to(x: Real, shape: Shape) -> Array:
    """Repeat axes of size 1, and new axes in front, until the shape is `shape`; no copy.

    >>> tg.broadcast_to(tg.tensor([1.0, 2.0]), (2, 2))
    Tensor([[1., 2.],
            [1., 2.]])
    """
    return np.broadcast_to(x, shape)


@broadcast_to.vjp
def broadcast_to_vjp(ct: Tensor, _: None, x: Tensor, *, shape: Shape) -> Tensor:
    return sum_to(ct, shape=x.shape)


def _summed(x: Shape, *, shape: Shape) -> Shape:
    _broadcast(shape, shape=x)
    return tuple(shape)


@op(cases=[case("(m,n)", shape=()), case("(3,n)", shape=(1, 1)), case("(2,3)", shape=(3,))], shape=_summed)
def sum_to(x: Real, shape: Shape) -> Array:
    """Sum over the axes that `broadcast_to` would have repeated: its adjoint.

    >>> from tinygrad_wn.ops.structural import sum_to
    >>> sum_to(tg.tensor([[1.0, 2.0], [3.0, 4.0]]), (2,))
    Tensor([4., 6.])
    """
    extra = np.ndim(x) - len(shape)
    axes = (*range(extra), *(i + extra for i, n in enumerate(shape) if n == 1 and np.shape(x)[i + extra] != 1))
    return np.reshape(np.sum(x, axis=axes, keepdims=True), shape) if axes else np.reshape(x, shape)


@sum_to.vjp
def sum_to_vjp(ct: Tensor, _: None, x: Tensor, *, shape: Shape) -> Tensor:
    return broadcast_to(ct, shape=x.shape)


def _kind(x: Shape, *, dtype: Any) -> Shape:
    if np.dtype(dtype).kind not in "iub" and np.dtype(dtype) not in (np.float32, np.float64):
        raise Misfit(f"{np.dtype(dtype)} is not float32, float64, an integer or boolean dtype")
    return x


@op(cases=[case("(m,n)", dtype="float64"), case("(m)", dtype="float32")], shape=_kind)
def astype(x: Real, dtype: Any) -> Array:
    """The values in another dtype; the gradient goes back in the dtype of `x`.

    >>> tg.astype(tg.tensor([1.7]), "int64")
    Tensor([1])
    """
    return np.asarray(x).astype(dtype, copy=False)


@astype.vjp
def astype_vjp(ct: Tensor, _: None, x: Tensor, *, dtype: Any) -> Tensor:
    return ct


def _joined(*shapes: Shape, axis: int) -> Shape:
    if not shapes:
        raise Misfit("there must be at least one array")
    (at,) = axes_of(axis, len(shapes[0]))
    first = shapes[0][:at] + shapes[0][at + 1 :]
    if any(len(s) != len(shapes[0]) or s[:at] + s[at + 1 :] != first for s in shapes):
        raise Misfit(f"all sizes but those of axis {at} must be equal")
    return (*shapes[0][:at], sum(s[at] for s in shapes), *shapes[0][at + 1 :])


@op(cases=[case("(m,n),(k,n)", axis=0), case("(m,n),(m,k),(m,1)", axis=-1)], shape=_joined)
def concatenate(*arrays: Real, axis: int = 0) -> Array:
    """Join arrays along an axis that they have; `tg.concat` takes them as one list.

    >>> tg.concat([tg.tensor([1.0]), tg.tensor([2.0, 3.0])])
    Tensor([1., 2., 3.])
    """
    return np.concatenate(arrays, axis=axis)


@concatenate.vjp
def concatenate_vjp(ct: Tensor, _: None, *arrays: Tensor, axis: int) -> tuple[Any, ...]:
    front = (slice(None),) * (axis % ct.ndim)
    ends = np.cumsum([0, *(x.shape[axis] for x in arrays)]).tolist()
    keys = [(*front, slice(start, end)) for start, end in itertools.pairwise(ends)]
    return tuple(index(ct, key=key) for key in keys)


def _full_key(key: tuple[Any, ...], arrays: Any) -> tuple[Any, ...]:
    rest = iter(arrays)
    return tuple(next(rest) if part is HERE else part for part in key)


def _selected(x: Shape, *arrays: Shape, key: tuple[Any, ...]) -> Shape:
    zeros = [np.zeros(s, np.int64) for s in arrays]
    try:
        return np.broadcast_to(np.empty(()), x)[_full_key(key, zeros)].shape
    except (IndexError, ValueError) as error:
        raise Misfit(str(error)) from None


@op(
    cases=[
        case("(3,n)", key=(1,)),
        case("(m,3)", key=(Ellipsis, None, slice(None, None, -2))),
        case("(m,n),(k):m", key=(HERE,)),
        case("(m,n),(k):m,(k):n", key=(HERE, HERE)),
        case("(3,m,n),(k,1):n", key=(slice(0, 2), slice(None), HERE)),
    ],
    shape=_selected,
)
def index(x: Real, *arrays: Integer, key: tuple[Any, ...]) -> Array:
    """`x[key]`, with an integer array of `arrays` for each part of `key` that is `HERE`.

    >>> x = tg.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> x[0], x[:, -1], x[[1, 1], [0, 1]], x[x > 2.0]
    (Tensor([1., 2.]), Tensor([2., 4.]), Tensor([3., 4.]), Tensor([3., 4.]))
    """
    try:
        return np.asarray(x[_full_key(key, arrays)])
    except IndexError as error:
        raise ShapeError(f"index: {error}", {"x": list(np.shape(x))}) from None


@index.vjp
def index_vjp(ct: Tensor, _: None, x: Tensor, *arrays: Tensor, key: tuple[Any, ...]) -> tuple[Any, ...]:
    return (scatter(ct, *arrays, key=key, shape=x.shape), *(None for _ in arrays))


@op(
    cases=[
        case("(4)", key=(1,), shape=(3, 4)),
        case("(k),(k):3", key=(HERE,), shape=(3,)),
        case("(k,1,2),(k,1):3", key=(HERE, slice(0, 2)), shape=(3, 4)),
    ],
    shape=lambda x, *arrays, key, shape: tuple(shape),
)
def scatter(x: Real, *arrays: Integer, key: tuple[Any, ...], shape: Shape) -> Array:
    """Zeros of `shape` with the values of `x` added at `[key]`: the adjoint of `index`; equal places add up.

    >>> from tinygrad_wn.ops.structural import HERE, scatter
    >>> scatter(tg.tensor([1.0, 2.0, 4.0]), np.array([0, 2, 2]), key=(HERE,), shape=(3,))
    Tensor([1., 0., 6.])
    """
    result = np.zeros(shape, np.asarray(x).dtype)
    if arrays:
        np.add.at(result, _full_key(key, arrays), x)
    else:
        result[key] = x
    return result


@scatter.vjp
def scatter_vjp(ct: Tensor, _: None, x: Tensor, *arrays: Tensor, key: Any, shape: Shape) -> tuple[Any, ...]:
    return (index(ct, *arrays, key=key), *(None for _ in arrays))


@op(cases=[case("(m,n)"), case("()")], shape=same, gradient=False, elementwise=True)
def stop_gradient(x: Real) -> Array:
    """The values of `x` as data: no gradient flows back, in any order.

    >>> x = tg.tensor(3.0, requires_grad=True)
    >>> (x * tg.stop_gradient(x)).gradient(x)
    (Tensor(3.),)
    """
    return np.asarray(x)
