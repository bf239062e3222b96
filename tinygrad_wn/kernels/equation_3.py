"""Equation 3 of the paper for rows: ∇v and ∇g from ∇w, with sums in float64, where lengths of v are known."""

from __future__ import annotations

from typing import Any

import numpy as np

from .each_row import LARGE, MEDIUM, NEAR_ONE, side_by_side_at, slopes_of_rows
from .jit import inlined, kernel
from .measure import ROWS, factor_for, in_turn, split, within
from .room import near
from .rows import dots_of_rows, row_across_near, row_across_split
from .vector import row_across, row_dot, size_of


@inlined
def _dots(along: Any, scale: Any, ct: Any, v: Any) -> None:
    """The dot product of each scaled row with a row of ct."""
    if size_of(v) == 8:
        for i in range(v.shape[0]):
            start, from_ct = v.ctypes.data + i * v.strides[0], ct.ctypes.data + i * ct.strides[0]
            along[i] = row_dot(v, from_ct, start, v.shape[1], scale[i])
        return
    dots_of_rows(along, ct, v)
    for i in range(v.shape[0]):
        along[i] *= scale[i]


@kernel
def _splits(part: Any, factor: Any, scale: Any) -> Any:
    """Whether the first row can be computed without float64."""
    near_one = within(part, 1, -MEDIUM, NEAR_ONE) and within(factor, 1, -NEAR_ONE, NEAR_ONE)
    return near_one and within(scale, 1, -LARGE, LARGE)


@kernel
def _pull_back_single(dv: Any, dg: Any, kept: Any, ct: Any, v: Any, g: Any) -> None:
    """Rows of one number, whose direction is its sign: nothing lies across it, and no rounding is to say otherwise."""
    for i in range(v.shape[0]):
        unit, slope = np.sign(np.float64(v[i, 0])), np.float64(ct[i, 0])
        dg[i, 0] = slope * unit
        dv[i, 0] = (slope - slope * unit * unit) * g[i, 0] * kept[1, i] * kept[0, i]


@inlined
def across_factors(dg: Any, factors: Any, kept: Any, ct: Any, v: Any, g: Any) -> Any:
    """dg, and for each row of float32 the numbers `high`, `low` and `factor` of `row_across_near`, ROWS apart.

    Not so where they are too far from 1 for float32, which the result says.
    """
    count, along, aside = v.shape[0], near(np.float64), dg.strides[0] != size_of(dg)
    dots_of_rows(along, ct, v)
    slopes = factors[3 * ROWS :]
    to = slopes.ctypes.data if aside else dg.ctypes.data
    made = (to, factors.ctypes.data, factors[ROWS:].ctypes.data, factors[2 * ROWS :].ctypes.data)
    by = side_by_side_at(g, factors[4 * ROWS :])
    if slopes_of_rows(v, *made, along.ctypes.data, kept[0].ctypes.data, kept[1].ctypes.data, by, count):
        return False
    for i in range(count if aside else 0):
        dg[i, 0] = slopes[i]
    return True


@inlined
def _pull_back_near(dv: Any, dg: Any, kept: Any, ct: Any, v: Any, g: Any) -> Any:
    """Rows of float32, if all are near enough to 1 for that."""
    room, one, n = near(v), v.dtype.type(1), v.shape[1]
    if not across_factors(dg, room, kept, ct, v, g):
        return False
    for i in range(v.shape[0]):
        to, from_ct = dv.ctypes.data + i * dv.strides[0], ct.ctypes.data + i * ct.strides[0]
        start, factor = v.ctypes.data + i * v.strides[0], room[2 * ROWS + i]
        row_across_near(v, to, from_ct, start, one, room[i], room[ROWS + i], factor, one, n)
    return True


@inlined
def _pull_back_far(dv: Any, dg: Any, kept: Any, ct: Any, v: Any, g: Any) -> None:
    """Rows of any size."""
    count, room, numbers = v.shape[0], near(np.float64), near(v)
    along, part, factor, times = room[:ROWS], room[ROWS : 2 * ROWS], room[2 * ROWS : 3 * ROWS], room[3 * ROWS :]
    high, low, scale, inverse = numbers[:ROWS], numbers[ROWS : 2 * ROWS], kept[0], kept[1]
    _dots(along, scale, ct, v)
    for i in range(count):
        along[i] *= inverse[i]
        part[i] = along[i] * inverse[i]
        factor[i], times[i] = factor_for(g[i, 0], inverse[i], scale[i])
        dg[i, 0] = along[i]
    if size_of(v) == 4:
        split(high, low, part, count)
    for i in range(count):
        to, from_ct = dv.ctypes.data + i * dv.strides[0], ct.ctypes.data + i * ct.strides[0]
        start, real, n = v.ctypes.data + i * v.strides[0], v.dtype.type, v.shape[1]
        first, after = in_turn(factor[i], times[i])
        if size_of(v) == 4 and _splits(part[i:], factor[i:], scale[i:]):
            row_across_split(v, to, from_ct, start, real(scale[i]), high[i], low[i], real(first), real(after), n)
        else:
            row_across(v, to, from_ct, start, scale[i], part[i], first, after, n)


@kernel
def _pull_back_mixed(dv: Any, dg: Any, kept: Any, ct: Any, v: Any, g: Any) -> None:
    """Rows of float32, of which some are far from 1: each has the bits that it has alone."""
    for i in range(v.shape[0]):
        j = i + 1
        row = (dv[i:j], dg[i:j], kept[:, i:j], ct[i:j], v[i:j], g[i:j])
        if not _pull_back_near(*row):
            _pull_back_far(*row)


@inlined
def pull_back_rows(dv: Any, dg: Any, kept: Any, ct: Any, v: Any, g: Any) -> None:
    """Rows of dv and dg by equation 3, no more than ROWS; dv may be ct. `kept` holds scales and inverse lengths."""
    if v.shape[1] == 1:
        _pull_back_single(dv, dg, kept, ct, v, g)
    elif size_of(v) == 8:
        _pull_back_far(dv, dg, kept, ct, v, g)
    elif not _pull_back_near(dv, dg, kept, ct, v, g):
        _pull_back_mixed(dv, dg, kept, ct, v, g)


@kernel
def pull_back_apart(dv: Any, dg: Any, kept: Any, ct: Any, v: Any, g: Any) -> None:
    """The same as a kernel of its own, for the many that need it where `across_factors` says no."""
    pull_back_rows(dv, dg, kept, ct, v, g)


@kernel
def pull_back_kept(dv: Any, dg: Any, kept: Any, ct: Any, v: Any, g: Any) -> None:
    """The same for any number of rows."""
    for i in range(0, v.shape[0], ROWS):
        j = min(i + ROWS, v.shape[0])
        pull_back_rows(dv[i:j], dg[i:j], kept[:, i:j], ct[i:j], v[i:j], g[i:j])
