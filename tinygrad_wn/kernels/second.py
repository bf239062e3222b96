"""The second derivative of weight normalization, row by row, with sums in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..domains import Array, Axis
from ..shapes import axes_of
from .jit import counting, kernel
from .layouts import AnyLayout
from .measure import largest, measure_inverse, power_for, power_of, shifted
from .norm import fill, no_direction, sliced
from .vector import size_of

LANES = 8
"""Sums at once, as an addition takes about four cycles."""


@kernel
def _summed(sums: Any, at: Any) -> Any:
    """The sum of the lanes of sum number `at`."""
    total = 0.0
    for k in range(LANES):
        total += sums[at, k]
    return total


@kernel
def level_of(x: Any, i: Any) -> Any:
    """A power of two that brings the numbers of a row of float64 to 1 and below; products of float32 need none."""
    return power_for(largest(x, i)) if size_of(x) == 8 else 1.0


@kernel
def _second_single(to_ct: Any, to_v: Any, to_g: Any, a: Any, b: Any, ct: Any, v: Any, g: Any) -> Any:
    """Rows of one number, whose direction is its sign: nothing lies across it but what is not finite."""
    for i in range(v.shape[0]):
        if v[i, 0] == 0:
            return 1
        across_a, across_ct = a[i, 0] - a[i, 0], ct[i, 0] - ct[i, 0]
        to_ct[i, 0] = g[i, 0] * across_a + b[i, 0] * np.sign(v[i, 0])
        to_v[i, 0] = b[i, 0] * across_ct - g[i, 0] * (across_a + across_ct)
        to_g[i, 0] = across_a + across_ct
    return 0


@counting
def _second_rows(to_ct: Any, to_v: Any, to_g: Any, a: Any, b: Any, ct: Any, v: Any, g: Any) -> Any:
    if v.shape[1] == 1:
        return _second_single(to_ct, to_v, to_g, a, b, ct, v, g)
    kept, sums = np.empty((2, v.shape[0])), np.empty((3, LANES))
    if measure_inverse(kept[0], kept[1], v):
        return 1
    n = v.shape[1]
    for i in range(v.shape[0]):
        scale, inverse, by_a, by_ct = kept[0, i], kept[1, i], level_of(a, i), level_of(ct, i)
        by_g, by_b = level_of(g, i), level_of(b, i)
        of_a, of_ct = power_of(scale) - power_of(by_a), power_of(scale) - power_of(by_ct)
        of_g, of_b = -power_of(by_g), -power_of(by_b)
        sums[:] = 0.0
        for first in range(0, n, LANES):
            for k in range(min(LANES, n - first)):
                u = np.float64(v[i, first + k]) * scale
                sums[0, k] += a[i, first + k] * by_a * u
                sums[1, k] += ct[i, first + k] * by_ct * u
        along_a, along_ct = _summed(sums, 0) * inverse, _summed(sums, 1) * inverse
        for first in range(0, n, LANES):
            for k in range(min(LANES, n - first)):
                u = np.float64(v[i, first + k]) * scale * inverse
                sums[2, k] += (a[i, first + k] * by_a - along_a * u) * (ct[i, first + k] * by_ct - along_ct * u)
        both, length, pull = _summed(sums, 2), g[i, 0] * by_g * inverse, b[i, 0] * by_b * inverse
        to_g[i, 0] = shifted(both * inverse, of_a + of_ct - power_of(scale))
        for j in range(n):
            u = np.float64(v[i, j]) * scale * inverse
            across_a, across_ct = a[i, j] * by_a - along_a * u, ct[i, j] * by_ct - along_ct * u
            bent = both * u + along_a * across_ct + along_ct * across_a
            to_ct[i, j] = shifted(length * across_a, of_a + of_g) + b[i, 0] * u
            to_v[i, j] = shifted(pull * across_ct, of_ct + of_b) - shifted(length * bent * inverse, of_a + of_ct + of_g)
    return 0


_second_of = AnyLayout(_second_rows, "out 2, out 2, out 2, in 2, in 2, in 2, in 2, in 2")


def weight_norm_second(*arrays: Array, axis: Axis) -> bool:
    """to_ct, to_v, to_g ← those of the op, for rows: 2.5 times its definition at (32, 64), 4 times at (64, 784)."""
    to_ct, to_v, to_g, a, b, ct, v, g = arrays
    kept = () if axis is None else axes_of(axis, v.ndim)
    found = sliced((to_ct, to_v, to_g, a, b, ct, v, g), kept)
    if found is None:
        return False
    columns, slices = found
    rows = [np.ascontiguousarray(x.T) for x in slices] if columns else slices
    if _second_of[v.itemsize](*rows):
        raise no_direction("weight_norm_second", v, axis)
    for x, part, own in zip((to_ct, to_v, to_g), slices, rows, strict=False):
        if columns:
            np.copyto(part, own.T)
        fill(x, part, kept)
    return True
