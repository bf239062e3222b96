"""Kernels where they most likely go wrong: odd layouts, ends of the range, NaN, zero sizes, large column slices."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from numba.core.runtime import _nrt_python, rtsys

import tinygrad_wn as tg
from tinygrad_wn.errors import ZeroNormError
from tinygrad_wn.op import OPS
from tinygrad_wn.ops.norm import g_shape

pytestmark = pytest.mark.once

whole_range = {
    np.float32: st.floats(width=32, allow_subnormal=False),
    np.float64: st.floats(min_value=-1e300, max_value=1e300) | st.sampled_from([np.nan, np.inf, -np.inf]),
}


@st.composite
def matrices(draw):
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    x = draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=2, max_dims=2, max_side=5), elements=whole_range[dtype]))
    step = draw(st.sampled_from([1, -1, 2]))
    return [x, np.asfortranarray(x), x[::step], x[:, ::-1], np.broadcast_to(x[:1], x.shape)][draw(st.integers(0, 4))]


def both(name, *arrays, **params):
    results = []
    for on in (True, False):
        with tg.kernels(on):
            try:
                results.append(OPS[name].compute(list(arrays), params))
            except ZeroNormError as error:
                results.append(str(error))
    return results


@given(matrices(), st.sampled_from([0, 1, None, (0, 1), -1]), st.booleans())
def test_norm_over_the_whole_range_of_numbers(x, axis, keepdims):
    fast, slow = both("vector_norm", x, axis=axis, keepdims=keepdims)
    assert (fast.dtype, fast.shape) == (slow.dtype, slow.shape)
    np.testing.assert_allclose(fast, slow, rtol=4 * np.finfo(x.dtype).eps)


@given(matrices(), st.sampled_from([0, 1, None, (0, 1)]))
def test_weight_norm_over_the_whole_range_of_numbers(v, axis):
    g = np.ones(g_shape(v.shape, axis), v.dtype)
    fast, slow = both("weight_norm", v, g, axis=axis)
    if isinstance(fast, str):
        assert fast == slow
    else:
        np.testing.assert_allclose(fast, slow, rtol=4 * np.finfo(v.dtype).eps, atol=np.finfo(v.dtype).tiny)


@given(matrices())
def test_erf_over_the_whole_range_of_numbers(x):
    fast, slow = both("erf", x)
    np.testing.assert_allclose(fast, slow, rtol=2 * np.finfo(x.dtype).eps, atol=np.finfo(x.dtype).tiny)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize("axis", [0, 1])
def test_zero_sizes(shape, axis):
    fast, slow = both("vector_norm", np.zeros(shape), axis=axis, keepdims=False)
    np.testing.assert_array_equal(fast, slow)
    v, g = np.zeros(shape), np.zeros(g_shape(shape, axis))
    fast, slow = both("weight_norm", v, g, axis=axis)
    assert type(fast) is type(slow)
    if isinstance(fast, str):
        assert fast == slow
    else:
        assert fast.shape == shape


def test_large_slices_that_are_neither_rows_nor_columns_are_left_to_the_definition():
    v, g = np.random.default_rng(0).standard_normal((30, 50, 40)), np.ones((30, 1, 40))
    for fast, slow in (
        both("weight_norm", v, g, axis=(0, 2)),
        both("vector_norm", v, axis=1, keepdims=True),
        both("weight_norm_pullback", v + 1, v, g, axis=(0, 2)),
    ):
        for one, other in zip(fast, slow, strict=True):
            np.testing.assert_array_equal(one, other)


def test_inputs_are_not_written_to():
    v, ct = (np.random.default_rng(0).standard_normal((4, 3)) for _ in range(2))
    g = np.ones((4, 1))
    before = [x.copy() for x in (v, ct, g)]
    for x in (v, ct, g):
        x.flags.writeable = False
    both("weight_norm", v, g, axis=0)
    both("weight_norm_pullback", ct, v, g, axis=0)
    for x, old in zip((v, ct, g), before, strict=True):
        np.testing.assert_array_equal(x, old)


def test_the_switch_decides_whether_the_kernel_runs(monkeypatch):
    calls = []
    monkeypatch.setattr(OPS["erf"], "kernel", lambda *_: calls.append("kernel") or False)
    for on in (True, False):
        with tg.kernels(on):
            tg.erf(tg.tensor([1.0]))
    assert calls == ["kernel"]


def given_and_given_back():
    stats = rtsys.get_allocation_stats()
    return stats.alloc, stats.alloc - stats.free


@pytest.fixture
def counted_memory():
    _nrt_python.memsys_enable_stats()
    yield
    _nrt_python.memsys_disable_stats()


@pytest.mark.usefixtures("counted_memory")
def test_kernels_give_back_the_room_that_they_ask_for():
    rng = np.random.default_rng(0)
    large, few, wide = (rng.standard_normal(shape) for shape in ((33, 2100), (2100, 3), (2100, 2100)))
    v, g = rng.standard_normal((2100, 3)), np.ones((2100, 1))

    def failing():
        with pytest.raises(ZeroNormError):
            tg.weight_norm_linear(few.T[:, :3], np.zeros((2100, 3)), g)

    calls = {
        "panels": lambda: tg.matmul(large, wide),
        "far columns": lambda: tg.matmul(np.asfortranarray(large), wide),
        "dots": lambda: tg.matmul(large, few),
        "columns": lambda: tg.matmul(few.T, large.T[:, :3]),
        "across": lambda: tg.matmul(np.asfortranarray(large), few),
        "layer": lambda: tg.weight_norm_linear(few.T[:, :3], v, g),
        "layer that fails": failing,
        "losses": lambda: tg.cross_entropy(large, np.arange(33)),
        "gradients": lambda: tg.grad(lambda x: tg.cross_entropy(x, np.arange(33)))(tg.tensor(large)),
        "pullback": lambda: tg.grad(lambda v: tg.sum(tg.weight_norm_linear(few.T[:, :3], v, g)))(tg.tensor(v)),
    }
    for name, call in calls.items():
        call()
        asked, held = given_and_given_back()
        for _ in range(3):
            call()
        asked_now, held_now = given_and_given_back()
        assert held_now == held, name
        assert asked_now > asked, name
