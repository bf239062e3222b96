"""Layers y = x·wᵀ + bias, plain and weight-normalized, and what their gradients are made of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..domains import Array
from .jit import kernel, parallel_kernel, prange
from .layouts import AnyLayout
from .matmul import multiply, multiply_in_parts, product
from .measure import measure_inverse, rows_at_once
from .memory import reads_c, writes
from .norm import PULL_BACK_IN_PARTS, no_direction, pull_back_each, set_scales, side_by_side
from .panels import BY_COLUMN, BY_ROW, NOT_SCALED
from .room import leave, near, room_for
from .rows import row_times, sum_of_rows
from .threads import parts
from .vector import size_of

WORTH_THREADS = 4e6
"""Operations of a product from which a second thread pays: 1.8 times as fast at (64, 128)·(128, 256)."""


@kernel
def _scale_rows(scales: Any, v: Any, g: Any) -> Any:
    """For each row of v, what multiplies it to give that row of w, if there is room; gives 1 at a row of zeros."""
    many = rows_at_once(v)
    kept = near(np.float64)[: 2 * many].reshape(2, many)
    for i in range(0, v.shape[0], many):
        if measure_inverse(kept[0], kept[1], v[i : i + many]):
            return 1
        if scales.size:
            set_scales(scales, i, kept[0], kept[1], g[i : i + many])
    return 0


@kernel
def prepare_rows(kept: Any, scales: Any, v: Any, g: Any) -> Any:
    """Measure rows of v, and find what multiplies them to give rows of w; 1 where there is a row of zeros."""
    if measure_inverse(kept[0], kept[1], v):
        return 1
    set_scales(scales, 0, kept[0], kept[1], g)
    return 0


@parallel_kernel
def _scale_in_parts(count: Any, scales: Any, v: Any, g: Any) -> Any:
    zeros = np.zeros(count, np.int64)
    share = (v.shape[0] + count - 1) // count
    for part in prange(count):
        i, j = part * share, (part + 1) * share
        zeros[part] = _scale_rows(scales[:, i:j], v[i:j], g[i:j])
    return zeros.max()


@kernel
def _sum_rows(db: Any, ct: Any) -> None:
    """db[j] ← Σ ct[i, j] over i, for as many j as db has."""
    if ct.strides[1] == size_of(ct):
        sum_of_rows(db, ct[:, : db.size])
        return
    db[:] = 0
    for i in range(ct.shape[0]):
        for j in range(db.size):
            db[j] += ct[i, j]


@kernel
def cotangents(dx: Any, ct: Any, v: Any, factors: Any, gate: Any, few: Any) -> None:
    """dx ← ct·w, with w as `measure_turned` says: few rows of v are scaled, else the cotangents, with v as it is."""
    n, o = ct.shape
    none, scaled = reads_c(ct, 0, (0,), (8,)), 0
    if few:
        product(dx, ct, v, none, factors[1:], np.int64(BY_ROW), -math.inf, gate)
        return
    for r in range(o):
        scaled |= factors[1, r] != 1
    room = room_for(ct, n * o)
    aside = room.reshape(n, o)[:, :]
    for i in range(n):
        to, source = aside.ctypes.data + i * aside.strides[0], ct.ctypes.data + i * ct.strides[0]
        row_times(ct, to, source, factors.ctypes.data, o)
    product(dx, aside, v, none, factors[1::2], np.int64(BY_ROW if scaled else NOT_SCALED), -math.inf, gate)
    leave(room)


@kernel
def _plain(c: Any, a: Any, b: Any) -> None:
    multiply(c, a, b, reads_c(c, 0, (0,), (8,)), writes(c, 0, (2, 0), (8, 8)), np.int64(NOT_SCALED))


@kernel
def _layer(y: Any, x: Any, weight: Any, bias: Any, scales: Any) -> None:
    multiply(y, x, weight.T, bias, scales, np.int64(NOT_SCALED))


@kernel
def _normalized_layer(y: Any, x: Any, v: Any, g: Any, bias: Any) -> Any:
    room = room_for(v, 2 * v.shape[0])
    scales = room.reshape(2, v.shape[0])[:, :]
    failed = _scale_rows(scales, v, g)
    if not failed:
        multiply(y, x, v.T, bias, scales, np.int64(BY_COLUMN))
    leave(room)
    return failed


@kernel
def _layer_back(dx: Any, dweight: Any, db: Any, ct: Any, x: Any, weight: Any, bias: Any, scales: Any) -> None:
    """What is wanted of the cotangents; what is not has no size."""
    if dx.size:
        multiply(dx, ct, weight, bias, scales, np.int64(NOT_SCALED))
    if dweight.size:
        multiply(dweight, ct.T, x, bias, scales, np.int64(NOT_SCALED))
    _sum_rows(db, ct)


@kernel
def _normalized_back(dx: Any, dv: Any, dg: Any, db: Any, ct: Any, x: Any, v: Any, g: Any, bias: Any) -> Any:
    """The same with ∇w in the memory of dv."""
    rows = v.shape[0] if dx.size else 0
    room = room_for(v, 2 * rows)
    scales = room.reshape(2, rows)[:, :]
    if dv.size:
        multiply(dv, ct.T, x, bias, scales, np.int64(NOT_SCALED))
        failed = pull_back_each(dv, dg, scales, dv, v, g)
    else:
        failed = _scale_rows(scales, v, g)
    if not failed:
        if dx.size:
            multiply(dx, ct, v, bias, scales, np.int64(BY_ROW))
        _sum_rows(db, ct)
    leave(room)
    return failed


# Scales are never written to by a product; they count as written to, so that its machine code is one for all callers.
_plain_of = AnyLayout(_plain, "out 2, in 2, in 2")
_multiply_of = AnyLayout(multiply, "out 2, in 2, in 2, in 1 C, out 2, count")
_multiply_in_parts_of = AnyLayout(multiply_in_parts, "count, out 2, in 2, in 2, in 1 C, out 2, count")
_scales_in_parts_of = AnyLayout(_scale_in_parts, "count, out 2, in 2, in 2")
_layer_of = AnyLayout(_layer, "out 2, in 2, in 2, in 1 C, out 2")
_normalized_of = AnyLayout(_normalized_layer, "out 2, in 2, in 2, in 2, in 1 C")
_layer_back_of = AnyLayout(_layer_back, "out 2, out 2, out 1 C, in 2, in 2, in 2, in 1 C, out 2")
_normalized_back_of = AnyLayout(_normalized_back, "out 2, out 2, out 2, out 1 C, in 2, in 2, in 2, in 2, in 1 C")

_NOTHING: dict[int, tuple[Array, Array]] = {
    np.dtype(t).itemsize: (np.empty(0, t), np.empty((2, 0), t)) for t in (np.float32, np.float64)
}
"""Stand for a bias and for scales that are not there, and for results that nobody wants."""


def _product(
    c: Array, a: Array, b: Array, bias: Array | None = None, scales: Array | None = None, scaling: int = NOT_SCALED
) -> None:
    none, unscaled = _NOTHING[c.itemsize]
    rest = (c, a, b, none if bias is None else bias, unscaled if scales is None else scales, scaling)
    count = parts(2.0 * c.size * a.shape[1], WORTH_THREADS)
    if count > 1:
        _multiply_in_parts_of[c.itemsize](count, *rest)
    else:
        _multiply_of[c.itemsize](*rest)


def matmul(c: Array, a: Array, b: Array) -> bool:
    """c ← a·b for vectors, matrices and stacks of them: 1.3 times as fast as its definition at (64, 784)·(784, 32)."""
    if a.ndim == b.ndim == 2:
        if c.size * a.shape[1] < WORTH_THREADS // 2:
            _plain_of[c.itemsize](c, a, b)
        else:
            _product(c, a, b)
        return True
    left, right = a[None] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b
    if right.ndim == 2:
        _product(c.reshape(math.prod(left.shape[:-1]), right.shape[1]), _flat(left), right)
        return True
    stack = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    into = c.reshape(*stack, left.shape[-2], right.shape[-1])
    left, right = (np.broadcast_to(x, (*stack, *x.shape[-2:])) for x in (left, right))
    for i in np.ndindex(stack):
        _product(into[i], left[i], right[i])
    return True


def linear(y: Array, x: Array, weight: Array, bias: Array | None) -> bool:
    """y ← x·weightᵀ + bias, weight read as it lies: 1.5 times as fast as its definition at (32, 64)·(64, 64)ᵀ."""
    size, y, x = y.itemsize, _flat(y), _flat(x)
    none, unscaled = _NOTHING[size]
    bias = none if bias is None else _vector(bias)
    if _worth(x, weight):
        _product(y, x, weight.T, bias)
    else:
        _layer_of[size](y, x, weight, bias, unscaled)
    return True


def linear_pullback(*arrays: Array, wanted: tuple[bool, ...]) -> bool:
    """The cotangents of x, weight and bias that are wanted ← those of linear: two products, and a sum over rows."""
    ct, x, weight = arrays[-3:]
    ct, x, size = _flat(ct), _flat(x), ct.itemsize
    none, nothing = _NOTHING[size]
    into = iter(arrays)
    dx = _flat(next(into)) if wanted[0] else nothing
    dweight = next(into) if wanted[1] else nothing
    db = next(into) if wanted[2] else none
    if _worth(x, weight):
        for c, a, b in ((dx, ct, weight), (dweight, ct.T, x)):
            if c.size:
                _product(c, a, b)
        dx = dweight = nothing
    _layer_back_of[size](dx, dweight, db, ct, x, weight, none, nothing)
    return True


def weight_norm_linear(y: Array, x: Array, v: Array, g: Array, bias: Array | None) -> bool:
    """y ← x·wᵀ + bias with w = g v / ‖v‖, which is never built: as fast as `linear` but for the norms of v."""
    size, y, x, v = y.itemsize, _flat(y), _flat(x), side_by_side(v)
    bias = _NOTHING[size][0] if bias is None else _vector(bias)
    if count := _worth(x, v):
        scales = np.empty((2, v.shape[0]), v.dtype)
        failed = _scales_in_parts_of[size](count, scales, v, g)
        if not failed:
            _product(y, x, v.T, bias, scales, BY_COLUMN)
    else:
        failed = _normalized_of[size](y, x, v, g, bias)
    if failed:
        raise no_direction("weight_norm_linear", v, 0)
    return True


def weight_norm_linear_pullback(*arrays: Array, wanted: tuple[bool, ...]) -> bool:
    """The cotangents of x, v, g and bias that are wanted; ∇w lies in the memory of ∇v, and w is never built."""
    ct, x, v, g = arrays[-4:]
    ct, x, v, size = _flat(ct), _flat(x), side_by_side(v), ct.itemsize
    none, nothing = _NOTHING[size]
    into = iter(arrays)
    dx = _flat(next(into)) if wanted[0] else nothing
    dv = next(into) if wanted[1] else np.empty(v.shape, v.dtype) if wanted[2] else nothing
    dg = next(into) if wanted[2] else np.empty(g.shape, g.dtype)
    db = next(into) if wanted[3] else none
    if count := _worth(x, v):
        failed = _normalized_back_in_parts(count, dx, dv, dg, ct, x, v, g)
        _layer_back_of[size](nothing, nothing, db, ct, x, v, none, nothing)
    else:
        failed = _normalized_back_of[size](dx, dv, dg, db, ct, x, v, g, none)
    if failed:
        raise no_direction("weight_norm_linear_pullback", v, 0)
    return True


def _normalized_back_in_parts(
    count: int, dx: Array, dv: Array, dg: Array, ct: Array, x: Array, v: Array, g: Array
) -> int:
    scales = np.empty((2, v.shape[0]), v.dtype)
    if dv.size:
        _product(dv, ct.T, x)
        failed = PULL_BACK_IN_PARTS[v.itemsize](count, dv, dg, scales, dv, v, g)
    else:
        failed = _scales_in_parts_of[v.itemsize](count, scales, v, g)
    if dx.size and not failed:
        _product(dx, ct, v, None, scales, BY_ROW)
    return int(failed)


def _worth(x: Array, weight: Array) -> int:
    """How many threads a layer is worth; 0 for one."""
    count = parts(2.0 * x.shape[0] * weight.size, WORTH_THREADS)
    return count if count > 1 else 0


def _flat(x: Array) -> Array:
    """All axes but the last as one."""
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _vector(bias: Array) -> Array:
    return bias if bias.strides[0] == bias.itemsize else np.ascontiguousarray(bias)
