"""Addresses of arrays, and the way back."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from numba import carray

from tinygrad_wn.kernels import address
from tinygrad_wn.kernels.address import address_of, pointer_at
from tinygrad_wn.kernels.jit import counting


@counting
def double(like, at, sizes):
    for i in range(at.size):
        x = carray(pointer_at(like, at[i]), (sizes[i],))
        for j in range(x.size):
            x[j] = 2 * x[j]


@counting
def first_of_both(at):
    return carray(pointer_at(np.float32, at[0]), (1,))[0] + carray(pointer_at(np.float64, at[1]), (1,))[0]


@st.composite
def views(draw):
    x = draw(hnp.arrays(draw(st.sampled_from(["f4", "f8", "i8", "u1"])), hnp.array_shapes(min_side=0)))
    return draw(st.sampled_from([x, x.T, x[..., :0], x[::-1], np.array(7.0), np.broadcast_to(x, (3, *x.shape))]))


@given(views())
def test_the_address_is_the_one_that_numpy_tells(x):
    assert address_of(x) == x.ctypes.data == address._from_numpy(x)


def test_a_subclass_has_an_address_too(tmp_path):
    x = np.memmap(tmp_path / "x", "f4", "w+", shape=3)
    assert address_of(x) == x.ctypes.data


def test_the_short_way_is_taken():
    assert address_of is address._from_object


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_kernel_reaches_arrays_by_their_addresses(dtype):
    arrays = [np.arange(n, dtype=dtype) for n in (3, 0, 5)]
    double(np.empty(0, dtype), np.array([address_of(a) for a in arrays]), np.array([a.size for a in arrays]))
    for a in arrays:
        np.testing.assert_array_equal(a, 2 * np.arange(a.size))


def test_a_dtype_tells_a_pointer_what_it_points_to():
    x, y = np.array([1.5], np.float32), np.array([2.25])
    assert first_of_both(np.array([address_of(x), address_of(y)])) == 3.75
