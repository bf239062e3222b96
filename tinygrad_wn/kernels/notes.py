"""What is noted of a step of v: its lengths before the step, and how the step changes it, slice by slice.

Notes have the shape (steps, kinds, slices) and the dtype of v; kernels are told the row of a step as its `place`.
Squares of float32 are summed in float32, lane by lane, over no more than LIMIT numbers: a conversion takes longer than
the sum. The notes are taken by the pass over memory that updates v: it waits for memory, and has time for two more
sums.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import carray

from ..shapes import axes_of
from .address import pointer_at
from .changes import look_1
from .jit import counting, kernel
from .layouts import AnyLayout
from .measure import ROWS, largest, measure_inverse, power_for
from .norm import sliced
from .room import NEAR, near
from .vector import size_of

if TYPE_CHECKING:
    from ..domains import Array, Axis

NORM, REST, G, CHANGE, ALONG = range(5)
"""Kinds of notes: ‖v‖ before the step, and what it loses as a number of this dtype; g before the step; then
‖Δv‖²/‖v‖² and v·Δv/‖v‖².
"""

LIMIT = NEAR // 8
"""Numbers that are looked at before their sums are gathered: as many as fit into `near`, whatever their dtype."""


@counting
def kind_of(notes: Any, kind: Any) -> Any:
    """One kind of the notes of a step, whose slices lie side by side."""
    return carray(pointer_at(notes, notes.ctypes.data + kind * notes.strides[0]), (notes.shape[1],))


@kernel
def is_plain(v: Any, norm: Any) -> Any:
    """Whether squares of the numbers of a row, and of their change, can be summed as they are: none is lost."""
    if size_of(v) == 4:
        return (norm > 2.0**-40) & (norm < 2.0**40)
    return (norm > 2.0**-400) & (norm < 2.0**400)


@kernel
def add_slowly(notes: Any, i: Any, old: Any, new: Any) -> None:
    """Add the change of one row of any length and layout, in float64 and over ‖v‖²."""
    norm, change, along = np.float64(notes[NORM, i]), 0.0, 0.0
    for j in range(old.size):
        part, move = np.float64(old[j]) / norm, (np.float64(new[j]) - np.float64(old[j])) / norm
        change += move * move
        along += move * part
    by = notes[NORM, i] ** 2 if is_plain(new, notes[NORM, i]) else new.dtype.type(1)
    notes[CHANGE, i] += change * by
    notes[ALONG, i] += along * by


@kernel
def begin_notes(notes: Any) -> None:
    change, along = kind_of(notes, CHANGE), kind_of(notes, ALONG)
    for i in range(change.size):
        change[i] = along[i] = 0.0


@kernel
def finish_notes(notes: Any, v: Any) -> None:
    """Give what was summed as it is over ‖v‖²."""
    norms, change, along = kind_of(notes, NORM), kind_of(notes, CHANGE), kind_of(notes, ALONG)
    one = v.dtype.type(1)
    for i in range(norms.size):
        inverse = one / (norms[i] * norms[i])
        by = inverse if is_plain(v, norms[i]) else one
        change[i] *= by
        along[i] *= by


@kernel
def note_changes(notes: Any, place: Any, old: Any, new: Any) -> None:
    """The notes of a change from `old` to `new`, whose rows are the slices, in any layout."""
    own, row, size = notes[place], new.strides[0], size_of(new)
    change, along = kind_of(own, CHANGE).ctypes.data, kind_of(own, ALONG).ctypes.data
    near_by = new.shape[1] == 1 or new.strides[1] == size
    same = new.strides == old.strides
    begin_notes(own)
    for i in range(new.shape[0]):
        if near_by and same and is_plain(new, own[NORM, i]):
            for j in range(0, new.shape[1], LIMIT):
                width = min(new.shape[1] - j, LIMIT)
                look_1((old, new), (), change + size * i, along + size * i, i * row + j * size, width, row, 0)
        else:
            add_slowly(own, i, old[i], new[i])
    finish_notes(own, new)


@kernel
def note_lengths(notes: Any, place: Any, kept: Any, g: Any) -> None:
    """The notes of slices that were measured, with their g: `kept` holds scales and inverse lengths."""
    own = notes[place]
    norms, rest, lengths = kind_of(own, NORM), kind_of(own, REST), kind_of(own, G)
    scale, inverse = kind_of(kept, 0), kind_of(kept, 1)
    for i in range(norms.size):
        norm = 1.0 / (inverse[i] * scale[i])  # a power of two: no product of the two leaves the range
        norms[i] = norm
        rest[i] = norm - norms[i] if norms[i] < np.inf else 0.0
        lengths[i] = g[i]


@kernel
def _measure_slowly(kept: Any, v: Any) -> None:
    """Scales and inverse lengths of rows of any layout."""
    for i in range(v.shape[0]):
        kept[0, i] = scale = power_for(largest(v, i))
        squares = 0.0
        for x in v[i]:
            squares += (x * scale) ** 2
        kept[1, i] = 1.0 / math.sqrt(squares)


@kernel
def measure_lengths(notes: Any, place: Any, v: Any, g: Any) -> None:
    """The notes of slices that are the rows of v."""
    kept = near(np.float64)[: 2 * ROWS].reshape(2, ROWS)
    for i in range(0, v.shape[0], ROWS):
        j = min(i + ROWS, v.shape[0])
        if v.shape[1] == 1 or v.strides[1] == size_of(v):
            measure_inverse(kept[0], kept[1], v[i:j])
        else:
            _measure_slowly(kept, v[i:j])
        note_lengths(notes[:, :, i:j], place, kept, g[i:j])


_MEASURE = AnyLayout(measure_lengths, "out 3, count, in 2, in 1 C")
_CHANGES = AnyLayout(note_changes, "out 3, count, in 2, in 2")


def _own(notes: Array, given: Array, place: Any, every: int, *arrays: Array) -> bool:
    """Whether kernels can write to `notes`, which begin as those that are given."""
    kinds = {x.dtype.char for x in (notes, *arrays)}
    if not notes.flags.c_contiguous or kinds not in ({"f"}, {"d"}) or not 0 <= int(place) < every * len(notes):
        return False
    if notes is not given:
        np.copyto(notes, given)
    return True


def _rows(arrays: tuple[Array, ...], axis: Axis) -> list[Array] | None:
    """Matrices whose rows are the slices."""
    found = sliced(arrays, () if axis is None else axes_of(axis, arrays[0].ndim))
    return None if found is None else [x.T for x in found[1]] if found[0] else found[1]


def noted_lengths(out: Array, notes: Array, place: Any, v: Array, g: Array, *, axis: Axis, every: int) -> bool:
    """‖v‖ and g: 15 times as fast as its definition for a (64, 64) array of float32 and notes of 128 steps."""
    rows = _rows((v,), axis) if _own(out, notes, place, every, v, g) else None
    if rows is not None and (int(place) + 1) % every == 0:
        _MEASURE[v.itemsize](out, int(place) // every, rows[0], np.ascontiguousarray(g).reshape(-1))
    return rows is not None


def noted_changes(out: Array, notes: Array, place: Any, old: Array, new: Array, *, axis: Axis, every: int) -> bool:
    """How slices change: 12 times as fast as its definition for (64, 64) arrays of float32, notes of 128 steps."""
    rows = _rows((old, new), axis) if _own(out, notes, place, every, old, new) else None
    if rows is not None and (int(place) + 1) % every == 0:
        _CHANGES[old.itemsize](out, int(place) // every, *rows)
    return rows is not None
