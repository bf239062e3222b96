"""Hostile arrays at the public door: each call computes what it does on plain copies, or says what is wrong.

Kernels see addresses and steps; nothing but what stands before them keeps an odd array from becoming a crash.
"""

import numpy as np
import pytest
from every_op import every_op, floats, outputs
from hypothesis import given, strategies as st
from numpy.lib.stride_tricks import as_strided

import tinygrad_wn as tg
from tinygrad_wn.errors import DTypeError, ShapeError, TinygradWNError
from tinygrad_wn.op import OPS
from tinygrad_wn.testing.strategies import calls

RNG = np.random.default_rng(0)
WIDTHS = (2, 10, 64, 1024)
"""Of layers: parts of vectors, vectors, and enough for threads."""


def unaligned(x):
    room = np.zeros(x.nbytes + 1, np.uint8)
    y = room[1:].view(x.dtype).reshape(x.shape)
    y[...] = x
    return y


def swapped(x):
    return x.astype(x.dtype.newbyteorder())


def backwards(x):
    every = (slice(None, None, -1),) * x.ndim
    return np.asarray(np.array(x[every], order="C")[every])


def apart(x):
    room = np.zeros([3 * n for n in x.shape], x.dtype)
    every = tuple(slice(1, None, 3) for _ in x.shape)
    room[every] = x
    return np.asarray(room[every])


def frozen(x):
    y = x.copy()
    y.flags.writeable = False
    return y


class Subclass(np.ndarray):
    """What a library for units or masks would hand over."""


def subclass(x):
    return x.view(Subclass)


def by_columns(x):
    return np.array(x, order="F")


FORMS = [unaligned, swapped, backwards, apart, frozen, subclass, by_columns]
forms = st.sampled_from(FORMS)


def attempt(op, arrays, params):
    try:
        return [np.asarray(y) for y in outputs(op(*arrays, **params))]
    except TinygradWNError as error:
        return type(error)


