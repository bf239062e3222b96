"""Hypothesis strategies for calls of a weight normalization, aimed at where implementations go wrong.

Smaller examples come first in every choice, and a choice of shape leaves all numbers where they are, so that what
Hypothesis shrinks to is short enough to read.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

from .trial import Given, LackingError, Trial

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import DrawFn, SearchStrategy

    from ...domains import Array, Shape
    from .implementation import Implementation

SHAPES: tuple[Shape, ...] = ((1, 2), (2, 1), (2,), (2, 3), (3, 2), (2, 2, 2), (2, 1, 2, 2))
"""Few and small: a library that compiles does so once for each shape, and a reader wants to see the whole array."""

AXES = (0, 1, 2, 3, None)
"""Axes to choose from where all that matters is that there are several; those that count from the end come apart."""

LIKE_V, LIKE_G = 8, 3
"""The most entries of an array that has the shape of v, or of g."""

LARGEST, SMALLEST = 4.0, 2.0**-6
"""Entries are 0 or have a size from SMALLEST to LARGEST: no square of them leaves the range of a float."""

REACH = {"float32": 110, "float64": 990}
"""Exponents k of 2ᵏv: with entries as above v and all first derivatives stay normal numbers."""

NEAR = 2.0**-20
"""How far ct is from parallel to v: rounding to float32 leaves four binary digits of the difference."""

LAYOUTS: dict[str, tuple[Callable[[Array], Array], str]] = {
    "Fortran order": (np.asfortranarray, "np.asfortranarray({})"),
    "gaps": (lambda x: np.repeat(x, 2, axis=-1)[..., ::2], "np.repeat({}, 2, axis=-1)[..., ::2]"),
    "reversed": (lambda x: x[::-1].copy()[::-1], "{}[::-1].copy()[::-1]"),
    "axes moved": (
        lambda x: np.moveaxis(np.moveaxis(x, 0, -1).copy(), -1, 0),
        "np.moveaxis(np.moveaxis({}, 0, -1).copy(), -1, 0)",
    ),
}
"""Ways to lay the same values out in memory, and the expressions that do so."""


def trials(*names: str) -> Callable[[Implementation], SearchStrategy[Trial]]:
    """Calls with moderate numbers, no zero slice, arrays in C order, and an axis that is 0 or more, or None."""
    return lambda impl: _trials(impl, names)


def scaled(sign: int, *names: str) -> Callable[[Implementation], SearchStrategy[Trial]]:
    """As `trials`, with 2ᵏv for v: k up to the top of the range, or for a negative sign down to its bottom."""
    return lambda impl: _trials(impl, names, sign=sign)


def along(axis: int | None, *names: str) -> Callable[[Implementation], SearchStrategy[Trial]]:
    """As `trials`, with this axis, which may be negative, and no other."""

    def of(impl: Implementation) -> SearchStrategy[Trial]:
        if impl.axes is not None and axis not in impl.axes:
            raise LackingError(f"it takes no axis but {impl.axes}")
        return _trials(impl, names, only=(axis,))

    return of


def with_zero_slice(*names: str) -> Callable[[Implementation], SearchStrategy[Trial]]:
    """As `trials`, with one slice of v, or several, filled with zeros."""
    return lambda impl: _with_zero_slice(impl, names)


def in_any_layout(*names: str) -> Callable[[Implementation], SearchStrategy[Trial]]:
    """As `trials`, with each array in a layout of memory other than C order."""
    return lambda impl: _in_any_layout(impl, names)


def is_like_g(name: str) -> bool:
    """Whether an array has the shape of g, not that of v."""
    return name in ("g", "b", "dg", "other_g")


@cache
def numbers(dtype: str, count: int) -> SearchStrategy[tuple[float, ...]]:
    """So many moderate numbers: about one in ten is 0, and the simplest are 1, 2, 1, 2 …, so that ct is not ∥ v."""
    floats = st.floats(-LARGEST, LARGEST, width=32 if dtype == "float32" else 64, allow_subnormal=False)
    kinds = [floats.map(partial(_moderate, simplest)) for simplest in (1.0, 2.0)]
    return st.tuples(*(kinds[i % 2] for i in range(count)))


def _moderate(simplest: float, x: float) -> float:
    return simplest if x == 0 else x if abs(x) >= SMALLEST else 0.0


@cache
def axes(taken: tuple[int | None, ...] | None) -> SearchStrategy[int | None]:
    """Axes of 0 or more that an implementation takes, None among them."""
    found = [axis for axis in AXES if taken is None or axis in taken]
    if not found:
        raise LackingError(f"it takes none of the axes {AXES}")
    return st.sampled_from(found)


@cache
def shapes(axis: int | None) -> SearchStrategy[Shape]:
    """Shapes that have this axis."""
    return st.sampled_from([of for of in SHAPES if axis is None or -len(of) <= axis < len(of)])


@st.composite
def _trials(
    draw: DrawFn, impl: Implementation, names: tuple[str, ...], sign: int = 0, only: tuple[int | None, ...] = ()
) -> Trial:
    axis = only[0] if only else draw(axes(impl.axes))
    shape = draw(shapes(axis))
    dtype = draw(st.sampled_from(impl.dtypes))
    rest = tuple(i for i in range(len(shape)) if axis is None or i != axis % len(shape))
    of_g = tuple(1 if i in rest else n for i, n in enumerate(shape))
    counts = [LIKE_G if is_like_g(name) else LIKE_V for name in names]
    drawn = list(draw(numbers(dtype, sum(counts))))
    given = {}
    for name, count in zip(names, counts, strict=True):
        of = of_g if is_like_g(name) else shape
        x = np.array(drawn[: int(np.prod(of))], dtype).reshape(of)
        if name in ("v", "other_v"):
            x = np.where(np.all(x == 0, axis=rest, keepdims=True), 1, x).astype(dtype)
        given[name] = Given(x)
        del drawn[:count]
    if sign:
        k, v = sign * draw(st.integers(0, REACH[dtype])), given["v"].array
        given["v"] = Given(np.ldexp(v, k), v, f"np.ldexp({{}}, {k})")
    return Trial(impl, axis, given)


@st.composite
def _with_zero_slice(draw: DrawFn, impl: Implementation, names: tuple[str, ...]) -> Trial:
    trial = draw(_trials(impl, names))
    chosen = draw(st.integers(1, 2**LIKE_G - 1))
    zero = np.array([chosen >> i & 1 for i in range(trial["g"].size)], bool).reshape(trial["g"].shape)
    zero.reshape(-1)[0] |= not zero.any()
    v = np.where(zero, 0, trial["v"]).astype(trial["v"].dtype)
    return Trial(impl, trial.axis, trial.given | {"v": Given(v)})


@st.composite
def _in_any_layout(draw: DrawFn, impl: Implementation, names: tuple[str, ...]) -> Trial:
    trial = draw(_trials(impl, names))
    given = {}
    for name, one in trial.given.items():
        change, text = LAYOUTS[draw(st.sampled_from(list(LAYOUTS)))]
        given[name] = Given(change(one.array), one.array, text)
    return Trial(impl, trial.axis, given)


@st.composite
def nearly_parallel(draw: DrawFn, impl: Implementation) -> Trial:
    """Slices of float32 of which ct is v, but for factors 1 + m·NEAR that differ from entry to entry."""
    if "float32" not in impl.dtypes:
        raise LackingError("it does not compute in float32")
    axis = 0 if impl.axes is None or 0 in impl.axes else impl.axes[0]
    shape = draw(st.sampled_from([(1, 2), (1, 4), (2, 4)] if axis is not None else [(1, 2), (1, 4)]))
    count = shape[0] * shape[1]
    drawn = np.array(draw(numbers("float32", LIKE_V))[:count], np.float32).reshape(shape)
    v = np.where(np.abs(drawn) < 1, np.copysign(1, drawn), drawn).astype(np.float32)
    m = np.array(draw(st.tuples(*[st.integers(1, 8)] * LIKE_V))[:count]).reshape(shape)
    m[:, 0] *= -1
    arrays = {"v": v, "g": np.ones((shape[0], 1), np.float32), "ct": (v * (1 + NEAR * m)).astype(np.float32)}
    return Trial(impl, axis, {name: Given(np.moveaxis(x, 0, axis or 0)) for name, x in arrays.items()})
