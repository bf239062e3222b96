"""Matrix products c = a·b, with whatever a layer does to them: a bias, a cut at zero, and rows or columns of b scaled.

The result is made panel by panel: two vectors of columns at a time. A panel of b is read where it lies if its rows are
contiguous, else it is copied, turned if need be, into a small buffer. So it is if its rows lie far apart: each is in a
page of its own, and they push one another out of the first cache. (256, 1024)·(1024, 256) is 1.6 times as fast for it,
(256, 1000)·(1000, 1000) 1.4 times. So is an a that is read by columns far apart, once for all panels: with a turned
matrix of (256, 1024), (1024, 256)·(256, 1024) is 1.8 times as fast. Weight normalization rides on the copy of b:
numbers of v become numbers of w on the way, so that w never exists, and each number of it is rounded as if it did.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .jit import kernel, parallel_kernel, prange
from .panels import BY_COLUMN, NOT_SCALED, PADDED, STRETCHED, all_rows, copied, panel, put_numbers, set_numbers
from .room import leave, room_for
from .tiles import DOTS, ROWS, dots, part_of_row
from .vector import VECTOR_BYTES, number_at, size_of

BORDER = 64
"""Buffers begin where a line of the cache does."""

FAR = 1 << 16
"""Bytes over which rows of a panel are read where they lie, however many rows of a there are."""

TOGETHER = 1 if ROWS == 8 else 3
"""Vectors of rows of a that are copied side by side: as many as fill whole tiles."""

SPREAD = 1 << 19
"""Bytes over which columns of a are read where they lie, however many panels there are."""

FEW = 64
"""Dot products of fewer numbers are behind tiles that are partly empty."""

_dots, _dots_thin, _dots_flat, _dots_one = (dots(i, j) for i in (DOTS[0], 1) for j in (DOTS[1], 1))


@kernel
def product(c: Any, a: Any, b: Any, bias: Any, scales: Any, scaling: Any, floor: Any, gate: Any) -> None:
    """c ← a·b + bias, with b[k, j]·scales[0]·scales[1] at k or j in the place of b, cut by floor and gate."""
    m, k = a.shape
    n = b.shape[1]
    size = size_of(c)
    lanes = VECTOR_BYTES // size
    both, least = 2 * lanes, c.dtype.type(floor)
    room = room_for(c, (k + 4) * both + BORDER // size)
    shift = (room.ctypes.data + BORDER - 1) // BORDER * BORDER
    scale, factor, copy = shift + both * size, shift + 2 * both * size, shift + 4 * both * size
    _begin(c, shift, scaling)
    (b_k, b_col), (a_row, a_k), c_row = b.strides, a.strides, c.strides[0]
    apart = k * abs(b_k) > FAR and m >= 4 * ROWS
    across = a_row == size and k * abs(a_k) > SPREAD and n >= 4 * both
    block = TOGETHER * lanes if across else max(m, 1)
    aside = room_for(c, (m + block) * k + BORDER // size if across else 0)
    from_a, a_block = a.ctypes.data, 0
    if across:
        from_a, a_block = (aside.ctypes.data + BORDER - 1) // BORDER * BORDER, k * size
        _side_by_side(c, from_a, a, block, scales, scale)
        a_k = block * size
    for j in range(0, n, both):
        w = min(both, n - j)
        wide = w > lanes
        width = both if wide else lanes
        start, stretch, more = _ends(c, shift, bias, scales, scaling, j, w, width)
        source, source_k = b.ctypes.data + j * b_col, b_k
        if apart or (scaling < PADDED and (w < width or b_col != size or scaling != NOT_SCALED)):
            panel(c, copy, source, k, w, width, b_k, b_col, scales, scaling, scale, factor)
            source, source_k = copy, width * size
        to, valid = c.ctypes.data + j * size, w - width + lanes
        own, own_row = (gate.ctypes.data + j * size, gate.strides[0]) if gate.size and w == width else (0, 0)
        steps = (a_row, a_k, source_k, c_row, valid, least)
        for i in range(0, m, block):
            shut = own + i * own_row
            rest = (*steps, shut, own_row, stretch, more)
            all_rows(wide, c, to + i * c_row, from_a + i * a_block, source, start, min(block, m - i), k, *rest)
        if gate.size and w < width:
            _shut(c[:, j:], gate[:, j:])
    leave(aside)
    leave(room)


@kernel
def _side_by_side(c: Any, to: Any, a: Any, block: Any, scales: Any, unused: Any) -> None:
    """Copy a matrix whose columns are contiguous, `block` rows of it after the others: a panel for each."""
    m, k = a.shape
    for i in range(0, m, block):
        place, source = to + i * k * size_of(c), a.ctypes.data + i * size_of(c)
        steps = (a.strides[1], np.int64(size_of(c)))
        copied(c, place, source, k, min(block, m - i), block, *steps, scales, np.int64(NOT_SCALED), unused, unused)


@kernel
def _begin(c: Any, shift: Any, scaling: Any) -> None:
    """Set what panels need that are not whole: four vectors of two, for a bias, two factors, and zeros.

    Lanes that nobody asks for are computed as well: what lay in memory may be numbers with which processors are slow.
    """
    lanes = VECTOR_BYTES // size_of(c)
    both = 2 * lanes * size_of(c)
    for i in range(8):
        part_of_row(c, shift + i * VECTOR_BYTES, shift, 0)
    if scaling == BY_COLUMN:
        set_numbers(c, shift + both, 4 * lanes, 1)


@kernel
def _ends(c: Any, shift: Any, bias: Any, scales: Any, scaling: Any, j: Any, w: Any, width: Any) -> Any:
    """Where sums of a panel start from, what multiplies them in the end, 0 for nothing, and what is added then."""
    both = 2 * VECTOR_BYTES
    scale, zeros = shift + both, shift + 3 * both
    more = zeros
    if bias.size and w == width:
        more = bias.ctypes.data + j * size_of(c)
    elif bias.size:
        put_numbers(c, shift, bias, j, w)
        more = shift
    if scaling in (BY_COLUMN, STRETCHED):
        put_numbers(c, scale, scales[0], j, w)
    if scaling == BY_COLUMN:
        put_numbers(c, scale + both, scales[1], j, w)
    return (zeros, scale, more) if scaling == STRETCHED else (more, 0, more)


@kernel
def _shut(c: Any, gate: Any) -> None:
    """c ← 0 where gate is not above 0."""
    for i in range(c.shape[0]):
        for j in range(c.shape[1]):
            c[i, j] = c[i, j] if gate[i, j] > 0 else 0


@kernel
def _cut(c: Any, floor: Any, gate: Any) -> None:
    """The same, and c ← floor where it is below."""
    if floor > -math.inf:
        for i in range(c.shape[0]):
            for j in range(c.shape[1]):
                if c[i, j] < floor:  # NaN stays
                    c[i, j] = floor
    if gate.size:
        _shut(c, gate)


@kernel
def _add(c: Any, bias: Any) -> None:
    for i in range(c.shape[0]):
        for j in range(c.shape[1]):
            c[i, j] += bias[j]


@kernel
def _product_of_rows(c: Any, a: Any, b: Any, bias: Any) -> None:
    """The same for a b of few columns, unscaled, where rows of a are contiguous: dot products with columns of b."""
    m, k = a.shape
    n = b.shape[1]
    size = size_of(c)
    rows, columns = DOTS
    from_a, from_b, to_c = a.ctypes.data, b.ctypes.data, c.ctypes.data
    a_row, b_row, c_row = a.strides[0], b.strides[1], c.strides[0]
    apart = k + BORDER // size  # not a page, see above
    count = 0 if b.strides[0] == size else n * apart
    turned = room_for(c, count)
    if count:
        from_b, b_row = turned.ctypes.data, apart * size
        for i in range(k):
            for j in range(n):
                turned[j * apart + i] = b[i, j]
    i = 0
    while i < m:
        many_rows = m - i >= rows
        left, j = from_a + i * a_row, 0
        while j < n:
            many = n - j >= columns
            right, to = from_b + j * b_row, to_c + i * c_row + j * size
            if many_rows and many:
                _dots(c, to, left, right, k, a_row, b_row, c_row)
            elif many_rows:
                _dots_thin(c, to, left, right, k, a_row, b_row, c_row)
            elif many:
                _dots_flat(c, to, left, right, k, a_row, b_row, c_row)
            else:
                _dots_one(c, to, left, right, k, a_row, b_row, c_row)
            j += columns if many else 1
        i += rows if many_rows else 1
    if bias.size:
        _add(c, bias)
    leave(turned)


@kernel
def _product_across(c: Any, a: Any, b: Any, bias: Any, scales: Any) -> None:
    """The same for a b of few columns, unscaled, where columns of a are contiguous: vectors run along them."""
    m, k = a.shape
    n = b.shape[1]
    size = size_of(c)
    lanes = VECTOR_BYTES // size
    both, least = 2 * lanes, c.dtype.type(-math.inf)
    room = room_for(c, (k + n + 1) * both + BORDER // size)
    start = (room.ctypes.data + BORDER - 1) // BORDER * BORDER
    aside, panel = start + both * size, start + (n + 1) * both * size
    set_numbers(c, start, both, 0)
    from_b = b.ctypes.data
    (b_k, b_col), a_k = b.strides, a.strides[1]
    for i in range(0, m, both):
        w = min(both, m - i)
        width = both if w > lanes else lanes
        source, source_k = a.ctypes.data + i * size, a_k
        if w < width:
            copied(c, panel, source, k, w, width, a_k, size, scales, np.int64(NOT_SCALED), start, start)
            source, source_k = panel, width * size
        steps = (b_col, b_k, source_k, width * size, lanes, least, 0, 0, 0, 0)
        all_rows(width == both, c, aside, from_b, source, start, n, k, *steps)
        for q in range(w):
            for j in range(n):
                x = number_at(c, aside + (j * width + q) * size)
                c[i + q, j] = x + bias[j] if bias.size else x
    leave(room)


@kernel
def multiply_cut(c: Any, a: Any, b: Any, bias: Any, scales: Any, scaling: Any, floor: Any, gate: Any) -> None:
    """c ← a·b + bias for matrices in any layout, c with rows side by side; `scales` multiply b as `scaling` says.

    What is below `floor` becomes `floor`; with a gate of the shape of c, what has no number above 0 there becomes 0.
    float32 on one core: 1.2 times as fast as OpenBLAS over small networks, 2 times at (256, 784)·(784, 10).
    """
    size = size_of(c)
    if scaling == NOT_SCALED and c.shape[1] < VECTOR_BYTES // size:
        if a.strides[1] == size and a.shape[1] >= FEW:
            _product_of_rows(c, a, b, bias)
            _cut(c, floor, gate)
            return
        if a.strides[0] == size:
            _product_across(c, a, b, bias, scales)
            _cut(c, floor, gate)
            return
    product(c, a, b, bias, scales, scaling, floor, gate)


@kernel
def multiply(c: Any, a: Any, b: Any, bias: Any, scales: Any, scaling: Any) -> None:
    """The same, with nothing cut."""
    multiply_cut(c, a, b, bias, scales, scaling, -math.inf, a[:0])


@parallel_kernel
def multiply_in_parts(count: Any, c: Any, a: Any, b: Any, bias: Any, scales: Any, scaling: Any) -> None:
    """The same, bit for bit, on `count` threads: each makes some panels, or some rows where there are few panels."""
    both = 2 * (VECTOR_BYTES // size_of(c))
    m, n = c.shape
    by_columns = n >= count * both
    whole, grain = (n, both) if by_columns else (m, 2 * ROWS)
    share = (whole + count * grain - 1) // (count * grain) * grain
    for part in prange(count):
        i, j = min(part * share, whole), min((part + 1) * share, whole)
        if by_columns:
            own = scales[:, i:j] if scaling == BY_COLUMN else scales
            product(c[:, i:j], a, b[:, i:j], bias[i:j], own, scaling, -math.inf, a[:0])
        else:
            multiply(c[i:j], a[i:j], b, bias, scales, scaling)