def check(found, wanted):
    if isinstance(wanted, type):
        assert found is wanted
        return
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        tolerance = 64 * np.finfo(one.dtype).eps if one.dtype.kind == "f" else 0
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@every_op
@given(data=st.data())
def test_an_array_in_any_form_is_read_as_its_values(op, data):
    arrays, params = data.draw(calls(op, data.draw(floats)))
    wanted = attempt(op, arrays, params)
    odd = [None if x is None else data.draw(forms)(x) for x in arrays]
    given = [None if x is None else tg.tensor(x) for x in odd] if data.draw(st.booleans()) else odd
    check(attempt(op, given, params), wanted)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layers_read_arrays_in_any_form(form, width, dtype):
    x, v, ct = (RNG.standard_normal(s).astype(dtype) for s in ((64, width), (width, width), (64, width)))
    g, bias = RNG.standard_normal((width, 1)).astype(dtype), RNG.standard_normal(width).astype(dtype)
    w = g * (v / np.linalg.norm(v, axis=1, keepdims=True))
    tolerance = 4 * width * np.finfo(dtype).eps
    odd = [tg.tensor(form(a), requires_grad=True) for a in (x, v, g, bias)]
    tg.weight_norm_linear(*odd).backward(form(ct))
    np.testing.assert_allclose(odd[0].grad.numpy(), ct @ w, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(odd[3].grad.numpy(), ct.sum(0), rtol=tolerance, atol=64 * tolerance)
    for y in (tg.weight_norm_linear(*map(form, (x, v, g, bias))), tg.linear(*map(form, (x, w, bias)))):
        np.testing.assert_allclose(y.numpy(), x @ w.T + bias, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("form", FORMS)
def test_a_kernel_sees_aligned_arrays_in_the_order_of_bytes_of_this_machine(form, monkeypatch):
    """Numba asks for the order of bytes and not for the place; most machines take any place, and some do not."""
    seen = []
    for name in ("relu", "relu_pullback"):
        monkeypatch.setattr(OPS[name], "kernel", lambda *arrays: seen.extend(arrays) or False)
    values = form(np.array([[1.0, -2.0], [3.0, 4.0]]))
    x = tg.tensor(np.zeros((2, 2)))
    x.data = values
    with tg.kernels(True):
        for one in (values, tg.tensor(values), x):
            tg.relu(one)
        y = tg.tensor(values, requires_grad=True)
        tg.relu(y).backward(tg.tensor(values))
    np.testing.assert_array_equal(y.grad.numpy(), [[1, 0], [3, 4]])
    assert len(seen) >= 8  # four calls of relu
    assert all(a.flags.aligned and a.dtype.isnative for a in seen)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_no_rows_and_no_columns(shape):
    x = np.zeros(shape)
    np.testing.assert_array_equal(tg.matmul(x, np.zeros((shape[1], 3))).numpy(), np.zeros((shape[0], 3)))
    np.testing.assert_array_equal(tg.linear(x, np.zeros((0, shape[1])), np.zeros(0)).numpy(), np.zeros((shape[0], 0)))
    np.testing.assert_array_equal(tg.linear(x, np.zeros((2, shape[1])), np.ones(2)).numpy(), np.ones((shape[0], 2)))


def test_sizes_beyond_all_memory_are_an_error_and_not_a_crash():
    column = as_strided(np.ones(1), (1 << 40, 1), (0, 0))
    with pytest.raises(MemoryError):
        tg.matmul(column, np.ones((1, 1 << 12)))
    with pytest.raises(MemoryError):
        tg.linear(column, np.ones((1 << 12, 1)))
    with pytest.raises((ShapeError, ValueError, MemoryError)):  # more bytes than an address can name
        tg.matmul(column, column.T)


@pytest.mark.parametrize("count", [1, 3, 64, 4097])
def test_one_number_that_is_seen_as_many(count):
    """Steps of 0: every row and every column lies in the same place."""
    ones = as_strided(np.ones(1, np.float32), (count, count), (0, 0))
    if count < 4097:
        np.testing.assert_array_equal(tg.matmul(ones, ones).numpy(), np.full((count, count), count))
    g = as_strided(np.ones(1, np.float32), (count, 1), (0, 0))
    np.testing.assert_allclose(tg.weight_norm(ones, g).numpy(), count**-0.5, rtol=1e-6)


@pytest.mark.parametrize("width", WIDTHS)
def test_inputs_that_overlap(width):
    room = RNG.standard_normal((width + 1, width))
    x, w = room[:-1], room[1:]
    np.testing.assert_allclose(tg.linear(x, w).numpy(), x @ w.T, atol=1e-10)
    np.testing.assert_allclose(tg.matmul(room, room.T).numpy(), room @ room.T, atol=1e-10)
    windows = as_strided(room[0], (2, width // 2 + 1), (8, 8))
    np.testing.assert_allclose(tg.matmul(windows, windows.T).numpy(), windows @ windows.T, atol=1e-10)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("second", [False, True])
def test_an_output_that_is_also_an_input(width, second):
    a, b = (RNG.standard_normal((width, width)) for _ in range(2))
    x, y = tg.tensor(a), tg.tensor(b)
    target = y if second else x
    for name in ("matmul", "linear", "multiply", "subtract"):
        x.data, y.data = a, b
        OPS[name].into((target,), x, y)
        wanted = {"matmul": a @ b, "linear": a @ b.T, "multiply": a * b, "subtract": a - b}[name]
        np.testing.assert_allclose(target.numpy(), wanted, atol=1e-10)


def test_an_output_that_lies_across_its_input():
    for name in ("relu", "erf", "negative"):
        base = tg.tensor(RNG.standard_normal(9))
        whole = base.numpy().copy()
        with tg.no_grad():
            view, source = base[1:], base[:-1]
        with tg.kernels(False):
            wanted = OPS[name](whole[:-1]).numpy()
        OPS[name].into((view,), source)
        np.testing.assert_allclose(base.numpy()[1:], wanted, rtol=1e-15)


def test_an_output_of_another_shape_or_dtype_is_refused_and_stays_as_it_was():
    x = tg.tensor(np.ones((2, 2)))
    for target in (tg.zeros((2, 3)), tg.zeros((2, 2)), tg.tensor([[0, 0], [0, 0]])):
        with pytest.raises(ShapeError, match="results must fit"):
            OPS["matmul"].into((target,), x, x)
        assert not target.numpy().any()


def test_arrays_of_what_is_no_number_are_refused():
    for values in (
        np.array(["a"]),
        np.array([object()]),
        np.ones(1, complex),
        np.ones(1, np.float16),
        np.ones(1, "M8[s]"),
    ):
        with pytest.raises(DTypeError):
            tg.relu(values)
        with pytest.raises(DTypeError):
            tg.tensor([1.0]) + values


def test_values_of_a_tensor_are_copied_in_any_form_and_never_shared():
    values = RNG.standard_normal((3, 4))
    for form in FORMS:
        t, odd = tg.tensor(np.zeros((3, 4))), form(values)
        t.data = odd
        np.testing.assert_array_equal(t.numpy(), values)
        assert not np.shares_memory(t.numpy(), odd)
    t.data = t.numpy()[::-1]
    np.testing.assert_array_equal(t.numpy(), values[::-1])
    with pytest.raises(ValueError, match="read-only"):
        t.numpy()[0] = 1
