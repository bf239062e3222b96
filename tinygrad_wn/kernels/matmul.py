"""Matrix products c = a·b, with whatever a layer does to them: a bias, a cut at zero, and rows or columns of b scaled.

The result is made panel by panel: two vectors of columns at a time. A panel of b is read where it lies if its rows are
contiguous, else it is copied, turned if need be, into a small buffer. Weight normalization rides on that copy: numbers
of v become numbers of w on the way, so that w never exists, and each number of it is rounded as if it did.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .jit import kernel, parallel_kernel, prange
from .room import NEAR, near
from .tiles import DOTS, ROWS, dots, part_of_row, square, tile, vector_of_row
from .vector import VECTOR_BYTES, number_at, put_at

NOT_SCALED, BY_COLUMN, BY_ROW, PADDED, STRETCHED = 0, 1, 2, 3, 4
"""What is done to b on its way: nothing, its columns or rows scaled; PADDED: nothing, and its rows may be read to the
end of a vector; STRETCHED: the same, and columns of the product are multiplied by `scales[0]`.
"""

BORDER = 64
"""Buffers begin where a line of the cache does."""

FEW = 64
"""Dot products of fewer numbers are behind tiles that are partly empty."""

PAGE = 4096
"""Rows that lie this far apart, or a multiple, push one another out of the first cache if they are more than eight."""

_wide, _wide_4, _wide_2, _wide_1 = (tile(rows, 2) for rows in (ROWS, 4, 2, 1))
_thin_16, _thin_8, _thin_4, _thin_2, _thin_1 = (tile(rows, 1) for rows in (2 * ROWS, ROWS, 4, 2, 1))
_dots, _dots_thin, _dots_flat, _dots_one = (dots(i, j) for i in (DOTS[0], 1) for j in (DOTS[1], 1))
_square, _scaled_square = square(scaled=False), square(scaled=True)


@kernel
def _wide_tiles(
    like: Any,
    c: Any,
    a: Any,
    b: Any,
    start: Any,
    m: Any,
    k: Any,
    a_row: Any,
    a_k: Any,
    b_k: Any,
    c_row: Any,
    valid: Any,
    floor: Any,
    gate: Any,
    gate_row: Any,
    stretch: Any,
    shift: Any,
) -> Any:
    """All rows of a panel of c that is two vectors wide."""
    i = 0
    while i < m:
        to, row = c + i * c_row, a + i * a_row
        own = gate + i * gate_row if gate else gate
        if m - i >= ROWS:
            _wide(like, to, row, b, start, k, a_row, a_k, b_k, c_row, valid, floor, own, gate_row, stretch, shift)
            i += ROWS
        elif m - i >= 4:
            _wide_4(like, to, row, b, start, k, a_row, a_k, b_k, c_row, valid, floor, own, gate_row, stretch, shift)
            i += 4
        elif m - i >= 2:
            _wide_2(like, to, row, b, start, k, a_row, a_k, b_k, c_row, valid, floor, own, gate_row, stretch, shift)
            i += 2
        else:
            _wide_1(like, to, row, b, start, k, a_row, a_k, b_k, c_row, valid, floor, own, gate_row, stretch, shift)
            i += 1


@kernel
def _thin_tiles(
    like: Any,
    c: Any,
    a: Any,
    b: Any,
    start: Any,
    m: Any,
    k: Any,
    a_row: Any,
    a_k: Any,
    b_k: Any,
    c_row: Any,
    valid: Any,
    floor: Any,
    gate: Any,
    gate_row: Any,
    stretch: Any,
    shift: Any,
) -> Any:
    """All rows of a panel of c that is one vector wide."""
    i = 0
    while i < m:
        to, row = c + i * c_row, a + i * a_row
        own = gate + i * gate_row if gate else gate
        if m - i >= 2 * ROWS and a_row % PAGE:
            _thin_16(like, to, row, b, start, k, a_row, a_k, b_k, c_row, valid, floor, own, gate_row, stretch, shift)
            i += 2 * ROWS
        elif m - i >= ROWS:
            _thin_8(like, to, row, b, start, k, a_row, a_k, b_k, c_row, valid, floor, own, gate_row, stretch, shift)
            i += ROWS
        elif m - i >= 4:
            _thin_4(like, to, row, b, start, k, a_row, a_k, b_k, c_row, valid, floor, own, gate_row, stretch, shift)
            i += 4
        elif m - i >= 2:
            _thin_2(like, to, row, b, start, k, a_row, a_k, b_k, c_row, valid, floor, own, gate_row, stretch, shift)
            i += 2
        else:
            _thin_1(like, to, row, b, start, k, a_row, a_k, b_k, c_row, valid, floor, own, gate_row, stretch, shift)
            i += 1


@kernel
def _set(like: Any, to: Any, count: Any, number: Any) -> None:
    for i in range(count):
        put_at(like, to + i * like.itemsize, like.dtype.type(number))


@kernel
def _put(like: Any, to: Any, numbers: Any, first: Any, count: Any) -> None:
    for i in range(count):
        put_at(like, to + i * like.itemsize, numbers[first + i])


@kernel
def _turned(
    like: Any, to: Any, b: Any, k: Any, w: Any, width: Any, b_col: Any, scaled: Any, scale: Any, factor: Any
) -> Any:
    """A panel of a matrix whose columns are contiguous."""
    size = like.itemsize
    lanes, row = VECTOR_BYTES // size, width * size
    whole = k - k % lanes
    for j in range(0, w, lanes):
        valid = min(lanes, w - j)
        source, here = b + j * b_col, j * size
        for i in range(0, whole, lanes):
            place, begin = to + i * row + here, source + i * size
            if scaled:
                _scaled_square(like, place, begin, row, b_col, valid, scale + here, factor + here)
            else:
                _square(like, place, begin, row, b_col, valid, scale, factor)
        for q in range(valid):
            by, then = number_at(like, scale + here + q * size), number_at(like, factor + here + q * size)
            for i in range(whole, k):
                x = number_at(like, source + q * b_col + i * size)
                put_at(like, to + i * row + here + q * size, x * by * then if scaled else x)


@kernel
def _copied(
    like: Any,
    to: Any,
    b: Any,
    k: Any,
    w: Any,
    width: Any,
    b_k: Any,
    b_col: Any,
    scales: Any,
    scaling: Any,
    scale: Any,
    factor: Any,
) -> Any:
    """A panel of a matrix with rows that are contiguous, or with any steps."""
    size = like.itemsize
    lanes, row = VECTOR_BYTES // size, width * size
    one = like.dtype.type(1)
    for i in range(k):
        here, source = to + i * row, b + i * b_k
        by, then = (scales[0, i], scales[1, i]) if scaling == BY_ROW else (one, one)
        if b_col != size or scaling == BY_COLUMN:
            for j in range(w):
                x = number_at(like, source + j * b_col) * by * then
                if scaling == BY_COLUMN:
                    x = x * number_at(like, scale + j * size) * number_at(like, factor + j * size)
                put_at(like, here + j * size, x)
            continue
        for j in range(0, w, lanes):
            if w - j >= lanes:
                vector_of_row(like, here + j * size, source + j * size, by, then)
            else:
                part_of_row(like, here + j * size, source + j * size, w - j)
                vector_of_row(like, here + j * size, here + j * size, by, then)


@kernel
def _panel(
    like: Any,
    to: Any,
    b: Any,
    k: Any,
    w: Any,
    width: Any,
    b_k: Any,
    b_col: Any,
    scales: Any,
    scaling: Any,
    scale: Any,
    factor: Any,
) -> Any:
    """`w` columns of b, scaled if asked for, with numbers without meaning up to `width`."""
    if b_k == like.itemsize and b_col != like.itemsize and scaling != BY_ROW:
        _turned(like, to, b, k, w, width, b_col, scaling == BY_COLUMN, scale, factor)
    else:
        _copied(like, to, b, k, w, width, b_k, b_col, scales, scaling, scale, factor)


@kernel
def turn(to: Any, x: Any) -> None:
    """to ← xᵀ, for rows side by side; rows of `to` have room to the end of a vector, which is written too."""
    k, w, start, source = to.shape[0], to.shape[1], to.ctypes.data, x.ctypes.data
    _turned(to, start, source, k, w, to.strides[0] // to.itemsize, x.strides[0], False, start, start)


@kernel
def product(c: Any, a: Any, b: Any, bias: Any, scales: Any, scaling: Any, floor: Any, gate: Any) -> Any:
    """c ← a·b + bias, with b[k, j]·scales[0]·scales[1] at k or j in the place of b, cut by floor and gate."""
    m, k = a.shape
    n = b.shape[1]
    size = c.itemsize
    lanes = VECTOR_BYTES // size
    both, least = 2 * lanes, c.dtype.type(floor)
    count = (k + 4) * both + BORDER // size
    room = near(c) if count * size <= NEAR else np.empty(count, c.dtype)
    start = (room.ctypes.data + BORDER - 1) // BORDER * BORDER
    scale, factor, zeros = start + both * size, start + 2 * both * size, start + 3 * both * size
    panel = zeros + both * size
    for q in range(2):
        part_of_row(c, zeros + q * lanes * size, zeros, 0)
    if scaling == BY_COLUMN:
        _set(c, scale, 2 * both, 1)
    from_a, from_b, to_c, from_bias = a.ctypes.data, b.ctypes.data, c.ctypes.data, bias.ctypes.data
    (b_k, b_col), (a_row, a_k), c_row = b.strides, a.strides, c.strides[0]
    for j in range(0, n, both):
        w = min(both, n - j)
        width = both if w > lanes else lanes
        shift, stretch, begin = zeros, 0, zeros
        if bias.size and w == width:
            shift = from_bias + j * size
        elif bias.size:
            _put(c, start, bias, j, w)
            shift = start
        if scaling == STRETCHED:
            _put(c, scale, scales[0], j, w)
            stretch = scale
        else:
            begin = shift
        if scaling == BY_COLUMN:
            _put(c, scale, scales[0], j, w)
            _put(c, factor, scales[1], j, w)
        source, source_k = from_b + j * b_col, b_k
        if scaling < PADDED and (w < width or b_col != size or scaling != NOT_SCALED):
            _panel(c, panel, source, k, w, width, b_k, b_col, scales, scaling, scale, factor)
            source, source_k = panel, width * size
        to, valid = to_c + j * size, w - width + lanes
        own, own_row = (gate.ctypes.data + j * size, gate.strides[0]) if gate.size and w == width else (0, 0)
        if width == both:
            _wide_tiles(
                c,
                to,
                from_a,
                source,
                begin,
                m,
                k,
                a_row,
                a_k,
                source_k,
                c_row,
                valid,
                least,
                own,
                own_row,
                stretch,
                shift,
            )
        else:
            _thin_tiles(
                c,
                to,
                from_a,
                source,
                begin,
                m,
                k,
                a_row,
                a_k,
                source_k,
                c_row,
                valid,
                least,
                own,
                own_row,
                stretch,
                shift,
            )
        if gate.size and w < width:
            _shut(c[:, j:], gate[:, j:])
    return room.size  # Numba frees an array after its last use, and addresses do not count


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
                c[i, j] = floor if c[i, j] < floor else c[i, j]  # NaN stays
    if gate.size:
        _shut(c, gate)


@kernel
def _add(c: Any, bias: Any) -> None:
    for i in range(c.shape[0]):
        for j in range(c.shape[1]):
            c[i, j] += bias[j]


@kernel
def _product_of_rows(c: Any, a: Any, b: Any, bias: Any) -> Any:
    """The same for a b of few columns, unscaled, where rows of a are contiguous: dot products with columns of b."""
    m, k = a.shape
    n = b.shape[1]
    size = c.itemsize
    rows, columns = DOTS
    from_a, from_b, to_c = a.ctypes.data, b.ctypes.data, c.ctypes.data
    a_row, b_row, c_row = a.strides[0], b.strides[1], c.strides[0]
    apart = k + BORDER // size  # not a page, see above
    count = 0 if b.strides[0] == size else n * apart
    turned = near(c) if count * size <= NEAR else np.empty(count, c.dtype)
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
    return turned.size  # see above


@kernel
def _product_across(c: Any, a: Any, b: Any, bias: Any, scales: Any) -> Any:
    """The same for a b of few columns, unscaled, where columns of a are contiguous: vectors run along them."""
    m, k = a.shape
    n = b.shape[1]
    size = c.itemsize
    lanes = VECTOR_BYTES // size
    both, least = 2 * lanes, c.dtype.type(-math.inf)
    count = (k + n + 1) * both + BORDER // size
    room = near(c) if count * size <= NEAR else np.empty(count, c.dtype)
    start = (room.ctypes.data + BORDER - 1) // BORDER * BORDER
    aside, panel = start + both * size, start + (n + 1) * both * size
    _set(c, start, both, 0)
    from_b = b.ctypes.data
    (b_k, b_col), a_k = b.strides, a.strides[1]
    for i in range(0, m, both):
        w = min(both, m - i)
        width = both if w > lanes else lanes
        source, source_k = a.ctypes.data + i * size, a_k
        if w < width:
            _copied(c, panel, source, k, w, width, a_k, size, scales, np.int64(NOT_SCALED), start, start)
            source, source_k = panel, width * size
        if width == both:
            _wide_tiles(
                c, aside, from_b, source, start, n, k, b_col, b_k, source_k, width * size, lanes, least, 0, 0, 0, 0
            )
        else:
            _thin_tiles(
                c, aside, from_b, source, start, n, k, b_col, b_k, source_k, width * size, lanes, least, 0, 0, 0, 0
            )
        for q in range(w):
            for j in range(n):
                x = number_at(c, aside + (j * width + q) * size)
                c[i + q, j] = x + bias[j] if bias.size else x
    return room.size  # see above


@kernel
def multiply_cut(c: Any, a: Any, b: Any, bias: Any, scales: Any, scaling: Any, floor: Any, gate: Any) -> None:
    """c ← a·b + bias for matrices in any layout, c with rows side by side; `scales` multiply b as `scaling` says.

    What is below `floor` becomes `floor`; with a gate of the shape of c, what has no number above 0 there becomes 0.
    float32 on one core: 1.2 times as fast as OpenBLAS over small networks, 2 times at (256, 784)·(784, 10).
    """
    size = c.itemsize
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
    both = 2 * (VECTOR_BYTES // c.itemsize)
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
