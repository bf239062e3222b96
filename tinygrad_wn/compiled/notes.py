"""How notes of a step of v are written: into rows of memory that only a recorder reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..shapes import axes_of
from .calls import Call, View
from .lower import turned
from .rules import alike, vector
from .sweep import copy
from .writer import Writer, rule, shared

if TYPE_CHECKING:
    from ..domains import Axis
    from .plan import Stage


def row_of(to: Writer, call: Call) -> str:
    """Which row of notes a step writes, where it does."""
    place, every = to.number(call.given[1]), call.params["every"]
    return place if every == 1 else f"{place} // {every}"


def add_noted(to: Writer, call: Call, noted: str, plain: str = "") -> None:
    """Write a call for steps of which notes are taken, and one for all others.

    The step decides, where `every` is known: a kernel would divide by it, 90 cycles on some processors.
    """
    place, every = to.number(call.given[1]), call.params["every"]
    if every == 1:
        to.add(noted)
        return
    to.add(f"if ({place} + 1) % {every} == 0:")
    to.add(f"    {noted}")
    if plain:
        to.add("else:")
        to.add(f"    {plain}")


@shared("note_lengths")
def note_known(to: Writer, stage: Stage) -> None:
    """Lengths that are known, and g."""
    call = stage.calls[0]
    notes, _, _, g, kept = call.given
    own = [to.part(notes, "writes", 2), row_of(to, call), to.part(kept, "reads", 1), to.flat_part(g, "reads_c")]
    add_noted(to, call, to.linked_call("notes", "note_lengths", own, g.dtype))


@rule("note_lengths", "note_changes")
def note(to: Writer, call: Call) -> bool:
    """Slices of v that are measured, or compared with the old ones, slice by slice."""
    (notes, _, v, other), into = call.given, call.results[0]
    lengths = call.op.name == "note_lengths"
    slices = [_slices(x, call.params["axis"]) for x in ((v,) if lengths else (v, other))]
    row = vector(other) if isinstance(other, View) else None
    if None in slices or row is None or not alike(notes, v, other, into) or not into.whole:
        return False
    if into != notes:
        copy(to, into, notes)
    arguments = [to.view(into, "writes"), row_of(to, call)]
    arguments += [to.view(x, "reads") for x in slices if x is not None]
    arguments += [to.view(row, "reads_c")] if lengths else []
    add_noted(to, call, to.linked_call("notes", "measure_lengths" if lengths else "note_changes", arguments, v.dtype))
    return True


def _slices(x: Any, axis: Axis) -> View | None:
    """A matrix whose rows are the slices of a matrix."""
    if not isinstance(x, View) or len(x.shape) != 2 or x.dtype.char not in "fd" or not x.size:
        return None
    kept = () if axis is None else axes_of(axis, 2)
    if len(kept) == 1:
        return turned(x) if kept[0] else x
    row = vector(x)
    shape = (1, x.size) if not kept else (x.size, 1)
    return None if row is None else View(x.memory, x.start, shape, (row.steps[0], row.steps[0]), x.dtype)
