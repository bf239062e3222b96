"""Updates that take notes of how they change the rows of v, in the pass over memory that changes them."""

from __future__ import annotations

from typing import Any

from .changes import look_1, look_1_across, look_4, look_4_across
from .equation_3 import across_factors, pull_back_apart
from .jit import inlined, kernel
from .measure import ROWS
from .memory import writes_c
from .notes import ALONG, CHANGE, LIMIT, NORM, add_slowly, begin_notes, finish_notes, is_plain, kind_of
from .room import near
from .rows import TOGETHER
from .vector import size_of


@inlined
def _all_plain(notes: Any, p: Any) -> Any:
    plain = True
    for norm in kind_of(notes, NORM):
        plain &= is_plain(p, norm)
    return plain


@kernel
def _update_rows(notes: Any, p: Any, i: Any, end: Any, plain: Any, count: Any, arrays: Any, numbers: Any) -> None:
    """Update some rows of `count` numbers, and add what changes to the notes of the step; p has the first in a row."""
    change, along, size = kind_of(notes, CHANGE).ctypes.data, kind_of(notes, ALONG).ctypes.data, size_of(p)
    norms, old, aside, row = kind_of(notes, NORM), near(p), near(p).ctypes.data, count * size_of(p)
    while i < end:
        many = TOGETHER if plain and end - i >= TOGETHER else 1
        for j in range(0, count, LIMIT):
            first, width = i * count + j, min(count - j, LIMIT)
            at, to, by = first * size, change + size * i, along + size * i
            if many == TOGETHER:
                look_4(arrays, numbers, to, by, at, width, row, 0)
            elif plain or is_plain(p, norms[i]):
                look_1(arrays, numbers, to, by, at, width, row, 0)
            else:
                for k in range(width):
                    old[k] = p[first + k]
                look_1(arrays, numbers, aside, aside + size, at, width, row, 0)
                add_slowly(notes, i, old[:width], p[first : first + width])
        i += many


@inlined
def _update_rows_across(notes: Any, i: Any, end: Any, factors: Any, arrays: Any, numbers: Any) -> None:
    """The same for rows of float32 near to 1, with ∇w in the place of ∇v; `factors` begin with those of row i."""
    v = arrays[0]
    change, along, size = kind_of(notes, CHANGE).ctypes.data, kind_of(notes, ALONG).ctypes.data, size_of(v)
    count, start = v.shape[1], factors.ctypes.data - size * i
    while i < end:
        many = TOGETHER if end - i >= TOGETHER else 1
        for j in range(0, count, LIMIT):
            at, width, to, by = (i * count + j) * size, min(count - j, LIMIT), change + size * i, along + size * i
            if many == TOGETHER:
                look_4_across(arrays, numbers, to, by, at, width, count * size, start + size * i)
            else:
                look_1_across(arrays, numbers, to, by, at, width, count * size, start + size * i)
        i += many


@kernel
def update_noted(notes: Any, place: Any, count: Any, arrays: Any, numbers: Any) -> None:
    """`update`, and the notes of how it changes the slices, which are rows of `count` numbers."""
    own, p = notes[place], arrays[0]
    begin_notes(own)
    _update_rows(own, p, 0, own.shape[1], _all_plain(own, p), count, arrays, numbers)
    finish_notes(own, p)


@kernel
def pull_back_and_update_noted(notes: Any, place: Any, dg: Any, kept: Any, g: Any, arrays: Any, numbers: Any) -> None:
    """`pull_back_and_update`, and the notes of how it changes the rows of v."""
    taken, v, ct = notes[place], arrays[0], arrays[-1]
    n, size, room, plain = v.shape[1], size_of(v), near(v), _all_plain(taken, v)
    row = writes_c(v, v.ctypes.data, (v.size,), (size,))
    begin_notes(taken)
    for i in range(0, v.shape[0], ROWS):
        j = min(i + ROWS, v.shape[0])
        own = (kept[:, i:j], ct[i:j], v[i:j], g[i:j])
        if plain and size == 4 and n > 1 and across_factors(dg[i:j], room, *own):
            _update_rows_across(taken, i, j, room, arrays, numbers)
        else:
            pull_back_apart(ct[i:j], dg[i:j], own[0], *own[1:])
            _update_rows(taken, row, i, j, plain, n, arrays, numbers)
    finish_notes(taken, v)
