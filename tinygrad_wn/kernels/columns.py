"""Norms and weight normalization of the columns of a matrix, with sums in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .jit import counting, kernel
from .measure import QUARTERED, SAFE, largest, power_for, times
from .vector import size_of


@kernel
def _column_lengths(scale: Any, length: Any, v: Any) -> Any:
    """The scale, and the length of the scaled column, for each column of v."""
    length[:] = 0.0
    for i in range(v.shape[0]):
        for j in range(v.shape[1]):
            x = np.float64(v[i, j])
            length[j] += x * x
    for j in range(v.shape[1]):
        if size_of(v) == 4 or 1.0 / SAFE < length[j] < SAFE:
            length[j] = math.sqrt(length[j])
            scale[j] = power_for(length[j])
            length[j] *= scale[j]
            continue
        scale[j] = power_for(largest(v.T, j))
        squares = 0.0
        for i in range(v.shape[0]):
            squares += (v[i, j] * scale[j]) ** 2
        length[j] = math.sqrt(squares)


@counting
def norm_columns(n: Any, v: Any) -> Any:
    scale, length = np.empty(v.shape[1]), np.empty(v.shape[1])
    _column_lengths(scale, length, v)
    for j in range(v.shape[1]):
        n[0, j] = length[j] / scale[j]


@counting
def normalize_columns(w: Any, v: Any, g: Any) -> Any:
    scale, length, factor = np.empty(v.shape[1]), np.empty(v.shape[1]), np.ones(v.shape[1])
    _column_lengths(scale, length, v)
    for j in range(v.shape[1]):
        if length[j] == 0.0:
            return 1
        if abs(g[0, j] / length[j]) < math.inf:
            length[j] = g[0, j] / length[j]
        else:  # a large g over the length of a subnormal column
            length[j], factor[j] = 1.0 / length[j], g[0, j]
    for i in range(v.shape[0]):
        for j in range(v.shape[1]):
            w[i, j] = factor[j] * (length[j] * (v[i, j] * scale[j]))
    return 0


@counting
def pull_back_columns(dv: Any, dg: Any, ct: Any, v: Any, g: Any) -> Any:
    scale, length, along = np.empty(v.shape[1]), np.empty(v.shape[1]), np.zeros(v.shape[1])
    _column_lengths(scale, length, v)
    for i in range(v.shape[0]):
        for j in range(v.shape[1]):
            along[j] += np.float64(ct[i, j]) * (v[i, j] * scale[j])
    factor, by = np.empty(v.shape[1]), np.empty(v.shape[1])
    for j in range(v.shape[1]):
        if length[j] == 0.0:
            return 1
        dg[0, j] = along[j] / length[j]
        along[j] = along[j] / length[j] / length[j]
        factor[j], by[j] = g[0, j] / length[j], scale[j]
        if not abs(factor[j]) < math.inf and scale[j] < QUARTERED:
            factor[j], by[j] = np.float64(g[0, j]) / 4 / length[j], scale[j] * 4
    for i in range(v.shape[0]):
        for j in range(v.shape[1]):
            dv[i, j] = times(ct[i, j] - along[j] * (v[i, j] * scale[j]), factor[j], by[j])
    return 0
