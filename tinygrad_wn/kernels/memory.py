"""Arrays over addresses, for emitted steps: shapes and steps are constants, so that nothing is unpacked at run time.

`reads` and `writes` make arrays in any layout, as kernels take them; `reads_c` and `writes_c` make contiguous ones. An
array object of the caller is looked at where it lies: `fits` compares it with a model, `numbers_of` says where its
numbers are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.np import arrayobj

from .address import pointer_at
from .bundle import DATA, DTYPE, FLAGS, ITEMS, LETTERS, NDIM, READABLE, SHAPE, TYPE
from .jit import kernel
from .vector import piece

SWAPPED = ord(">" if sys.byteorder == "little" else "<")
"""The letter of dtypes whose bytes lie the other way round, after those of their kind and type."""


def _viewer(layout: str, readonly: bool) -> Any:
    def view(_typing: Any, dtype: Any, address: Any, shape: Any, steps: Any) -> Any:
        kind = types.Array(dtype.dtype, len(shape), layout, readonly=readonly)

        def build(context: Any, at: Any, signature: Any, arguments: Any) -> Any:
            _, address, shape, steps = arguments
            array = arrayobj.make_array(kind)(context, at)
            whole: Callable[..., Any] = arrayobj.populate_array
            number = context.get_data_type(kind.dtype)
            size = context.get_constant(types.intp, context.get_abi_sizeof(number))
            sizes, distances = (cgutils.unpack_tuple(at, one, kind.ndim) for one in (shape, steps))
            data = at.inttoptr(address, number.as_pointer())
            whole(array, data=data, shape=sizes, strides=distances, itemsize=size, meminfo=None)
            return array._getvalue()

        return kind(dtype, types.int64, shape, steps), build

    return piece(view)


reads, writes = _viewer("A", readonly=True), _viewer("A", readonly=False)
reads_c, writes_c = _viewer("C", readonly=True), _viewer("C", readonly=False)


@kernel
def length(given: Any) -> Any:
    """How many items a tuple has."""
    return pointer_at(np.int64, given)[ITEMS - 1]


@kernel
def item(given: Any, place: Any, kind: Any, slot: Any, wants: Any, true: Any) -> Any:
    """The object that is this item of a tuple, or the one that it holds in a slot, if it is of this kind.

    One that holds `true` in its slot `wants` is none that a step takes: the tuple itself stands for it.
    """
    one = pointer_at(np.int64, given)[ITEMS + place]
    words = pointer_at(np.int64, one)
    if words[TYPE] != kind:
        return one
    return given if words[wants] == true else words[slot]


@kernel
def fits(one: Any, model: Any) -> Any:
    """Whether an object is an array of the type, shape and dtype of a model, contiguous and aligned."""
    words, model_words = pointer_at(np.int64, one), pointer_at(np.int64, model)
    if words[TYPE] != model_words[TYPE]:
        return False
    letters = pointer_at(np.int32, words[DTYPE])[LETTERS]
    if (letters ^ pointer_at(np.int32, model_words[DTYPE])[LETTERS]) & 0xFFFF or letters >> 16 & 0xFF == SWAPPED:
        return False
    halves, model_halves = pointer_at(np.int32, one), pointer_at(np.int32, model)
    if halves[FLAGS] & READABLE != READABLE or halves[NDIM] != model_halves[NDIM]:
        return False
    shape, wanted = pointer_at(np.int64, words[SHAPE]), pointer_at(np.int64, model_words[SHAPE])
    different = 0
    for i in range(halves[NDIM]):
        different |= shape[i] ^ wanted[i]
    return different == 0


@kernel
def apart(one: Any, size: Any, ranges: Any) -> Any:
    """Whether an array of `size` bytes has none in common with some ranges: how many, then the ends of each."""
    words = pointer_at(np.int64, ranges)
    first, common = pointer_at(np.int64, one)[DATA], 0
    for i in range(words[0]):
        common |= (first < words[2 * i + 2]) & (words[2 * i + 1] < first + size)
    return common == 0


@kernel
def numbers_of(one: Any) -> Any:
    """Where the numbers of an array begin."""
    return pointer_at(np.int64, one)[DATA]
