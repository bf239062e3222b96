"""How far rounding alone may take a computation: it runs again while each op call is shaken by what it may round.

A call that only moves or compares numbers is exact. +, -, ·, / and √ round once: 1 unit of the last place. Other
elementwise ops: 8 units, as NumPy and compiled loops are each right to a few. Ops that add up: 32 units of what goes in
and of what comes out, of the coarsest dtype of these, as they may add in another order or in another precision. Where a
shaken run takes another branch (a maximum, a place, a kink), so may a compiled one, and what follows from it is not
compared to the last digit.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import tinygrad_wn as tg
from tinygrad_wn.domains import Array
from tinygrad_wn.engine import eager
from tinygrad_wn.op import Op
from tinygrad_wn.slot import slot

RUNS = 5
"""Shaken runs of a computation."""

ALLOWED = 4.0
"""Times the farthest of them: one that rounds as much as all are shaken is nearer than that in all but 1 of 10⁴."""

EXACT = ("negative", "positive", "abs", "relu", "relu_pullback", "maximum", "minimum", "where", "clip", "ldexp")
EXACT = (*EXACT, "max", "min", "stop_gradient", "astype", "finite")
ROUNDED_ONCE = ("add", "subtract", "multiply", "divide", "sqrt", "square")


def units(op: Op[...]) -> int:
    """How many units of the last place a call may be away from another that is right."""
    if op.name in EXACT or (op.__module__.endswith(("structural", "comparison")) and op.name not in ADDS):
        return 0
    return 1 if op.name in ROUNDED_ONCE else 8 if op.elementwise else 32


ADDS = ("sum_to", "scatter")


def _shaken(x: Any, by: int, eps: float, rng: np.random.Generator) -> Any:
    return np.asarray(x * (1 + by * eps * rng.uniform(-1, 1, np.shape(x))), x.dtype)


@contextmanager
def shaken(rng: np.random.Generator) -> Iterator[None]:
    """All op calls inside of the block are shaken."""

    def run(op: Op[...], inputs: tuple[Any, ...], params: dict[str, Any], targets: Any) -> Any:
        by = units(op)
        arrays = [np.array(x._data) if isinstance(x, tg.Tensor) else x for x in inputs]
        found = eager(op, inputs, params, targets)
        outputs = targets if targets is not None else found if op.several else (found,)
        kinds = [y.dtype for y in outputs if y.dtype.kind == "f"]
        if not by or not kinds or any(np.shares_memory(y._data, x) for y in outputs for x in _arrays(inputs, targets)):
            return found
        if not op.elementwise:
            kinds += [x.dtype for x in arrays if isinstance(x, np.ndarray) and x.dtype.kind == "f"]
            eps = max(float(np.finfo(dtype).eps) for dtype in kinds)
            arrays = [
                _shaken(x, by, eps, rng) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x for x in arrays
            ]
        again = op.compute(arrays, params)
        for y, value in zip(outputs, again if op.several else (again,), strict=True):
            if y.dtype.kind == "f":
                with np.errstate(all="ignore"):
                    y._data[...] = _shaken(np.asarray(value), by, float(np.finfo(y.dtype).eps), rng)
        return found

    before, slot.eager = slot.eager, run
    try:
        yield
    finally:
        slot.eager = before


def _arrays(inputs: Any, targets: Any) -> list[Array]:
    return [] if targets is not None else [x._data for x in inputs if isinstance(x, tg.Tensor)]


def flat(tree: Any) -> list[Any]:
    """Copies of the arrays of nested results, and other values as they are."""
    if isinstance(tree, dict):
        tree = [*tree.keys(), *tree.values()]
    if isinstance(tree, list | tuple):
        return list(itertools.chain.from_iterable(map(flat, tree)))
    return [np.array(tree._data) if isinstance(tree, tg.Tensor) else tree]


def reach(run: Callable[[], list[Any]], expected: list[Any]) -> list[float]:
    """How far, in norm, each result of a computation may be away from what is expected."""
    farthest = [0.0] * len(expected)
    for seed in range(RUNS):
        with shaken(np.random.default_rng(seed)):
            found = run()
        for i, (y, right) in enumerate(zip(found, expected, strict=True)):
            if isinstance(right, np.ndarray):
                farthest[i] = max(farthest[i], distance(y, right))
    return [ALLOWED * far for far in farthest]


def distance(y: Array, expected: Array) -> float:
    """In norm; infinite where NaN or infinities are at other places."""
    finite = np.isfinite(expected)
    if not np.array_equal(np.where(finite, 0, expected), np.where(np.isfinite(y), 0, y), equal_nan=True):
        return np.inf
    wide = [np.where(finite, one, 0).astype(np.float64) for one in (y, expected)]
    return float(np.linalg.norm(wide[0] - wide[1]))


def near(found: list[Any], expected: list[Any], bounds: list[float]) -> None:
    """Hold results against what is expected: types, dtypes and shapes are the same, numbers within the bounds."""
    for y, right, bound in zip(found, expected, bounds, strict=True):
        assert type(y) is type(right)
        if not isinstance(right, np.ndarray):
            assert y == right
            continue
        assert (y.dtype, y.shape) == (right.dtype, right.shape)
        assert distance(y, right) <= bound, (y, right, bound)
