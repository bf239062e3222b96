"""Updates that take notes of how they change the rows of v, in the pass over memory that changes them."""

from __future__ import annotations

from typing import Any

from .changes import look_1, look_1_across, look_4, look_4_across
from .equation_3 import across_factors, pull_back_rows
from .jit import inlined, kernel
from .measure import ROWS
from .memory import writes_c
from .notes import ALONG, CHANGE, LIMIT, NORM, add_slowly, begin_notes, finish_notes, is_plain, kind_of
from .room import near
from .rows import TOGETHER
from .rules import adam_numbers, adapt, descend, roll
from .steps import pull_back_and_adapt, pull_back_and_descend, pull_back_and_roll


@inlined
def _all_plain(notes: Any, p: Any) -> Any:
    plain = True
    for norm in kind_of(notes, NORM):
        plain &= is_plain(p, norm)
    return plain


@kernel
def _update_rows(notes: Any, p: Any, i: Any, end: Any, plain: Any, count: Any, rest: Any, numbers: Any) -> None:
    """Update some rows of `count` numbers, and add what changes to the notes of the step."""
    change, along, size = kind_of(notes, CHANGE).ctypes.data, kind_of(notes, ALONG).ctypes.data, p.itemsize
    norms, old, aside = kind_of(notes, NORM), near(p), near(p)
    while i < end:
        many = TOGETHER if plain and end - i >= TOGETHER else 1
        for j in range(0, count, LIMIT):
            first, width = i * count + j, min(count - j, LIMIT)
            at, to, by = first * size, change + size * i, along + size * i
            if many == TOGETHER:
                look_4(p, to, by, at, width, count * size, rest, numbers, 0)
            elif plain or is_plain(p, norms[i]):
                look_1(p, to, by, at, width, count * size, rest, numbers, 0)
            else:
                for k in range(width):
                    old[k] = p[first + k]
                look_1(p, aside.ctypes.data, aside.ctypes.data + size, at, width, count * size, rest, numbers, 0)
                add_slowly(notes, i, old[:width], p[first : first + width])
        i += many


@inlined
def _update_rows_across(notes: Any, v: Any, i: Any, end: Any, factors: Any, rest: Any, numbers: Any) -> None:
    """The same for rows of float32 near to 1, with ∇w in the place of ∇v; `factors` begin with those of row i."""
    change, along, size = kind_of(notes, CHANGE).ctypes.data, kind_of(notes, ALONG).ctypes.data, v.itemsize
    count, start = v.shape[1], factors.ctypes.data - size * i
    while i < end:
        many = TOGETHER if end - i >= TOGETHER else 1
        for j in range(0, count, LIMIT):
            at, width, to, by = (i * count + j) * size, min(count - j, LIMIT), change + size * i, along + size * i
            if many == TOGETHER:
                look_4_across(v, to, by, at, width, count * size, rest, numbers, start + size * i)
            else:
                look_1_across(v, to, by, at, width, count * size, rest, numbers, start + size * i)
        i += many


@kernel
def _step(notes: Any, p: Any, count: Any, rest: Any, numbers: Any) -> None:
    """Update p, whose rows of `count` numbers are the slices."""
    begin_notes(notes)
    _update_rows(notes, p, 0, notes.shape[1], _all_plain(notes, p), count, rest, numbers)
    finish_notes(notes, p)


@kernel
def _step_across(notes: Any, dg: Any, kept: Any, ct: Any, v: Any, g: Any, rest: Any, numbers: Any) -> None:
    """dg, and new values of v, whose rows are the slices, and of its state; ct = ∇w may become ∇v."""
    n, size, room, plain = v.shape[1], v.itemsize, near(v), _all_plain(notes, v)
    row = writes_c(v, v.ctypes.data, (v.size,), (size,))
    begin_notes(notes)
    for i in range(0, v.shape[0], ROWS):
        j = min(i + ROWS, v.shape[0])
        own = (kept[:, i:j], ct[i:j], v[i:j], g[i:j])
        if plain and size == 4 and n > 1 and across_factors(dg[i:j], room, *own):
            _update_rows_across(notes, v, i, j, room, rest, numbers)
        else:
            pull_back_rows(ct[i:j], dg[i:j], own[0], *own[1:])
            _update_rows(notes, row, i, j, plain, n, rest, numbers)
    finish_notes(notes, v)


