"""Hypothesis strategies: legal calls of an op, drawn from its declaration, that is its cases and domains."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn

    from ..domains import Array, Domain, Shape
    from ..op import Op

REACH = 3.0
"""Values lie between -REACH and REACH where the domain does not say otherwise."""

SMALLEST = 2.0**-10
"""Values below this are 0, so that every value weighs something beside the largest."""

MARGIN = 0.125
"""Values keep this far from the bounds of their domain, so that a difference quotient stays inside."""

INPUT = re.compile(r"\(([^)]*)\)(?::(\w+))?")


@st.composite
def calls(
    draw: DrawFn, op: Op[...], dtype: Any = np.float64, *, empty: bool = False
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Draw a legal call of `op` as (arrays, params), so that `op(*arrays, **params)` works.

    Shapes come from `op.cases` with sizes from 1 to 4, or with `empty` from 0 to 3 and one of them 0, where a case lets
    one vary. Real inputs have `dtype` (an integer dtype, too), and values of moderate size with a margin to the bounds
    of their domain; distinct inputs differ in every two values by 0.05 or more. Optional inputs that a case leaves out
    are None. Arrays come in C and Fortran order, with gaps, and reversed.

    >>> from hypothesis import given, settings
    >>> from tinygrad_wn.testing.strategies import calls
    >>> @settings(max_examples=10, deadline=None)
    ... @given(calls(tg.maximum))
    ... def a_maximum_is_one_of_the_two(call):
    ...     (a, b), params = call
    ...     y = tg.maximum(a, b, **params).numpy()
    ...     assert ((y == a) | (y == b)).all()
    >>> a_maximum_is_one_of_the_two()
    """
    case = draw(st.sampled_from([c for c in op.cases if empty and re.search("[a-z]", c.shapes)] or op.cases))
    inputs = INPUT.findall(case.shapes)
    letters = sorted(set(re.findall("[a-z]", case.shapes)))
    sizes = {letter: draw(st.integers(0, 3) if empty else st.integers(1, 4)) for letter in letters}
    if empty and sizes:
        sizes[draw(st.sampled_from(letters))] = 0
    shapes = [tuple(_size(name, sizes) for name in names.split(",") if name) for names, _ in inputs]
    last = len(op.input_names) - 1
    domains = [op.domains[op.input_names[min(i, last)]] for i in range(len(inputs))]
    bits = draw(st.sampled_from([np.int64, np.int32, np.bool_]))
    pool = _distinct(draw, [(d, s) for d, s in zip(domains, shapes, strict=True) if d.distinct], np.dtype(dtype))
    arrays: list[Any] = []
    for domain, shape, (_, below) in zip(domains, shapes, inputs, strict=True):
        if domain.distinct:
            array = pool.pop(0)
        elif domain.kind == "real":
            array = draw(_reals(domain, shape, np.dtype(dtype)))
        else:
            kind = np.dtype({"integer": np.int64, "boolean": np.bool_}.get(domain.kind, bits))
            top = max(_size(below, sizes), 1) - 1 if below else 3
            array = draw(hnp.arrays(kind, shape, elements=st.booleans() if kind.kind == "b" else st.integers(0, top)))
        arrays.append(draw(layouts(array)))
    if not op.variadic:
        arrays += [None] * (len(op.input_names) - len(arrays))
    return tuple(arrays), dict(case.params)


@st.composite
def layouts(draw: DrawFn, array: Array) -> Array:
    """The same values in another layout of memory: C or Fortran order, with gaps between the entries, or reversed."""
    layout = draw(st.sampled_from(["C", "Fortran", "gaps", "reversed"]))
    if layout in ("C", "Fortran"):
        return np.array(array, order="C" if layout == "C" else "F")
    step = 2 if layout == "gaps" else -1
    whole = np.zeros([n * abs(step) for n in array.shape], array.dtype)
    view = np.asarray(whole[tuple(slice(None, None, step) for _ in array.shape)])
    view[...] = array
    return view


def _size(name: str, sizes: dict[str, int]) -> int:
    return int(name) if name.isdigit() else sizes[name]


def _interval(domain: Domain, reach: float) -> tuple[float, float]:
    """Where values are drawn from: inside the bounds by the margin, twice where `away` moves them once more."""
    margin = MARGIN * (1 + domain.away)
    low = domain.low + margin if math.isfinite(domain.low) else min(-reach, domain.high - 2 * reach)
    high = domain.high - margin if math.isfinite(domain.high) else max(reach, low + reach)
    return low, high


def _reals(domain: Domain, shape: Shape, dtype: np.dtype[Any]) -> st.SearchStrategy[Array]:
    """Numbers of a domain that need not be distinct."""
    low, high = _interval(domain, REACH)
    if dtype.kind != "f":
        whole = st.integers(math.ceil(low), math.floor(high))
        return hnp.arrays(dtype, shape, elements=whole.filter(bool) if domain.away else whole)
    elements = st.floats(low, high, width=64 if dtype == np.float64 else 32, allow_subnormal=False)
    away = dtype.type(MARGIN * domain.away)
    drawn = hnp.arrays(dtype, shape, elements=elements)
    return drawn.map(lambda x: np.asarray(np.where(np.abs(x) < SMALLEST, 0, x) + np.copysign(away, x), dtype))


def _distinct(draw: DrawFn, inputs: list[tuple[Domain, Shape]], dtype: np.dtype[Any]) -> list[Array]:
    """Arrays for all distinct inputs of a call: evenly spaced numbers in a drawn order and at a drawn scale."""
    count = sum(math.prod(shape) for _, shape in inputs)
    places = np.array(draw(st.permutations(range(count))), np.int64)
    scale = draw(st.floats(0.6, 1.0))
    arrays = []
    for domain, shape in inputs:
        here, places = places[: math.prod(shape)], places[math.prod(shape) :]
        low, high = _interval(domain, max(REACH, count / 10))
        step = scale * (high - low) / (count + 1) if dtype.kind == "f" else 1
        values: Array = step * (here + 1) + (low if dtype.kind == "f" else math.ceil(low) - 1)
        if domain.away:
            values = values + np.where(values < 0, -1, 1) * (MARGIN if dtype.kind == "f" else 1)
        arrays.append(values.reshape(shape).astype(dtype))
    return arrays
