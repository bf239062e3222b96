"""Indexing gives what NumPy gives, for every kind of index; its gradient takes cotangents back to their entries."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_wn as tg
from tinygrad_wn.domains import Array
from tinygrad_wn.errors import DTypeError, ShapeError
from tinygrad_wn.testing import gradcheck

shapes = hnp.array_shapes(min_dims=1, max_dims=3, max_side=4)


@st.composite
def arrays_and_indices(draw: st.DrawFn) -> tuple[Array, Any]:
    """An array of different numbers, and an index of one of the kinds that NumPy has."""
    shape = draw(st.one_of(shapes, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3)))
    x = np.arange(np.prod(shape), dtype=np.float64).reshape(shape) + 1
    basic = hnp.basic_indices(shape, allow_newaxis=True)
    kinds: list[st.SearchStrategy[Any]] = [basic, hnp.arrays(np.bool_, shape), hnp.arrays(np.bool_, shape[:1])]
    if x.size:
        kinds += [hnp.integer_array_indices(shape), mixed(shape), integer_lists(shape[0])]
    return x, draw(st.one_of(kinds))


def integer_lists(n: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(-n, n - 1), max_size=4)


@st.composite
def mixed(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Integers, slices, integer arrays, boolean masks and new axes side by side."""
    count = draw(st.integers(1, 3))
    key: list[Any] = []
    for n in shape:
        places = hnp.arrays(np.int64, draw(st.sampled_from([(count,), (1,), ()])), elements=st.integers(-n, n - 1))
        key.append(draw(st.one_of(places, st.slices(n), st.integers(-n, n - 1))))
    if draw(st.booleans()):
        key[-1] = Ellipsis
    key.insert(draw(st.integers(0, len(key))), None)
    return tuple(key)


@given(arrays_and_indices())
def test_every_index_selects_what_it_selects_in_numpy(pair: tuple[Array, Any]) -> None:
    x, key = pair
    np.testing.assert_array_equal(tg.tensor(x)[key].numpy(), x[key], strict=True)


@given(arrays_and_indices(), st.integers(0, 99))
def test_the_gradient_adds_each_cotangent_to_the_entry_it_came_from(pair: tuple[Array, Any], seed: int) -> None:
    x, key = pair
    leaf = tg.tensor(x, requires_grad=True)
    y = leaf[key]
    ct = np.random.default_rng(seed).standard_normal(y.shape)
    expected = np.zeros_like(x)
    np.add.at(expected, key, ct)
    (found,) = y.gradient(leaf, cotangent=ct)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-13, atol=1e-13)
    assert found.shape == x.shape


@given(arrays_and_indices())
def test_the_second_derivative_goes_through_an_index(pair: tuple[Array, Any]) -> None:
    x, key = pair
    assert gradcheck(lambda x: tg.square(x[key]), [x / x.size if x.size else x])


@given(arrays_and_indices())
def test_tensors_index_as_arrays_do(pair: tuple[Array, Any]) -> None:
    x, key = pair
    parts = key if isinstance(key, tuple) else (key,)
    wrapped = tuple(tg.tensor(part) if isinstance(part, np.ndarray) else part for part in parts)
    np.testing.assert_array_equal(tg.tensor(x)[wrapped].numpy(), x[key])
    if len(wrapped) == 1:
        np.testing.assert_array_equal(tg.tensor(x)[wrapped[0]].numpy(), x[key])


@given(shapes, st.data())
def test_take_is_take_of_numpy(shape: tuple[int, ...], data: st.DataObject) -> None:
    x = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    n = shape[axis]
    places = data.draw(hnp.arrays(np.int64, hnp.array_shapes(max_dims=2, max_side=3), elements=st.integers(-n, n - 1)))
    expected = np.take(x, places, axis=axis)
    np.testing.assert_array_equal(tg.take(x, places, axis=axis).numpy(), expected, strict=True)
    np.testing.assert_array_equal(tg.take(x, places.tolist(), axis).numpy(), expected)


def test_iteration_and_length_follow_the_first_axis() -> None:
    x = tg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    first, second = x
    assert len(x) == 2
    (slope,) = (first * second).sum().gradient(x)
    assert slope.numpy().tolist() == [[3, 4], [1, 2]]


@pytest.mark.parametrize("key", [3, -4, (0, 0), [0, 3], (slice(None), None, 0), np.zeros(2, bool), (..., ...)])
def test_an_index_that_is_not_there_is_refused_as_numpy_refuses_it(key: Any) -> None:
    with pytest.raises(IndexError):
        np.ones(3)[key]
    with pytest.raises((ShapeError, DTypeError), match=r"index|axis"):
        tg.ones(3)[key]


def test_take_has_masks_of_one_axis() -> None:
    x = tg.tensor([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_array_equal(tg.take(x, np.array([False, True])).numpy(), [[3.0, 4.0]])
    with pytest.raises(ShapeError, match=r"mask must have one axis[^~]*\[2, 2\]"):
        tg.take(x, x > 2.0)


@pytest.mark.parametrize("key", [0.5, "a", [0.5], np.ones(2), True, tg.ones(1)])
def test_an_index_of_another_kind_is_refused(key: Any) -> None:
    with pytest.raises(DTypeError, match="index"):
        tg.ones(3)[key]