@kernel
def descend_noted(notes: Any, place: Any, every: Any, count: Any, p: Any, g: Any, rate: Any, decay: Any) -> None:
    """`descend`, and the notes of how it changes rows of so many numbers."""
    real, own, arrays = p.dtype.type, notes[place // every], (p.ctypes.data, g.ctypes.data)
    if (place + 1) % every != 0:
        descend(p, g, rate, decay)
    elif decay == 0:
        _step(own, p, count, arrays, (real(rate),))
    else:
        _step(own, p, count, arrays, (real(rate), real(decay)))


@kernel
def roll_noted(
    notes: Any,
    place: Any,
    every: Any,
    count: Any,
    p: Any,
    m: Any,
    g: Any,
    rate: Any,
    momentum: Any,
    nesterov: Any,
    decay: Any,
) -> None:
    """The same with `roll`."""
    real, own, arrays = p.dtype.type, notes[place // every], (p.ctypes.data, m.ctypes.data, g.ctypes.data)
    if (place + 1) % every != 0:
        roll(p, m, g, rate, momentum, nesterov, decay)
    elif decay == 0 and not nesterov:
        _step(own, p, count, arrays, (real(rate), real(momentum)))
    else:
        _step(own, p, count, arrays, (real(rate), real(momentum), real(nesterov), real(decay)))


@kernel
def adapt_noted(
    notes: Any,
    place: Any,
    every: Any,
    count: Any,
    p: Any,
    m: Any,
    s: Any,
    g: Any,
    rate: Any,
    step: Any,
    beta1: Any,
    beta2: Any,
    eps: Any,
    decay: Any,
    decoupled: Any,
) -> None:
    """The same with `adapt`."""
    numbers = adam_numbers(p, rate, step, beta1, beta2, eps, decay, decoupled)
    own, arrays = notes[place // every], (p.ctypes.data, m.ctypes.data, s.ctypes.data, g.ctypes.data)
    if (place + 1) % every != 0:
        adapt(p, m, s, g, rate, step, beta1, beta2, eps, decay, decoupled)
    elif decay == 0:
        _step(own, p, count, arrays, numbers[:7])
    else:
        _step(own, p, count, arrays, numbers)


@kernel
def pull_back_and_descend_noted(
    notes: Any, place: Any, every: Any, dg: Any, kept: Any, g: Any, v: Any, ct: Any, rate: Any, decay: Any
) -> None:
    """`pull_back_and_descend`, and the notes."""
    if (place + 1) % every != 0:
        pull_back_and_descend(dg, kept, g, v, ct, rate, decay)
        return
    real, own, rest = v.dtype.type, notes[place // every], (v.ctypes.data, ct.ctypes.data)
    if decay == 0:
        _step_across(own, dg, kept, ct, v, g, rest, (real(rate),))
    else:
        _step_across(own, dg, kept, ct, v, g, rest, (real(rate), real(decay)))


@kernel
def pull_back_and_roll_noted(
    notes: Any,
    place: Any,
    every: Any,
    dg: Any,
    kept: Any,
    g: Any,
    v: Any,
    m: Any,
    ct: Any,
    rate: Any,
    momentum: Any,
    nesterov: Any,
    decay: Any,
) -> None:
    """The same with `roll`."""
    if (place + 1) % every != 0:
        pull_back_and_roll(dg, kept, g, v, m, ct, rate, momentum, nesterov, decay)
        return
    real, own, rest = v.dtype.type, notes[place // every], (v.ctypes.data, m.ctypes.data, ct.ctypes.data)
    if decay == 0 and not nesterov:
        _step_across(own, dg, kept, ct, v, g, rest, (real(rate), real(momentum)))
    else:
        _step_across(own, dg, kept, ct, v, g, rest, (real(rate), real(momentum), real(nesterov), real(decay)))


@kernel
def pull_back_and_adapt_noted(
    notes: Any,
    place: Any,
    every: Any,
    dg: Any,
    kept: Any,
    g: Any,
    v: Any,
    m: Any,
    s: Any,
    ct: Any,
    rate: Any,
    step: Any,
    beta1: Any,
    beta2: Any,
    eps: Any,
    decay: Any,
    decoupled: Any,
) -> None:
    """The same with `adapt`."""
    if (place + 1) % every != 0:
        pull_back_and_adapt(dg, kept, g, v, m, s, ct, rate, step, beta1, beta2, eps, decay, decoupled)
        return
    own, rest = notes[place // every], (v.ctypes.data, m.ctypes.data, s.ctypes.data, ct.ctypes.data)
    numbers = adam_numbers(v, rate, step, beta1, beta2, eps, decay, decoupled)
    if decay == 0:
        _step_across(own, dg, kept, ct, v, g, rest, numbers[:7])
    else:
        _step_across(own, dg, kept, ct, v, g, rest, numbers)
