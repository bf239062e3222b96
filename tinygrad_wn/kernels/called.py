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

TABLE, CURRENT, ASKED, CHANGES, OVER, INSIDE, RECORDING, RECORDED = range(8)
"""Words of a step: its table; a function of it that looks at everything; a list of what says whether values outside are
the same, and what `changes` held; the list of `changes`; three context variables, and what the last one held."""
WRITTEN, SERIAL, WAITS, SERIALS = range(8, 12)
"""What notes when the step wrote, 0 for one that does not, and two places in it; the counter."""
GRAD, WANTS, WEAK, NONE, TRUE, FALSE = range(12, 18)
"""Three places in a tensor, the last one of weak references; three objects."""
MAKE, HELD, NEXT, BOXES = range(18, 22)
"""What makes a box; the list that holds both; where the next one is, and both of them, of BOX words each."""
TENSOR, ARRAY, RESULTS, BOX = range(4)
"""Words of a box: a tensor, its array and a tuple of that."""

COUNT = list.__basicsize__ // 8 - 3
"""Where a list says how many items it has, and, in the next word, where they are."""


def _known() -> bool:
    one = object()
    several = [one, one]
    items = ctypes.c_int64.from_address(id(several) + 8 * (COUNT + 1)).value
    held = ctypes.c_int32.from_address(id(one)).value
    return held == 3 and ctypes.c_int64.from_address(items).value == id(one)


KNOWN = _known()
"""Whether lists, and counts of who holds an object, lie where this file reads them. Where not, Python does all."""


def _python(name: str, count: int, gives: Any = WORD) -> Any:
    """A function of CPython of one, two or three words, to an LLVM type."""

    def build(context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        form = ir.FunctionType(gives, [WORD] * count)
        found = at.call(cgutils.get_or_insert_function(at.module, form, name), arguments)
        return at.sext(found, WORD) if isinstance(gives, ir.IntType) else context.get_dummy_value()

    kind = (types.int64 if isinstance(gives, ir.IntType) else types.void)(*[types.int64] * count)
    if count == 1:
        return piece(lambda _typing, one: (kind, build))
    if count == 2:
        return piece(lambda _typing, one, two: (kind, build))
    return piece(lambda _typing, one, two, three: (kind, build))


called_alone, called_on = _python("PyObject_CallNoArgs", 1), _python("PyObject_CallOneArg", 2)
called_with = _python("PyObject_Call", 3)
hold, let_go = _python("Py_IncRef", 1, ir.VoidType()), _python("Py_DecRef", 1, ir.VoidType())
next_of, put_in_list = _python("PyIter_Next", 1), _python("PyList_SetItem", 3, INDEX)


@kernel
def item_of(several: Any, i: Any) -> Any:
    """An item of a list."""
    return pointer_at(np.int64, pointer_at(np.int64, several)[COUNT + 1])[i]


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
def _as_recorded(words: Any, step: Any) -> Any:
    """Whether nothing is there that Python has to look at; -1 for an error."""
    if not _holds(words[OVER], words[NONE]) or not _holds(words[INSIDE], words[FALSE]):
        return 0
    if not _holds(words[RECORDING], words[RECORDED]):
        return 0
    asked, changes = words[ASKED], words[CHANGES]
    unchanged = item_of(changes, 0) == item_of(asked, 1)
    same = called_alone(item_of(asked, 0)) if unchanged else called_on(words[CURRENT], step)
    if same == 0:
        return -1
    let_go(same)
    if same != words[TRUE] or item_of(changes, 0) != item_of(asked, 1):
        return 0
    written = words[WRITTEN]
    return 1 if written == 0 or pointer_at(np.int64, written)[words[WAITS]] == words[TRUE] else 0


@kernel
def _free(words: Any, box: Any) -> Any:
    """Whether nobody holds the tensor of a box, nor its array, and there is nothing on it."""
    tensor, array = words[box + TENSOR], words[box + ARRAY]
    slots = pointer_at(np.int64, tensor)
    holders = pointer_at(np.int32, tensor)[0], pointer_at(np.int32, array)[0]
    plain = slots[words[GRAD]] == words[NONE] and slots[words[WANTS]] == words[FALSE] and slots[words[WEAK]] == 0
    return holders == (1, 3) and plain


@kernel
def _renewed(words: Any, box: Any) -> Any:
    """Put a new box in the place of one that is not free; False for an error."""
    made = called_alone(words[MAKE])
    if made == 0:
        return False
    for i in range(BOX):
        words[box + i] = pointer_at(np.int64, made)[ITEMS + i]
    put_in_list(words[HELD], (box - BOXES) // BOX, made)
    return True


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
def _result(step: Any, words: Any, given: Any) -> Any:
    """The result of a step for a tuple of arguments, -1 where Python has to look, 0 for an error."""
    box = words[NEXT]
    if not _free(words, box) and not _renewed(words, box):
        return 0
    recorded = _as_recorded(words, step)
    if recorded < 0:
        return 0
    if not recorded or not _free(words, box) or run_first(given, words[box + RESULTS], words[TABLE]) != 0:
        return -1
    _note(words)
    words[NEXT] = 2 * BOXES + BOX - box
    hold(words[box + TENSOR])
    return words[box + TENSOR]


@kernel
def called(state: Any, given: Any, named: Any) -> Any:
    """The result of a step for a tuple of arguments, or that of a Python function, or 0 for an error.

    `state` is a tuple: of a list that is empty, or holds a step and the array of its words; and of the Python function.
    """
    items = pointer_at(np.int64, state)
    hot, found = items[ITEMS], -1
    if pointer_at(np.int64, hot)[COUNT] == 2 and named == 0:
        step = item_of(hot, 0)
        hold(step)  # and with it all that the words speak of, whatever Python does meanwhile
        found = _result(step, pointer_at(np.int64, pointer_at(np.int64, item_of(hot, 1))[DATA]), given)
        let_go(step)
    return called_with(items[ITEMS + 1], given, named) if found == -1 else found
