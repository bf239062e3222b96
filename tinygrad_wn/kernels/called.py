"""Calls of brief steps without Python in between: machine code asks what a step depends on, runs it, gives its result.

CPython hands over the arguments as they came. All that is not as it was recorded is left to Python: any other question,
status, or keyword. The GIL is held throughout, so nothing else happens between looking at an object and using it, but
in the one function of Python that is asked first.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .address import pointer_at
from .bundle import DATA, ITEMS
from .jit import kernel
from .team import run_first
from .vector import INDEX, WORD, piece, word

TABLE, SAME, CHANGES, SEEN, OVER, INSIDE, RECORDING, RECORDED = range(8)
"""Words of a step: its table; what says whether values outside are the same; the list of `changes` and what it held;
three context variables, and what the last one held."""
WRITTEN, SERIAL, WAITS, SERIALS, GRAD, WANTS, NONE, TRUE, FALSE = range(8, 17)
"""What notes when the step wrote, 0 for one that does not, and two places in it; the counter; two places in a tensor;
three objects."""
MAKE, HELD, NEXT, BOXES = range(17, 21)
"""What makes a box; the list that holds both; where the next one is, and both of them, of BOX words each."""
TENSOR, ARRAY, RESULTS, BOX = range(4)
"""Words of a box: a tensor, its array and a tuple of that."""

LIST = list.__basicsize__ // 8 - 2
"""Where a list says where its items are."""


def _known() -> bool:
    one = object()
    several = [one, one]
    items = ctypes.c_int64.from_address(id(several) + 8 * LIST).value
    held = ctypes.c_int32.from_address(id(one)).value
    return held == 3 and ctypes.c_int64.from_address(items).value == id(one)


KNOWN = _known()
"""Whether lists, and counts of who holds an object, lie where this file reads them. Where not, Python does all."""


def _python(name: str, gives: bool = True) -> Any:
    """A function of CPython from an object to one, or to nothing."""

    def function(_typing: Any, one: Any) -> Any:
        def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
            form = ir.FunctionType(WORD if gives else ir.VoidType(), [WORD])
            found = at.call(cgutils.get_or_insert_function(at.module, form, name), arguments)
            return found if gives else context.get_dummy_value()

        return (types.int64 if gives else types.void)(types.int64), build

    return piece(function)


called_alone, next_of = _python("PyObject_CallNoArgs"), _python("PyIter_Next")
hold, let_go = _python("Py_IncRef", gives=False), _python("Py_DecRef", gives=False)


def _python_of_three(name: str, gives: Any) -> Any:
    """A function of CPython from three words to one of the LLVM type `gives`."""

    def function(_typing: Any, first: Any, second: Any, third: Any) -> Any:
        def build(_context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
            form = ir.FunctionType(gives, [WORD] * 3)
            return at.sext(at.call(cgutils.get_or_insert_function(at.module, form, name), arguments), WORD)

        return types.int64(*[types.int64] * 3), build

    return piece(function)


called_with, put_in_list = _python_of_three("PyObject_Call", WORD), _python_of_three("PyList_SetItem", INDEX)


@piece
def _held_by(_typing: Any, variable: Any) -> Any:
    """What a context variable holds here, or its default; the caller holds it too from then on."""

    def build(_context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        place = cgutils.alloca_once_value(at, word(0))
        form = ir.FunctionType(INDEX, [WORD, WORD, WORD.as_pointer()])
        at.call(cgutils.get_or_insert_function(at.module, form, "PyContextVar_Get"), [arguments[0], word(0), place])
        return at.load(place)

    return types.int64(types.int64), build


@kernel
def _holds(variable: Any, value: Any) -> Any:
    """Whether a context variable holds this object."""
    found = _held_by(variable)
    let_go(found)
    return found == value


@kernel
def _as_recorded(words: Any) -> Any:
    """Whether nothing is there that Python has to look at; -1 for an error."""
    if not _holds(words[OVER], words[NONE]) or not _holds(words[INSIDE], words[FALSE]):
        return 0
    if not _holds(words[RECORDING], words[RECORDED]):
        return 0
    same = called_alone(words[SAME])
    if same == 0:
        return -1
    let_go(same)
    if same != words[TRUE] or pointer_at(np.int64, pointer_at(np.int64, words[CHANGES])[LIST])[0] != words[SEEN]:
        return 0
    written = words[WRITTEN]
    return 1 if written == 0 or pointer_at(np.int64, written)[words[WAITS]] == words[TRUE] else 0


@kernel
def _free(words: Any, box: Any) -> Any:
    """Whether nobody holds the tensor of a box, nor its array, and there is nothing on it."""
    tensor, array = words[box + TENSOR], words[box + ARRAY]
    slots = pointer_at(np.int64, tensor)
    holders = pointer_at(np.int32, tensor)[0], pointer_at(np.int32, array)[0]
    return holders == (1, 3) and slots[words[GRAD]] == words[NONE] and slots[words[WANTS]] == words[FALSE]


@kernel
def _next(words: Any) -> Any:
    """Where a box is that is free, now; a new one, if it must be; -1 for an error."""
    box = words[NEXT]
    if _free(words, box):
        return box
    box = words[NEXT] = 2 * BOXES + BOX - box
    if _free(words, box):
        return box
    made = called_alone(words[MAKE])
    if made == 0:
        return -1
    for i in range(BOX):
        words[box + i] = pointer_at(np.int64, made)[ITEMS + i]
    put_in_list(words[HELD], (box - BOXES) // BOX, made)
    return box


@kernel
def _note(words: Any) -> None:
    """Say that the step wrote just now."""
    if words[WRITTEN]:
        slots = pointer_at(np.int64, words[WRITTEN])
        now, before = next_of(words[SERIALS]), slots[words[SERIAL]]
        if now:
            slots[words[SERIAL]] = now
            let_go(before)


@kernel
def called(state: Any, given: Any, named: Any) -> Any:
    """The result of a step for a tuple of arguments, or that of a Python function, or 0 for an error.

    `state` is a tuple: of an array that says where the words of the step are, or 0, and of the Python function.
    """
    items = pointer_at(np.int64, state)
    where = pointer_at(np.int64, pointer_at(np.int64, items[ITEMS])[DATA])[0]
    if where and not named:
        words = pointer_at(np.int64, where)
        box = _next(words)
        recorded = _as_recorded(words) if box >= 0 else -1
        if recorded < 0:
            return 0
        if recorded and _free(words, box) and run_first(given, words[box + RESULTS], words[TABLE]) == 0:
            _note(words)
            words[NEXT] = 2 * BOXES + BOX - box
            hold(words[box + TENSOR])
            return words[box + TENSOR]
    return called_with(items[ITEMS + 1], given, named)
