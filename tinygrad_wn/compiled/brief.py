"""What machine code has to know of a brief step to call it without Python in between."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..kernels import called
from ..kernels.address import place_in
from ..slot import changes, differentiated, slot
from ..tensor import Tensor, serials, wrap
from ..walk import Written, recording

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..domains import Array

_tensor, _written = wrap(np.empty(1)), Written([])
_tensor.grad, _written.serial = _tensor, 1 << 40
DATA, WANTS = place_in(_tensor, _tensor._data), place_in(_tensor, _tensor._wants)
"""The words of a tensor that point to its array, and to whether it requires a gradient."""
GRAD = place_in(_tensor, _tensor)
SERIAL, WAITS = place_in(_written, _written.serial), place_in(_written, _written.waits)


class Brief:
    """The words of a step, and two boxes for its result, which take turns; one that is not free then is replaced.

    `asked` holds what says whether values outside are the same, and what `changes` was when all else was: both at once,
    as machine code may read it at any time.
    """

    def __init__(
        self, table: int, result: tuple[Any, ...], written: Written, recorded: bool, current: Callable[..., bool]
    ) -> None:
        self.asked: list[object] = [bool, None]
        self.make = partial(_box, *result)
        self.boxes = [self.make(), self.make()]
        self.words = np.zeros(called.BOXES + 2 * called.BOX, np.int64)
        objects = {
            called.CURRENT: current,
            called.ASKED: self.asked,
            called.CHANGES: changes,
            called.OVER: slot.over,
            called.INSIDE: differentiated,
            called.RECORDING: recording,
            called.RECORDED: recorded,
            called.SERIALS: serials,
            called.MAKE: self.make,
            called.HELD: self.boxes,
            called.NONE: None,
            called.TRUE: True,
            called.FALSE: False,
        }
        numbers = {
            called.TABLE: table,
            called.WRITTEN: id(written) if written.writes else 0,
            called.SERIAL: SERIAL,
            called.WAITS: WAITS,
            called.GRAD: GRAD,
            called.WANTS: WANTS,
            called.WEAK: Tensor.__weakrefoffset__ // 8,
            called.NEXT: called.BOXES,
        }
        for place, number in numbers.items() | {place: id(one) for place, one in objects.items()}.items():
            self.words[place] = number
        self.words[called.BOXES :] = [id(one) for box in self.boxes for one in box]


def _box(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Tensor, Array, tuple[Array]]:
    array = np.empty(shape, dtype)
    return wrap(array), array, (array,)
