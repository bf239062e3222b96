"""Norms and weight normalization, slice by slice, with sums in float64.

A slice v is read as v̂ = v·scale, with a power of two for scale that brings its length near 1: that rounds nothing, and
w does not change with the length of v. Raw squares of float32 never leave the range of float64, nor do those of most
slices of float64, so the scale is found from their sum, in one pass; a slice near the ends of the range takes two.
Slices are the rows of a matrix, or its columns; another layout is copied into one first, which pays while it is small.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..domains import Array, Axis
from ..errors import zero_norm
from ..shapes import axes_of, other_axes
from .jit import kernel, parallel_kernel, prange
from .layouts import AnyLayout
from .matmul import turn
from .room import near
from .rows import (
    dots_of_rows,
    row_across_split,
    row_stretched,
    row_stretched_near,
    squares_of_lanes,
    squares_of_rows,
)
from .threads import parts
from .vector import VECTOR_BYTES, bits_of, float_of, row_across, row_dot, row_scaled, row_squares

DIGITS, EXPONENTS, BIAS = 52, 0x7FF, 1023
"""How float64 has its exponent in its bits."""

SAFE = 2.0**900
"""Sums of squares between 1/SAFE and SAFE have lost nothing, neither at the top nor at the bottom of the range."""

LEAST, MOST = 2.0**-126, 2.0**126
"""Powers of two between them are normal numbers of float32, and so are their inverses."""

CLOSE, NEAR_ONE, MEDIUM, LARGE = 20, 30, 60, 126
"""Exponents. What is multiplied by less than the first is about as far from the ends of the range as before; products of a few numbers up to the first are far from the ends of the range of float32; up to the second,
a number and what it lost in rounding are in it; up to the third, powers of two are.
"""

WORTH_THREADS = 1 << 18
"""Numbers from which a second thread pays: 1.8 times as fast at (1024, 1024)."""


BLOCK = 1 << 15
"""Numbers of v that are measured before they are used: few enough to be near still, and rows of one vector at least."""

ROWS = 64
"""Rows of a block at most."""


@kernel
def power_for(top: Any) -> Any:
    """2⁻ᵉ with top·2⁻ᵉ in [½, 1), if that is a normal number; else the nearest one. For 0 and infinity it is any."""
    exponent = bits_of(top) >> DIGITS & EXPONENTS
    return float_of(2 * BIAS - 1 - min(exponent, 2 * BIAS - 2) << DIGITS)


@kernel
def _largest(v: Any, i: Any) -> Any:
    top = 0.0
    for j in range(v.shape[1]):
        if not abs(v[i, j]) <= top:  # true for NaN as well
            top = abs(v[i, j])
            if math.isnan(top):
                break
    return top


@kernel
def _finish(scale: Any, length: Any, count: Any) -> Any:
    """From sums of squares to lengths near 1, and what they were scaled by; whether one is 0."""
    zeros = 0
    for i in range(count):
        root = math.sqrt(length[i])
        power = power_for(root)
        length[i], scale[i] = root * power, scale[i] * power
        zeros |= root == 0.0
    return zeros != 0


@kernel
def measure(scale: Any, length: Any, v: Any) -> Any:
    """The scale of each row of v, and the length of the scaled row; whether there is a row of zeros."""
    squares_of_rows(length, v)
    for i in range(v.shape[0]):
        scale[i] = 1.0
    if v.itemsize == 8:
        for i in range(v.shape[0]):
            if not 1.0 / SAFE < length[i] < SAFE:
                scale[i] = power_for(_largest(v, i))
                length[i] = row_squares(v, v.ctypes.data + i * v.strides[0], v.shape[1], scale[i])
    return _finish(scale, length, v.shape[0])


@kernel
def measure_inverse(scale: Any, inverse: Any, v: Any) -> Any:
    """The scale of each row of v, and 1 over the length of the scaled row; whether there is a row of zeros."""
    zeros = measure(scale, inverse, v)
    for i in range(v.shape[0]):
        inverse[i] = 1.0 / inverse[i]
    return zeros


@kernel
def _dots(along: Any, scale: Any, ct: Any, v: Any) -> None:
    """The dot product of each scaled row with a row of ct."""
    if v.itemsize == 8:
        for i in range(v.shape[0]):
            start, from_ct = v.ctypes.data + i * v.strides[0], ct.ctypes.data + i * ct.strides[0]
            along[i] = row_dot(v, from_ct, start, v.shape[1], scale[i])
        return
    dots_of_rows(along, ct, v)
    for i in range(v.shape[0]):
        along[i] *= scale[i]


@kernel
def rows_at_once(v: Any) -> Any:
    """How many rows make a block."""
    return max(1, min(v.shape[0], ROWS, BLOCK // max(v.shape[1], 1)))


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
def _split(high: Any, low: Any, x: Any, count: Any) -> None:
    """Numbers of float64 as sums of two of float32."""
    for i in range(count):
        high[i] = x[i]
        low[i] = x[i] - high[i]


@kernel
def _within(x: Any, count: Any, low: Any, high: Any) -> Any:
    """Whether the sizes of all numbers are between these powers of two."""
    outside = 0
    for i in range(count):
        exponent = (bits_of(x[i]) >> DIGITS & EXPONENTS) - BIAS
        outside |= (exponent - low) | (high - exponent)
    return outside >= 0


@kernel
def _stretched(w: Any, scale: Any, length: Any, v: Any, g: Any) -> None:
    """Rows of w from those of v, no more than ROWS, and what was measured of them."""
    count, room, pair = v.shape[0], near(np.float64), near(v)
    factor, both = room[:ROWS], room[ROWS : 2 * ROWS]
    high, low = pair[:ROWS], pair[ROWS : 2 * ROWS]
    for i in range(count):
        factor[i] = g[i, 0] / length[i]
        both[i] = factor[i] * scale[i]
    fits = v.itemsize == 4 and _within(factor, count, -NEAR_ONE, NEAR_ONE) and _within(scale, count, -LARGE, LARGE)
    folds = fits and _within(both, count, -MEDIUM, MEDIUM)
    if fits:
        _split(high, low, both if folds else factor, count)
    for i in range(count):
        to, start = w.ctypes.data + i * w.strides[0], v.ctypes.data + i * v.strides[0]
        by = v.dtype.type(scale[i])
        if folds:
            row_stretched_near(v, to, start, by, high[i], low[i], v.shape[1])
        elif fits:
            row_stretched(v, to, start, by, high[i], low[i], v.shape[1])
        else:
            row_scaled(v, to, start, scale[i], factor[i], v.shape[1])


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
def measure_turned(columns: Any, kept: Any, factors: Any, v: Any, g: Any) -> Any:
    """vᵀ, and in `kept` the scale and the inverse length of each row of v; 1 where one is zeros.

    Row r of w is v[r]·factors[1, r]·factors[0, r]; the first, a power of two, is in the columns already. It is 1 unless
    products with v might leave the range where those with w do not. Rows of `columns` have room to the end of a vector,
    which is written too.
    """
    size, k, rows = v.itemsize, v.shape[1], v.shape[0]
    lanes, room, row = VECTOR_BYTES // size, near(np.float64), columns.strides[0]
    factor, both = room[:lanes], room[lanes : 2 * lanes]
    for i in range(0, rows, lanes):
        j = min(i + lanes, rows)
        block, scale, inverse = columns[:, i:j], kept[0, i:j], kept[1, i:j]
        turn(block, v[i:j])
        if size == 4:
            squares_of_lanes(v, both.ctypes.data, block.ctypes.data, row, k)
            for r in range(j - i):
                scale[r], inverse[r] = 1.0, both[r]
            zeros = _finish(scale, inverse, j - i)
            for r in range(j - i):
                inverse[r] = 1.0 / inverse[r]
        else:
            zeros = measure_inverse(scale, inverse, v[i:j])
        if zeros:
            return 1
        for r in range(j - i):
            factor[r] = g[i + r, 0] * inverse[r]
            both[r] = factor[r] * scale[r]
        if _within(both, j - i, -CLOSE, CLOSE):
            for r in range(j - i):
                factors[0, i + r], factors[1, i + r], factors[2, i + r] = both[r], 1.0, 1.0
            continue
        for r in range(j - i):
            power = min(max(scale[r], LEAST), MOST) if size == 4 else scale[r]
            factors[0, i + r], factors[1, i + r], factors[2, i + r] = factor[r] * (scale[r] / power), power, 1.0
        for q in range(k):
            for r in range(j - i):
                block[q, r] *= factors[1, i + r]
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
def pull_back_rows(dv: Any, dg: Any, kept: Any, ct: Any, v: Any, g: Any) -> None:
    """Rows of dv and dg by equation 3, dv may be ct; `kept` holds scales and inverse lengths of no more than ROWS rows."""
    count, room, numbers = v.shape[0], near(np.float64), near(v)
    along, part, factor = room[:ROWS], room[ROWS : 2 * ROWS], room[2 * ROWS : 3 * ROWS]
    high, low = numbers[:ROWS], numbers[ROWS : 2 * ROWS]
    scale, inverse = kept[0], kept[1]
    _dots(along, scale, ct, v)
    for i in range(count):
        along[i] *= inverse[i]
        part[i], factor[i] = along[i] * inverse[i] * scale[i], g[i, 0] * inverse[i] * scale[i]
        dg[i, 0] = along[i]
    fits = v.itemsize == 4 and _within(part, count, -MEDIUM, MEDIUM) and _within(factor, count, -MEDIUM, MEDIUM)
    if fits:
        _split(high, low, part, count)
    for i in range(count):
        to, from_ct = dv.ctypes.data + i * dv.strides[0], ct.ctypes.data + i * ct.strides[0]
        start = v.ctypes.data + i * v.strides[0]
        if fits:
            row_across_split(v, to, from_ct, start, high[i], low[i], v.dtype.type(factor[i]), v.shape[1])
        else:
            row_across(v, to, from_ct, start, scale[i], along[i] * inverse[i], g[i, 0] * inverse[i], v.shape[1])


@kernel
def pull_back_kept(dv: Any, dg: Any, kept: Any, ct: Any, v: Any, g: Any) -> None:
    """The same for any number of rows."""
    for i in range(0, v.shape[0], ROWS):
        j = min(i + ROWS, v.shape[0])
        pull_back_rows(dv[i:j], dg[i:j], kept[:, i:j], ct[i:j], v[i:j], g[i:j])


@kernel
def _pull_back_rows(dv: Any, dg: Any, ct: Any, v: Any, g: Any) -> Any:
    many = rows_at_once(v)
    kept = near(np.float64)[: 2 * many].reshape(2, many)
    for i in range(0, v.shape[0], many):
        j = min(i + many, v.shape[0])
        if measure_inverse(kept[0], kept[1], v[i:j]):
            return 1
        pull_back_rows(dv[i:j], dg[i:j], kept[:, : j - i], ct[i:j], v[i:j], g[i:j])
    return 0


@parallel_kernel
def _normalize_in_parts(count: Any, w: Any, v: Any, g: Any) -> Any:
    zeros = np.zeros(count, np.int64)
    share = (v.shape[0] + count - 1) // count
    for part in prange(count):
        i, j = part * share, (part + 1) * share
        zeros[part] = _normalize_rows(w[i:j], v[i:j], g[i:j])
    return zeros.max()


@parallel_kernel
def _pull_back_in_parts(count: Any, dv: Any, dg: Any, ct: Any, v: Any, g: Any) -> Any:
    zeros = np.zeros(count, np.int64)
    share = (v.shape[0] + count - 1) // count
    for part in prange(count):
        i, j = part * share, (part + 1) * share
        zeros[part] = _pull_back_rows(dv[i:j], dg[i:j], ct[i:j], v[i:j], g[i:j])
    return zeros.max()


@kernel
def _column_lengths(scale: Any, length: Any, v: Any) -> Any:
    """The scale, and the length of the scaled column, for each column of v."""
    length[:] = 0.0
    for i in range(v.shape[0]):
        for j in range(v.shape[1]):
            x = np.float64(v[i, j])
            length[j] += x * x
    for j in range(v.shape[1]):
        if v.itemsize == 4 or 1.0 / SAFE < length[j] < SAFE:
            length[j] = math.sqrt(length[j])
            scale[j] = power_for(length[j])
            length[j] *= scale[j]
            continue
        top = 0.0
        for i in range(v.shape[0]):
            if not abs(v[i, j]) <= top:
                top = abs(v[i, j])
                if math.isnan(top):
                    break
        scale[j] = power_for(top)
        squares = 0.0
        for i in range(v.shape[0]):
            squares += (v[i, j] * scale[j]) ** 2
        length[j] = math.sqrt(squares)


@kernel
def _norm_columns(n: Any, v: Any) -> Any:
    scale, length = np.empty(v.shape[1]), np.empty(v.shape[1])
    _column_lengths(scale, length, v)
    for j in range(v.shape[1]):
        n[0, j] = length[j] / scale[j]


@kernel
def _normalize_columns(w: Any, v: Any, g: Any) -> Any:
    scale, length = np.empty(v.shape[1]), np.empty(v.shape[1])
    _column_lengths(scale, length, v)
    for j in range(v.shape[1]):
        if length[j] == 0.0:
            return 1
        length[j] = g[0, j] / length[j]
    for i in range(v.shape[0]):
        for j in range(v.shape[1]):
            w[i, j] = length[j] * (v[i, j] * scale[j])
    return 0


@kernel
def _pull_back_columns(dv: Any, dg: Any, ct: Any, v: Any, g: Any) -> Any:
    scale, length, along = np.empty(v.shape[1]), np.empty(v.shape[1]), np.zeros(v.shape[1])
    _column_lengths(scale, length, v)
    for i in range(v.shape[0]):
        for j in range(v.shape[1]):
            along[j] += np.float64(ct[i, j]) * (v[i, j] * scale[j])
    factor = np.empty(v.shape[1])
    for j in range(v.shape[1]):
        if length[j] == 0.0:
            return 1
        dg[0, j] = along[j] / length[j]
        along[j] = along[j] / length[j] / length[j]
        factor[j] = g[0, j] / length[j]
    for i in range(v.shape[0]):
        for j in range(v.shape[1]):
            dv[i, j] = factor[j] * (ct[i, j] - along[j] * (v[i, j] * scale[j])) * scale[j]
    return 0


_NORM = [AnyLayout(k, "out 2, in 2") for k in (_norm_rows, _norm_columns)]
_NORMALIZE = [AnyLayout(k, "out 2, in 2, in 2") for k in (_normalize_rows, _normalize_columns)]
_PULL_BACK = [AnyLayout(k, "out 2, out 2, in 2, in 2, in 2") for k in (_pull_back_rows, _pull_back_columns)]

_NORMALIZE_IN_PARTS = AnyLayout(_normalize_in_parts, "count, out 2, in 2, in 2")
_PULL_BACK_IN_PARTS = AnyLayout(_pull_back_in_parts, "count, out 2, out 2, in 2, in 2, in 2")


def _sliced(arrays: tuple[Array, ...], kept: tuple[int, ...]) -> tuple[int, list[Array]] | None:
    """Whether slices are columns, and the arrays as matrices of them; None where the definition is ahead.

    The first array is the largest; arrays that had to be copied are views of nothing, so `_fill` puts results back.
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


