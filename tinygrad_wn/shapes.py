"""Shape rules: shapes in, the shape of the result out, or a `Misfit` that the op turns into a full ShapeError."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .domains import Axis, Shape


class Misfit(Exception):
    """Shapes that do not fit: `what` is wrong, and a `hint` that says what to do."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what, self.hint = what, hint


def axes_of(axis: Axis, ndim: int) -> tuple[int, ...]:
    """All axes that `axis` names, counted from the front and sorted; None names every axis.

    >>> axes_of(-1, 3), axes_of((1, 0), 3), axes_of(None, 2)
    ((2,), (0, 1), (0, 1))
    """
    if axis is None:
        return tuple(range(ndim))
    given = axis if isinstance(axis, tuple) else (axis,)
    for one in given:
        if not isinstance(one, int | np.integer) or isinstance(one, bool):
            raise Misfit(f"axis must be an integer, a tuple of integers or None, not {axis!r}")
        if not -ndim <= one < ndim:
            raise Misfit(f"axis {one} is out of range", f"an axis runs from {-ndim} to {ndim - 1}" if ndim else "")
    found = sorted(one % ndim for one in given)
    if len(set(found)) < len(found):
        raise Misfit(f"axis {axis} names one axis twice")
    return tuple(found)


def other_axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    """The axes that `axis` does not name; none is named by None.

    >>> other_axes(0, 3), other_axes(None, 2)
    ((1, 2), (0, 1))
    """
    kept = () if axis is None else axes_of(axis, ndim)
    return tuple(i for i in range(ndim) if i not in kept)


def same(shape: Shape, **_params: Any) -> Shape:
    """The shape of the only input."""
    return shape


def broadcast(*shapes: Shape | None, **_params: Any) -> Shape:
    """The common shape by NumPy's rules; inputs that are not there do not count."""
    try:
        return np.broadcast_shapes(*(shape for shape in shapes if shape is not None))
    except ValueError:
        raise Misfit(
            "shapes do not broadcast", "sizes, read from the last axis, must be equal or one of them 1"
        ) from None


def reduced(shape: Shape, *, axis: Axis = None, keepdims: bool = False, **_params: Any) -> Shape:
    """What a sum along `axis` leaves."""
    gone = axes_of(axis, len(shape))
    if keepdims:
        return tuple(1 if i in gone else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in gone)


def reduced_nonempty(shape: Shape, *, axis: Axis = None, keepdims: bool = False, **_params: Any) -> Shape:
    """What a maximum along `axis` leaves; there is no maximum of nothing."""
    if any(shape[i] == 0 for i in axes_of(axis, len(shape))):
        raise Misfit("an axis of size 0 has no such value", "leave out empty arrays, or reduce along another axis")
    return reduced(shape, axis=axis, keepdims=keepdims)
