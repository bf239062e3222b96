"""Quotients, remainders, signs, shifts and powers in compiled steps are NumPy's, bit for bit, for every dtype."""

import functools

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays, from_dtype

import tinygrad_wn as tg

INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
DTYPES = (*INTEGERS, "float32", "float64")

pytestmark = pytest.mark.usefixtures("many_steps")


def same_bits(found, expected):
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    if expected.dtype.kind == "f":
        known = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(found[known]), np.signbit(expected[known]))


def ends(dtype):
    """Numbers at which division is special, each beside each, without a divisor of 0."""
    if np.dtype(dtype).kind == "f":
        values = np.array([0.0, -0.0, 1, -1, 7, 0.1, -0.1, 6, 0.2, 1 / 3, 1e30, -2.5, np.inf, -np.inf, np.nan], dtype)
    else:
        info = np.iinfo(dtype)
        values = np.array(sorted({0, 1, 2, 7, 100, info.max, info.max - 1, info.max // 2 + 1, info.min}), dtype)
        if info.min:
            values = np.append(values, np.array([-1, -2, -7, info.min + 1], dtype))
    a, b = (x.ravel() for x in np.meshgrid(values, values[values != 0]))
    return a, b


FUNCTIONS = {"//": lambda a, b: a // b, "%": lambda a, b: a % b}
SHIFTS = {"<<": lambda a, b: a << b, ">>": lambda a, b: a >> b}


@functools.cache
def compiled(name, dtype):
    """A step of its own for each dtype: more than sixteen signatures of one make a warning."""
    return tg.jit(functools.partial((FUNCTIONS | SHIFTS)[name]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_quotients_and_remainders_are_those_of_numpy_at_the_ends(name, dtype):
    a, b = ends(dtype)
    for _ in range(2):
        found = compiled(name, dtype)(tg.tensor(a), tg.tensor(b)).numpy()
    same_bits(found, np.floor_divide(a, b) if name == "//" else np.remainder(a, b))


@given(st.data(), st.sampled_from(DTYPES), st.sampled_from([*FUNCTIONS]))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_quotients_and_remainders_are_those_of_numpy(data, dtype, name):
    numbers = from_dtype(np.dtype(dtype))
    a = data.draw(arrays(dtype, 16, elements=numbers))
    b = data.draw(arrays(dtype, 16, elements=numbers.filter(lambda x: x != 0)))
    for _ in range(2):
        found = compiled(name, dtype)(tg.tensor(a), tg.tensor(b)).numpy()
    same_bits(found, np.floor_divide(a, b) if name == "//" else np.remainder(a, b))


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", SHIFTS)
def test_all_bits_can_be_shifted_out(name, dtype):
    values = ends(dtype)[1]
    bits = np.array([0, 1, 3, 7, 8, 15, 16, 31, 32, 63, 64, 100], dtype)
    a, b = (x.ravel() for x in np.meshgrid(np.unique(values), bits))
    for _ in range(2):
        found = compiled(name, dtype)(tg.tensor(a), tg.tensor(b)).numpy()
    same_bits(found, np.left_shift(a, b) if name == "<<" else np.right_shift(a, b))
    for places in (8, 32, 64):  # one number alone is not shifted by instructions for vectors
        one, by = np.array(3, dtype), np.array(places, dtype)
        for _ in range(2):
            found = compiled(name, dtype)(tg.tensor(one), tg.tensor(by)).numpy()
        same_bits(found, np.asarray(np.left_shift(one, by) if name == "<<" else np.right_shift(one, by)))


@pytest.mark.parametrize("function", [*FUNCTIONS.values(), lambda a, b: a << b, lambda a, b: a >> b])
@pytest.mark.parametrize("dtypes", [("bool", "bool"), ("uint8", "int64"), ("bool", "int16"), ("int8", "uint16")])
def test_numbers_of_two_dtypes_are_brought_to_one(function, dtypes):
    a, b = np.array([0, 1, 1], dtypes[0]), np.array([1, 1, 1], dtypes[1])
    if dtypes[1] != "bool":
        a, b = a * np.array(3, dtypes[0]), b * np.array(9, dtypes[1])
    step = tg.jit(function)
    for _ in range(2):
        found = step(tg.tensor(a), tg.tensor(b)).numpy()
    same_bits(found, function(a, b))


@pytest.mark.parametrize("dtype", ["bool", *INTEGERS])
def test_functions_and_products_of_integers_of_any_width(dtype):
    x = tg.tensor(np.array([[1, 2, 3], [4, 5, 6]], dtype))
    floats = tg.jit(lambda x: (tg.exp(x), tg.sqrt(x), x / 2))
    for function in (floats.function, floats, floats):
        for found, exact in zip(function(x), (np.exp, np.sqrt, lambda x: x / 2), strict=True):
            assert found.dtype in (np.float32, np.float64)
            np.testing.assert_allclose(found.numpy(), exact(x.numpy().astype(float)), rtol=1e-6)
    product = tg.jit(lambda x: (x @ x.T, tg.stack([x, x]) @ x.T))
    for function in (product.function, product, product):
        for found in function(x):
            np.testing.assert_array_equal(found.numpy(), np.broadcast_to(x.numpy() @ x.numpy().T, found.shape))
            assert found.dtype == x.dtype


@pytest.mark.parametrize("dtype", DTYPES)
def test_signs_are_those_of_numpy(dtype):
    x = ends(dtype)[0]
    step = tg.jit(tg.sign)
    for _ in range(2):
        found = step(tg.tensor(x)).numpy()
    same_bits(found, np.sign(x))


POWERS = [tg.jit(lambda a, n=n: a**n) for n in range(6)]


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.data())
def test_powers_with_whole_exponents(dtype, data):
    values = data.draw(arrays(dtype, 7, elements=from_dtype(np.dtype(dtype), allow_nan=False)))
    with np.errstate(all="ignore"):
        for n, step in enumerate(POWERS):
            expected = np.power(values, n)
            if np.dtype(dtype).kind == "f":
                np.testing.assert_allclose(step(values).numpy(), expected, rtol=1e-6 if dtype == "float32" else 1e-14)
            else:
                same_bits(step(values).numpy(), expected)


def test_powers_of_integers_with_exponents_of_arrays_and_below_0():
    step = tg.jit(lambda a, b: a**b + 1)
    a, b = np.array([2**53 + 1, -3, 0]), np.array([1, 3, 0])
    for _ in range(3):
        same_bits(step(a, b).numpy(), a**b + 1)
    with pytest.raises(ValueError, match="negative integer powers"):
        step(a, -b)
