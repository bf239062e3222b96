"""What is noted of a step of v, for `tg.NormRecorder`: old values and new ones in, notes out; `.into` adds to them.

Notes have the shape (steps, kinds, slices). The kinds are ‖v‖ as a sum of two numbers, g, ‖Δv‖²/‖v‖² and v·Δv/‖v‖².
Step number `place` counts from 0; with `every`, one in so many steps is noted, the last of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import kernels
from ..domains import Array, Axis, Integer, NonZero, Real, Shape
from ..op import case, op
from ..shapes import Misfit, other_axes
from .norm import g_shape, lengths

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = 5


def _noted(second: Callable[[Shape, Axis], Shape], what: str) -> Callable[..., Shape]:
    def rule(notes: Shape, place: Shape, v: Shape, other: Shape, *, axis: Axis, every: int) -> Shape:
        expected = second(v, axis)
        if place:
            raise Misfit("place must be a number, or an array of shape []")
        if other != expected:
            raise Misfit(f"{what} must have shape {list(expected)}")
        if len(notes) != 3 or notes[1:] != (KINDS, int(np.prod(g_shape(v, axis)))):
            raise Misfit(f"notes must have shape [steps, {KINDS}, slices of v]")
        return notes

    return rule


@op(
    cases=[case("(3,5,o),():3,(o,i),(o,1)", axis=0), case("(3,5,i),():6,(o,i),(1,i)", axis=1, every=2)],
    shape=_noted(g_shape, "g"),
    kernel=kernels.noted_lengths,
    gradient=False,
    inplace=True,
)
def note_lengths(notes: Real, place: Integer, v: NonZero, g: Real, axis: Axis = 0, every: int = 1) -> Array:
    """The notes with ‖v‖ and g, slice by slice, of step number `place`.

    >>> from tinygrad_wn.ops.notes import note_lengths
    >>> note_lengths(np.zeros((1, 5, 1)), 0, np.array([[3.0, 4.0]]), np.array([[7.0]]))[0, :3, 0]
    Tensor([5., 0., 7.], dtype=float64)
    """
    new, row = np.array(notes), place // every
    if (place + 1) % every == 0:
        norm = lengths(v, other_axes(axis, np.ndim(v))).reshape(-1)
        new[row, 0], new[row, 2] = norm, np.reshape(g, -1)
        new[row, 1] = np.where(np.isinf(new[row, 0]), 0, norm - new[row, 0])
    return new


@op(
    cases=[case("(3,5,o),():3,(o,i),(o,i)", axis=0), case("(3,5,1),():6,(o,i),(o,i)", axis=None, every=2)],
    shape=_noted(lambda v, _: v, "new"),
    kernel=kernels.noted_changes,
    gradient=False,
    inplace=True,
)
def note_changes(notes: Real, place: Integer, old: NonZero, new: NonZero, axis: Axis = 0, every: int = 1) -> Array:
    """The notes with ‖Δv‖²/‖v‖² and v·Δv/‖v‖², slice by slice, for a step from v = `old`, whose ‖v‖ is noted already.

    >>> from tinygrad_wn.ops.notes import note_changes
    >>> notes = np.array([[[5.0], [0.0], [1.0], [0.0], [0.0]]])
    >>> note_changes(notes, 0, np.array([[3.0, 4.0]]), np.array([[3.0, 5.0]]))[0, 3:, 0]
    Tensor([0.04, 0.16], dtype=float64)
    """
    found, row, rest = np.array(notes), place // every, other_axes(axis, np.ndim(old))
    if (place + 1) % every == 0:
        norm = found[row, 0].astype(np.float64).reshape(g_shape(np.shape(old), axis))
        before = np.asarray(old, np.float64)
        move, part = (np.asarray(new, np.float64) - before) / norm, before / norm
        found[row, 3], found[row, 4] = (np.sum(move * x, axis=rest).reshape(-1) for x in (move, part))
    return found