def _fill(x: Array, slices: Array, kept: tuple[int, ...]) -> None:
    """Undo `_sliced` where it made a copy."""
    if not np.may_share_memory(x, slices):
        order = (*kept, *(i for i in range(x.ndim) if i not in kept))
        np.copyto(np.transpose(x, order), slices.reshape([x.shape[i] for i in order]))


def side_by_side(x: Array) -> Array:
    """A matrix whose rows are contiguous: `x`, or a copy."""
    return x if x.strides[1] == x.itemsize else np.ascontiguousarray(x)


def vector_norm(n: Array, x: Array, *, axis: Axis, keepdims: bool) -> bool:
    """n ← ‖x‖ over `axis`. Rows of float32: 3 times as fast as its definition at (32, 64), 20 times at (64, 784)."""
    kept = other_axes(axes_of(axis, x.ndim), x.ndim)
    found = _sliced((x,), kept)
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
        found = _sliced((w, v, g), kept)
        if found is None:
            return False
        columns, slices = found
        failed = _NORMALIZE[columns][v.itemsize](*slices)
        _fill(w, slices[0], kept)
    if failed:
        raise _zero("weight_norm", v, axis)
    return True


def weight_norm_pullback(dv: Array, dg: Array, ct: Array, v: Array, g: Array, *, axis: Axis) -> bool:
    """dv, dg ← equation 3 of the paper. Rows of float32: 4 times its definition at (32, 64), 20 times at (64, 784)."""
    if v.ndim == 2 and axis == 0:
        slopes, rows, size = side_by_side(ct), side_by_side(v), v.itemsize
        if (count := parts(v.size, WORTH_THREADS)) > 1:
            failed = _PULL_BACK_IN_PARTS[size](count, dv, dg, slopes, rows, g)
        else:
            failed = _PULL_BACK[0][size](dv, dg, slopes, rows, g)
    else:
        kept = () if axis is None else axes_of(axis, v.ndim)
        found = _sliced((dv, dg, ct, v, g), kept)
        if found is None:
            return False
        columns, slices = found
        failed = _PULL_BACK[columns][v.itemsize](*slices)
        _fill(dv, slices[0], kept)
        _fill(dg, slices[1], kept)
    if failed:
        raise _zero("weight_norm_pullback", v, axis)
    return True


def _zero(name: str, v: Array, axis: Axis) -> Exception:
    return zero_norm(name, v, ~np.any(v, axis=other_axes(axis, v.ndim), keepdims=True))
