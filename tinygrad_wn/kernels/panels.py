"""Panels of a matrix product: two vectors of columns, all rows of which are made before the next; and copies of panels.

A panel of b whose rows are not contiguous is turned or copied, and scaled on the way.
"""

from __future__ import annotations

from typing import Any

from .jit import inlined, kernel
from .tiles import ROWS, part_of_row, square, tile, vector_of_row
from .vector import VECTOR_BYTES, number_at, put_at, size_of

NOT_SCALED, BY_COLUMN, BY_ROW, PADDED, STRETCHED = 0, 1, 2, 3, 4
"""What is done to b on its way: nothing, its columns or rows scaled; PADDED: nothing, and its rows may be read to the
end of a vector; STRETCHED: the same, and columns of the product are multiplied by `scales[0]`.
"""

PAGE = 4096
"""Rows that lie this far apart, or a multiple, push one another out of the first cache if they are more than eight."""

_wide, _wide_4, _wide_2, _wide_1 = (tile(rows, 2) for rows in (ROWS, 4, 2, 1))
_thin_16, _thin_8, _thin_4, _thin_2, _thin_1 = (tile(rows, 1) for rows in (2 * ROWS, ROWS, 4, 2, 1))
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
    """Rows of a panel of c that is two vectors wide."""
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
def set_numbers(like: Any, to: Any, count: Any, number: Any) -> None:
    """Write the same number `count` times."""
    for i in range(count):
        put_at(like, to + i * size_of(like), like.dtype.type(number))


@kernel
def put_numbers(like: Any, to: Any, numbers: Any, first: Any, count: Any) -> None:
    """Copy some numbers of a vector to an address."""
    for i in range(count):
        put_at(like, to + i * size_of(like), numbers[first + i])


@inlined
def turned(
    like: Any, to: Any, b: Any, k: Any, w: Any, width: Any, b_col: Any, scaled: Any, scale: Any, factor: Any
) -> Any:
    """A panel of a matrix whose columns are contiguous."""
    size = size_of(like)
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
def copied(
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
    size = size_of(like)
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
def panel(
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
    if b_k == size_of(like) and b_col != size_of(like) and scaling != BY_ROW:
        turned(like, to, b, k, w, width, b_col, scaling == BY_COLUMN, scale, factor)
    else:
        copied(like, to, b, k, w, width, b_k, b_col, scales, scaling, scale, factor)


@inlined
def turn(to: Any, x: Any) -> None:
    """to ← xᵀ, for rows side by side; rows of `to` have room to the end of a vector, which is written too."""
    k, w, start, source = to.shape[0], to.shape[1], to.ctypes.data, x.ctypes.data
    turned(to, start, source, k, w, to.strides[0] // size_of(to), x.strides[0], False, start, start)


@kernel
def all_rows(
    wide: Any,
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
    """All rows of a panel of c."""
    rest = (like, c, a, b, start, m, k, a_row, a_k, b_k, c_row, valid, floor, gate, gate_row, stretch, shift)
    if wide:
        _wide_tiles(*rest)
    else:
        _thin_tiles(*rest)
