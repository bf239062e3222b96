"""Many arrays in one argument: a kernel gets the tuple that they are in, and finds and checks them itself.

Numba takes 70 ns and more to unpack each argument, and Python as long for each question about an array. A kernel reads
the answers in 1 ns from the objects, which lie in memory as the binary interfaces of CPython and NumPy say; `KNOWN` is
whether they do. Nothing is kept between calls, so no address outlives its array.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from ..domains import Array
from .address import pointer_at
from .jit import counting, kernel
from .vector import size_of

ITEMS, HEAD = tuple.__basicsize__ // 8, object.__basicsize__ // 8
TYPE, DATA, SHAPE, DTYPE = HEAD - 1, HEAD, HEAD + 2, HEAD + 5
"""Where a tuple has its first item, an object its type, and an array its fields, in words of 8 bytes."""

NDIM, FLAGS, LETTERS = 2 * HEAD + 2, 2 * HEAD + 12, 2 * HEAD + 2
"""Fields of half a word: of an array the number of axes and the flags, of a dtype what it is in letters."""

READABLE, WRITABLE = 0x101, 0x501
"""Flags of an array that is C-contiguous and aligned; and writable."""

ARRAY = id(np.ndarray)
"""The type of arrays. Kernels are told it, as machine code outlives the process in which it has this address."""

LIKE: dict[str, Array] = {letter: np.empty(0, letter) for letter in "fd"}
"""Arrays that tell a kernel which dtype to expect."""


def _known() -> bool:
    probe = np.empty((2, 3), np.float32)[:1]
    items = (None, probe)

    def read(at: int, kind: Any, place: int, count: int = 1) -> list[Any]:
        return list((kind * count).from_address(at + ctypes.sizeof(kind) * place))

    word, half, at = ctypes.c_int64, ctypes.c_int32, id(probe)
    (shape,), (dtype,) = read(at, word, SHAPE), read(at, word, DTYPE)
    return (
        read(id(items), word, ITEMS + 1) == [at]
        and read(at, word, TYPE) == [ARRAY]
        and read(at, word, DATA) == [probe.ctypes.data]
        and read(at, half, NDIM) == [2]
        and read(at, half, FLAGS) == [probe.flags.num]
        and read(shape, word, 0, 2) == [1, 3]
        and dtype == id(probe.dtype)
        and read(dtype, ctypes.c_char, 4 * LETTERS, 4)[:3] == [b"f", b"f", b"="]
    )


KNOWN = _known()
"""Whether objects look as this file expects. Where not, its kernels take no call."""


@kernel
def _size(one: Any, model: Any, array: Any, flags: Any, like: Any) -> Any:
    """How many numbers the array at `one` holds; -1 unless it has the shape of `model`, the flags and the dtype."""
    words, halves, like_words = pointer_at(np.int64, one), pointer_at(np.int32, one), pointer_at(np.int64, model)
    if words[TYPE] != array or like_words[TYPE] != array or halves[FLAGS] & flags != flags:
        return -1
    letters = pointer_at(np.int32, words[DTYPE])[LETTERS] & 0xFFFFFF
    if letters != (0x3D6666 if size_of(like) == 4 else 0x3D6466):  # "ff=" or "fd=": floats, and of native byte order
        return -1
    ndim, size = halves[NDIM], 1
    if pointer_at(np.int32, model)[NDIM] != ndim:
        return -1
    shape, wanted = pointer_at(np.int64, words[SHAPE]), pointer_at(np.int64, like_words[SHAPE])
    for i in range(ndim):
        if shape[i] != wanted[i]:
            return -1
        size *= shape[i]
    return size


@kernel
def _apart(ranges: Any, written: Any, count: Any) -> Any:
    """Whether none of the first `written` ranges of memory overlaps with another one."""
    starts, ends = pointer_at(np.int64, ranges[0].ctypes.data), pointer_at(np.int64, ranges[1].ctypes.data)
    for i in range(written):
        clash = 0
        for j in range(i + 1, count):
            clash |= (starts[i] - ends[j]) & (starts[j] - ends[i])  # below 0 where both differences are
        if clash < 0:
            return False
    return True


@kernel
def _start(table: Any, outs: Any, like: Any) -> Any:
    """Copy the old values to where the new ones will be, unless they are there."""
    for row in table:
        for i in range(outs):
            to, source = pointer_at(like, row[i]), pointer_at(like, row[outs + i])
            if row[i] != row[outs + i]:
                for j in range(row[-1]):
                    to[j] = source[j]


@counting
def unbundled(bundle: Any, count: Any, array: Any, like: Any, scalars: Any, outs: Any, ins: Any) -> Any:
    """A row for each parameter: addresses of its `outs` results and its `ins` inputs, and how many numbers each holds.

    The tuple at `bundle` holds the results for all parameters, then some scalars, then the inputs. The first inputs
    of a parameter are what its results replace: they may be the very same arrays, and else their values are copied
    there. There are no rows, and nothing is copied, unless all arrays of a parameter have one shape, the dtype of
    `like` and contiguous memory, and results memory of their own.
    """
    each = outs + ins
    rows = (count - scalars) // each if (count - scalars) % each == 0 else 0
    table, ranges = np.empty((rows, each + 1), np.int64), np.empty((2, rows * each), np.int64)
    others = rows * outs
    for row in range(rows):
        results = pointer_at(np.int64, bundle + 8 * (ITEMS + row * outs))
        inputs = pointer_at(np.int64, bundle + 8 * (ITEMS + rows * outs + scalars + row * ins))
        for i in range(each):
            one = results[i] if i < outs else inputs[i - outs]
            size = _size(one, inputs[0], array, WRITABLE if i < outs else READABLE, like)
            if size < 0:
                return table[:0]
            place = row * outs + i
            table[row, i], table[row, each] = pointer_at(np.int64, one)[DATA], size
            if i >= outs:
                if i < 2 * outs and one == results[i - outs]:
                    continue
                place = others
                others += 1
            ranges[0, place], ranges[1, place] = table[row, i], table[row, i] + size * size_of(like)
    if not _apart(ranges, rows * outs, others):
        return table[:0]
    _start(table, outs, like)
    return table
