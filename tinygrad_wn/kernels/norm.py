"""Norms and weight normalization, slice by slice, with sums in float64.

A slice v is measured at any scale (`measure.py`), and w does not change with the length of v.
Slices are the rows of a matrix, or its columns; another layout is copied into one first, which pays while it is small.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..domains import Array, Axis
from ..errors import zero_norm
from ..shapes import axes_of, other_axes
from .columns import norm_columns, normalize_columns, pull_back_columns
from .each_row import LARGE, MEDIUM, NEAR_ONE
from .equation_3 import pull_back_rows
from .jit import kernel, parallel_kernel, prange
from .layouts import AnyLayout
from .measure import ROWS, measure, measure_inverse, power_and_factor, rows_at_once, split, within
from .memory import writes
from .room import near
from .rows import row_stretched, row_stretched_near
from .threads import parts
from .vector import row_scaled, size_of

AT_ONCE, IN_TWO = 2, 1
"""Ways to stretch a row of float32 without float64: by one factor, or by a scale and then a factor."""

WORTH_THREADS = 1 << 18
"""Numbers from which a second thread pays: 1.8 times as fast at (1024, 1024)."""


@kernel
def _norm_rows(n: Any, v: Any) -> Any:
    many = rows_at_once(v)
    room = near(np.float64)
    scale, length = room[:many], room[many : 2 * many]
    for first in range(0, v.shape[0], many):
        block = v[first : first + many]
        measure(scale, length, block)
        for i in range(block.shape[0]):
            n[first + i, 0] = length[i] / scale[i]


@kernel
def _way(scale: Any, factor: Any, both: Any, count: Any) -> Any:
    """How rows of float32 may be stretched; 0: only in float64."""
    if not within(factor, count, -NEAR_ONE, NEAR_ONE) or not within(scale, count, -LARGE, LARGE):
        return 0
    return AT_ONCE if within(both, count, -MEDIUM, MEDIUM) else IN_TWO


@kernel
def _stretched(w: Any, scale: Any, length: Any, v: Any, g: Any) -> None:
    """Rows of w from those of v, no more than ROWS, and what was measured of them."""
    count, room, pair = v.shape[0], near(np.float64), near(v)
    factor, both = room[:ROWS], room[ROWS : 2 * ROWS]
    high, low = pair[:ROWS], pair[ROWS : 2 * ROWS]
    for i in range(count):
        factor[i] = g[i, 0] / length[i]
        both[i] = factor[i] * scale[i]
    way = _way(scale, factor, both, count) if size_of(v) == 4 else 0
    if way == AT_ONCE:
        split(high, low, both, count)
    for i in range(count):
        to, start = w.ctypes.data + i * w.strides[0], v.ctypes.data + i * v.strides[0]
        by, own = v.dtype.type(scale[i]), way
        if way != AT_ONCE and size_of(v) == 4:  # its bits must not depend on the rows beside it
            own = _way(scale[i:], factor[i:], both[i:], 1)
            split(high[i:], low[i:], both[i:] if own == AT_ONCE else factor[i:], 1)
        if own == AT_ONCE:
            row_stretched_near(v, to, start, by, high[i], low[i], v.shape[1])
        elif own == IN_TWO:
            row_stretched(v, to, start, by, high[i], low[i], v.shape[1])
        elif abs(factor[i]) < math.inf:
            row_scaled(v, to, start, scale[i], factor[i], v.shape[1])
        else:  # a large g over the length of a subnormal row
            row_scaled(v, to, start, scale[i], 1.0 / length[i], v.shape[1])
            row_scaled(v, to, to, 1.0, g[i, 0], v.shape[1])


@kernel
def normalize_rows(w: Any, kept: Any, v: Any, g: Any) -> Any:
    """Rows of w, and in `kept` the scale and the length of each row of v; 1 where there is a row of zeros."""
    if measure(kept[0], kept[1], v):
        return 1
    for i in range(0, v.shape[0], ROWS):
        j = min(i + ROWS, v.shape[0])
        _stretched(w[i:j], kept[0, i:j], kept[1, i:j], v[i:j], g[i:j])
    return 0


@kernel
def _normalize_rows(w: Any, v: Any, g: Any) -> Any:
    many = rows_at_once(v)
    kept = near(np.float64)[: 2 * many].reshape(2, many)
    for i in range(0, v.shape[0], many):
        j = min(i + many, v.shape[0])
        if normalize_rows(w[i:j], kept[:, : j - i], v[i:j], g[i:j]):
            return 1
    return 0


@kernel
def set_scales(scales: Any, first: Any, scale: Any, inverse: Any, g: Any) -> Any:
    """What multiplies each row of v to give that row of w: a power of two, then a factor."""
    for i in range(g.shape[0]):
        scales[0, first + i], scales[1, first + i] = power_and_factor(scale[i], inverse[i], g[i, 0], size_of(scales))


@kernel
def pull_back_each(dv: Any, dg: Any, scales: Any, ct: Any, v: Any, g: Any) -> Any:
    """Rows of ∇v and ∇g, and scales as above if there is room; dv may be ct. Gives 1 at a row of zeros."""
    many = rows_at_once(v)
    kept = near(np.float64)[: 2 * many].reshape(2, many)
    for i in range(0, v.shape[0], many):
        j = min(i + many, v.shape[0])
        if measure_inverse(kept[0], kept[1], v[i:j]):
            return 1
        pull_back_rows(dv[i:j], dg[i:j], kept[:, : j - i], ct[i:j], v[i:j], g[i:j])
        if scales.size:
            set_scales(scales, i, kept[0], kept[1], g[i:j])
    return 0


@kernel
def _pull_back_rows(dv: Any, dg: Any, ct: Any, v: Any, g: Any) -> Any:
    return pull_back_each(dv, dg, writes(dv, 0, (2, 0), (8, 8)), ct, v, g)


@parallel_kernel
def _normalize_in_parts(count: Any, w: Any, v: Any, g: Any) -> Any:
    zeros = np.zeros(count, np.int64)
    share = (v.shape[0] + count - 1) // count
    for part in prange(count):
        i, j = part * share, (part + 1) * share
        zeros[part] = _normalize_rows(w[i:j], v[i:j], g[i:j])
    return zeros.max()


@parallel_kernel
def _pull_back_in_parts(count: Any, dv: Any, dg: Any, scales: Any, ct: Any, v: Any, g: Any) -> Any:
    zeros = np.zeros(count, np.int64)
    share = (v.shape[0] + count - 1) // count
    for part in prange(count):
        i, j = part * share, (part + 1) * share
        zeros[part] = pull_back_each(dv[i:j], dg[i:j], scales[:, i:j], ct[i:j], v[i:j], g[i:j])
    return zeros.max()


_NORM = [AnyLayout(k, "out 2, in 2") for k in (_norm_rows, norm_columns)]
_NORMALIZE = [AnyLayout(k, "out 2, in 2, in 2") for k in (_normalize_rows, normalize_columns)]
_PULL_BACK = [AnyLayout(k, "out 2, out 2, in 2, in 2, in 2") for k in (_pull_back_rows, pull_back_columns)]

_NORMALIZE_IN_PARTS = AnyLayout(_normalize_in_parts, "count, out 2, in 2, in 2")
PULL_BACK_IN_PARTS = AnyLayout(_pull_back_in_parts, "count, out 2, out 2, out 2, in 2, in 2, in 2")


def sliced(arrays: tuple[Array, ...], kept: tuple[int, ...]) -> tuple[int, list[Array]] | None:
    """Whether slices are columns, and the arrays as matrices of them; None where the definition is ahead.

    The first array is the largest; arrays that had to be copied are views of nothing, so `fill` puts results back.
    """
    ndim, size = arrays[0].ndim, arrays[0].size
    columns = 0 < len(kept) < ndim and kept == tuple(range(ndim - len(kept), ndim))
    if not columns and kept != tuple(range(len(kept))) and size > 1 << 15:
        return None
    order = kept if columns else (*kept, *(i for i in range(ndim) if i not in kept))
    count = math.prod(arrays[0].shape[i] for i in kept)
    found = []
    for x in arrays:
        moved = x if columns or order == tuple(range(ndim)) else np.transpose(x, order)
        each = x.size // count if count else 0
        found.append(np.ascontiguousarray(moved).reshape((each, count) if columns else (count, each)))
    return int(columns), found


def fill(x: Array, slices: Array, kept: tuple[int, ...]) -> None:
    """Undo `sliced` where it made a copy."""
    if not np.may_share_memory(x, slices):
        order = (*kept, *(i for i in range(x.ndim) if i not in kept))
        np.copyto(np.transpose(x, order), slices.reshape([x.shape[i] for i in order]))


def side_by_side(x: Array) -> Array:
    """A matrix whose rows are contiguous: `x`, or a copy."""
    return x if x.strides[1] == x.itemsize else np.ascontiguousarray(x)


def vector_norm(n: Array, x: Array, *, axis: Axis, keepdims: bool) -> bool:
    """n ← ‖x‖ over `axis`. Rows of float32: 3 times as fast as its definition at (32, 64), 20 times at (64, 784)."""
    kept = other_axes(axes_of(axis, x.ndim), x.ndim)
    found = sliced((x,), kept)
    if found is None:
        return False
    columns, (slices,) = found
    _NORM[columns][x.itemsize](n.reshape((1, -1) if columns else (-1, 1)), slices)
    return True


def weight_norm(w: Array, v: Array, g: Array, *, axis: Axis) -> bool:
    """w ← g v / ‖v‖. Rows of float32: 4 times as fast as its definition at (32, 64), 20 times at (64, 784)."""
    if v.ndim == 2 and axis == 0:
        rows, size = side_by_side(v), v.itemsize
        if (count := parts(v.size, WORTH_THREADS)) > 1:
            failed = _NORMALIZE_IN_PARTS[size](count, w, rows, g)
        else:
            failed = _NORMALIZE[0][size](w, rows, g)
    else:
        kept = () if axis is None else axes_of(axis, v.ndim)
        found = sliced((w, v, g), kept)
        if found is None:
            return False
        columns, slices = found
        failed = _NORMALIZE[columns][v.itemsize](*slices)
        fill(w, slices[0], kept)
    if failed:
        raise no_direction("weight_norm", v, axis)
    return True


def weight_norm_pullback(dv: Array, dg: Array, ct: Array, v: Array, g: Array, *, axis: Axis) -> bool:
    """dv, dg ← equation 3 of the paper. Rows of float32: 4 times its definition at (32, 64), 20 times at (64, 784)."""
    if v.ndim == 2 and axis == 0:
        slopes, rows, size = side_by_side(ct), side_by_side(v), v.itemsize
        if (count := parts(v.size, WORTH_THREADS)) > 1:
            failed = PULL_BACK_IN_PARTS[size](count, dv, dg, np.empty((2, 0), v.dtype), slopes, rows, g)
        else:
            failed = _PULL_BACK[0][size](dv, dg, slopes, rows, g)
    else:
        kept = () if axis is None else axes_of(axis, v.ndim)
        found = sliced((dv, dg, ct, v, g), kept)
        if found is None:
            return False
        columns, slices = found
        failed = _PULL_BACK[columns][v.itemsize](*slices)
        fill(dv, slices[0], kept)
        fill(dg, slices[1], kept)
    if failed:
        raise no_direction("weight_norm_pullback", v, axis)
    return True


def no_direction(name: str, v: Array, axis: Axis) -> Exception:
    return zero_norm(name, v, ~np.any(v, axis=other_axes(axis, v.ndim), keepdims=True))
