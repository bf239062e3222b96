"""Every declared op in a compiled step equals itself outside of one: values, gradients, layouts, errors.

Bounds: moves, comparisons and whole numbers are equal bit for bit. Other elementwise ops are within 8 units of the last
place, as NumPy and the loops each are right to a few. Ops that add or multiply many numbers are within 32 units of the
size of what they add, in norm: eager sums in another order, or in float32 where a compiled step sums in float64.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from every_op import every_op, every_smooth_op, floats, outputs, random, smooth
from hypothesis import given, settings, strategies as st

import tinygrad_wn as tg
from tinygrad_wn.compiled.jit import Compiled
from tinygrad_wn.domains import Array
from tinygrad_wn.op import Op
from tinygrad_wn.testing.strategies import calls

pytestmark = pytest.mark.usefixtures("many_steps")

few = settings(max_examples=max(settings.default.max_examples // 20, 1), deadline=None)
"""Each example is compiled, which takes a third of a second."""

MOVES = ("structural", "comparison")


def native(step: Compiled) -> bool:
    """Whether every compiled step is one function of machine code, without a call of NumPy in it."""
    return all(len(one.text.parts) == 1 for known in step.steps.values() for one in known)


def flat(tree: Any) -> list[Any]:
    """Arrays of nested results."""
    if isinstance(tree, list | tuple):
        return list(itertools.chain.from_iterable(map(flat, tree)))
    return [np.asarray(tree.detach() if isinstance(tree, tg.Tensor) else tree)]


def size_of(arrays: Any) -> float:
    """The size of what a call may add up: Σ x² of all its inputs, at least 1."""
    return max(1.0, float(sum(np.sum(np.square(np.abs(x), dtype=np.float64)) for x in flat(arrays) if x.dtype != "O")))


def check(op: Op[...], fast: Any, slow: Any, arrays: Any) -> None:
    """Results of a compiled step against those of eager, within the bounds that the module names."""
    for y, expected in zip(flat(fast), flat(slow), strict=True):
        assert (y.dtype, y.shape) == (expected.dtype, expected.shape)
        if y.dtype.kind != "f" or (op.__module__.endswith(MOVES) and op.name not in ("sum_to", "scatter")):
            np.testing.assert_array_equal(y, expected)
        elif op.elementwise:
            np.testing.assert_allclose(y, expected, rtol=8 * float(np.finfo(y.dtype).eps), atol=1e-300)
        else:
            near(y, expected, 32, size_of(arrays))


def near(y: Array, expected: Array, units: float, size: float) -> None:
    """Within `units` of the last place, in norm; NaN and infinities are at the same places."""
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.where(finite, 0, y), np.where(finite, 0, expected))
    wide, right = (np.where(finite, one, 0).astype(np.float64) for one in (y, expected))
    bound = units * float(np.finfo(y.dtype).eps) * (float(np.linalg.norm(right)) + size)
    assert np.linalg.norm(wide - right) <= bound, (y, expected)


def others(arrays: tuple[Any, ...], seed: int) -> tuple[Any, ...]:
    """The same values at other places: as legal as they were."""
    rng = np.random.default_rng(seed)
    return tuple(None if x is None else rng.permutation(x.ravel()).reshape(x.shape) for x in arrays)


def held(op: Op[...], function: Callable[..., Any], groups: list[tuple[Any, ...]]) -> None:
    """Call a compiled function of several calls' arrays three times; each must equal eager."""
    step = tg.jit(function)
    for given_ in (groups, groups, [others(one, 1) for one in groups], groups):
        slow = function(given_)
        for one, expected, arrays in zip(step(given_), slow, given_, strict=True):
            check(op, one, expected, [x for x in arrays if x is not None])
    assert sum(map(len, step.steps.values())) == 1
    assert native(step), next(iter(step.steps.values()))[0].source


def some_calls(data: st.DataObject, op: Op[...]) -> tuple[list[tuple[Any, ...]], list[dict[str, Any]]]:
    """Several calls of one op, which are compiled as one step: both float dtypes, and any of its cases."""
    drawn = [data.draw(calls(op, dtype)) for dtype in (np.float32, np.float64, data.draw(floats))]
    return [smooth(op, arrays) for arrays, _ in drawn], [params for _, params in drawn]


@every_op
@few
@given(data=st.data())
def test_every_op_equals_eager_in_machine_code_alone(op: Op[...], data: st.DataObject) -> None:
    groups, params = some_calls(data, op)

    def function(given_: Any) -> Any:
        return [op(*arrays, **more) for arrays, more in zip(given_, params, strict=True)]

    held(op, function, groups)


@every_smooth_op
@few
@given(data=st.data())
def test_gradients_of_every_op_equal_eager_in_machine_code_alone(op: Op[...], data: st.DataObject) -> None:
    groups, params = some_calls(data, op)
    groups, params = groups[:2], params[:2]

    def gradients(arrays: Any, more: Any) -> Any:
        places = [i for i, x in enumerate(arrays) if x is not None and np.dtype(x.dtype).kind == "f"]

        def value(*xs: Any) -> Any:
            full = list(arrays)
            for i, x in zip(places, xs, strict=True):
                full[i] = x
            rng = np.random.default_rng(0)
            return sum(((y * random(rng, y)).sum() for y in outputs(op(*full, **more))), tg.tensor(0.0))

        return tg.grad(value, tuple(range(len(places))))(*[arrays[i] for i in places])

    def function(given_: Any) -> Any:
        return [gradients(arrays, more) for arrays, more in zip(given_, params, strict=True)]

    step = tg.jit(function)
    for given_ in (groups, groups, [smooth(op, others(one, 1)) for one in groups]):
        for found, slow, arrays in zip(step(given_), function(given_), given_, strict=True):
            for y, expected in zip(flat(found), flat(slow), strict=True):
                assert (y.dtype, y.shape) == (expected.dtype, expected.shape)
                near(y, expected, 256, size_of([x for x in arrays if x is not None]))
    assert native(step), step.source


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_numbers_that_are_not_finite_can_be_written_down(number: float) -> None:
    def function(x: Any) -> Any:
        return x * number, tg.where(x > 0, number, x)

    step, x = tg.jit(function), tg.tensor([1.0, -2.0])
    for found in (step(x), step(x)):
        for y, expected in zip(found, function(x), strict=True):
            np.testing.assert_array_equal(y.numpy(), expected.numpy())
    assert native(step)
