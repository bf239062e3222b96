"""Weight normalization on a ladder: every way to compute it equals decimal arithmetic, to the second order.

Rungs: the graph of primitive ops, the fused ops by their definitions, by their kernels, and a compiled step. The truth
is equation 3 in 60 digits (`testing/conformance/oracle.py`), which must equal equation 4. What a rung may miss it by is
what rounding explains: a count of roundings, times half an ε, times each sum with its terms taken absolutely.
"""

from decimal import Decimal, localcontext

import numpy as np
import pytest
from every_op import kernels_or_definitions
from hypothesis import Phase, example, given, settings, strategies as st
from ladder import ROOM, as_float64_has_it, climbed, held, mixed_rows, numbers, troubles, truths
from test_weight_norm import axes_for, leaves

import tinygrad_wn as tg
from benchmarks import second
from tinygrad_wn.errors import ZeroNormError
from tinygrad_wn.kernels.measure import shifted
from tinygrad_wn.op import OPS
from tinygrad_wn.testing import gradcheck
from tinygrad_wn.testing.conformance.oracle import DIGITS, Slices, exact
from tinygrad_wn.testing.strategies import layouts

both = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.mark.once
@both
@given(data=st.data())
def test_every_rung_equals_decimal_arithmetic_to_the_second_order(dtype, data):
    *arrays, axis = data.draw(troubles(dtype))
    expected = truths(*arrays, axis)
    v, g, ct, a, b = arrays
    laid = data.draw(layouts(v))
    leaf = tg.tensor(np.zeros_like(v), requires_grad=True)
    leaf._data = laid  # tg.tensor would make it contiguous
    least = float(np.finfo(dtype).tiny) * 2**ROOM  # what is composed multiplies cotangents by 1/‖v‖ first, in float64
    rungs = [(True, False), (True, True)]
    if dtype == np.float32 or np.all(Slices(v, g, axis).norm >= least):
        rungs.append((False, True))
    for fused, on in rungs:
        with tg.kernels(on):
            held(climbed(leaf, g, ct, a, b, axis, fused), expected)


@pytest.mark.once
@both
@given(data=st.data())
def test_no_product_of_large_and_small_numbers_leaves_the_range_on_its_way(dtype, data):
    *arrays, axis = data.draw(troubles(dtype, wild=True))
    expected = truths(*arrays, axis)
    for fused, on in ((True, False), (True, True), *[(False, True)] * (dtype == np.float32)):
        with tg.kernels(on):
            held(climbed(*arrays, axis, fused), expected)


@both
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_each_row_is_right_and_has_the_bits_that_it_has_alone(dtype, seed, half):
    v, g, ct = mixed_rows(dtype, seed, half)

    def results(v, g, ct):
        v, g = leaves(v, g)
        w = tg.weight_norm(v, g)
        return [w, *w.gradient(v, g, cotangent=ct)]

    whole, one = results(v, g, ct), Slices(v, g, 0)
    expected = [one.weight(), *one.gradient(ct)]
    held(whole, [as_float64_has_it(truth) for truth in expected] if dtype == np.float32 else expected)
    alone = [results(v[i : i + 1], g[i : i + 1], ct[i : i + 1]) for i in range(len(v))]
    for y, rows in zip(whole, zip(*alone, strict=True), strict=True):
        np.testing.assert_array_equal(y.numpy(), np.concatenate([row.numpy() for row in rows]))


def test_a_row_beside_one_that_needs_float64_is_rounded_as_it_is_alone():
    row = [1.4652771949768066, 1.6235392093658447, 1.0941071510314941]  # to the last bit, float64 gives another w
    v, g = np.array([row, [1e-42, 0, 0]], "f4"), np.array([[1.6310765743255615], [1]], "f4")
    both = tg.weight_norm(v, g).numpy()
    np.testing.assert_array_equal(both, [tg.weight_norm(v[i : i + 1], g[i : i + 1]).numpy()[0] for i in range(2)])


@pytest.mark.once
@pytest.mark.parametrize(
    ("dtype", "v", "g", "ct"),
    [
        (np.float32, [2.0**60, 0], 2.0**20, [0, 2.0**120]),
        (np.float32, [2.0**-100, 0], 2.0**-20, [0, 2.0**-120]),
        (np.float32, [2.0**-28, 0], 2.0**101, [0, 2.0**-60]),
        (np.float32, [2.0**28, 0], 2.0**-125, [0, 2.0**100]),
        (np.float32, [2.0**-28, 2.0**-28], 2.0**-29, [2.0**120, 2.0**119]),
        (np.float32, [1.5 * 2.0**-60, 0], 1.7 * 2.0**127, [0, 2.0**-100]),
        (np.float32, [1e-45, 3e-45], 2.0**-20, [2.0**-30, 2.0**-28]),
        (np.float64, [2.0**1000, 0], 2.0**900, [0, 2.0**900]),
        (np.float64, [2.0**-1000, 0], 2.0**-900, [0, 2.0**-100]),
        (np.float64, [2.0**-600, 0], -(2.0**600), [0, 2.0**-300]),
        (np.float64, [2.0**600, 0], -(2.0**-300), [0, 2.0**300]),
        (np.float64, [1e-308], 100, [1]),
        (np.float64, [5e-324, 1e-323], 1e-300, [1, 2]),
        (np.float32, [1e-45, 3e-45], 1e-30, [1, 2]),
    ],
)
@pytest.mark.parametrize("axis", [0, 1])
def test_a_gradient_at_the_ends_of_the_range_is_right_where_nothing_lies_along_v(dtype, v, g, ct, axis):
    v, g, ct = (np.moveaxis(np.array([x], dtype).reshape(1, -1), 0, axis) for x in (v, g, ct))
    one = Slices(v, g, axis)
    for fused, on in ((False, True), (True, False), (True, True)):
        with tg.kernels(on):
            at = leaves(v, g)
            found = tg.weight_norm(*at, axis, fused=fused).gradient(*at, cotangent=ct)
        if fused or dtype == np.float32:
            held([tg.weight_norm(*at, axis), *found], [one.weight(), *one.gradient(ct)])


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("of_v", "of_ct", "of_b"), [(-960, -950, 100), (960, 900, -500)])
def test_a_second_derivative_by_v_is_right_where_only_b_reaches_it(axis, of_v, of_ct, of_b):
    v, g, ct, a, b = numbers((3, 3), axis, np.float64, 1, of_v, False, (0, of_ct, 0, of_b))
    found = OPS["weight_norm_second"](0 * a, b, ct, v, g, axis=axis)
    by_v, by_g, by_ct = Slices(v, g, axis).second(ct, 0 * a, b)
    for y, truth in zip(found, (by_ct, by_v, by_g), strict=True):
        assert not truth.misses(y.numpy())


@pytest.mark.parametrize("on", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
@given(st.integers(0, 2**32 - 1), st.integers(-400, 1000), st.floats(0.5, 1), st.booleans(), st.booleans())
def test_a_second_derivative_is_right_up_to_the_largest_g(on, axis, seed, size, part, largest_g, largest_b):
    v, g, ct, a, b = numbers((3, 3), axis, np.float64, seed, size, False, (0, size - 400, size - 600, -900))
    most = np.finfo(float).max * part
    g, b = (np.copysign(most, x) if at_the_end else x for x, at_the_end in ((g, largest_g), (b, largest_b)))
    expected = Slices(v, g, axis).second(ct, a, b)
    with tg.kernels(on):
        by_ct, by_v, by_g = OPS["weight_norm_second"](a, b, ct, v, g, axis=axis)
    held([by_v, by_g, by_ct], expected)


@pytest.mark.once
@example(-1, -1021, 2 - 2.0**-52)
@given(st.integers(-2100, 2100), st.integers(-1021, 1023), st.floats(1, 2, exclude_max=True))
def test_a_shift_by_any_power_rounds_nothing_that_is_normal(power, start, mantissa):
    x = np.ldexp(mantissa, start)
    for end in (start + power, -1022, 1023):
        with np.errstate(over="ignore"):
            expected = np.ldexp(x, end - start)
        assert shifted(x, end - start) == expected or expected < np.finfo(float).tiny


def test_derivatives_of_the_second_derivative_are_rounded_once():
    arrays = [x.astype(np.float32) for x in numbers((40, 50), 0, np.float64, 5, 0, True)]
    v, g, ct, a, b = arrays
    rng, op = np.random.default_rng(6), OPS["weight_norm_second"]
    p, q, r = (rng.standard_normal(x.shape).astype(np.float32) for x in (v, v, g))
    found, expected = (
        tg.vjp(lambda *xs: tuple(op(*xs, axis=0)), *(x.astype(kind) for x in (a, b, ct, v, g)))[1](
            *(x.astype(kind) for x in (p, q, r))
        )
        for kind in (np.float32, np.float64)
    )
    for y, wide in zip(found, expected, strict=True):
        assert np.mean(y.numpy() != wide.numpy().astype(np.float32)) < 0.02


@both
@given(data=st.data())
def test_equation_3_equals_equation_4_in_decimals(dtype, data):
    v, g, ct, _, _, axis = data.draw(troubles(dtype))
    one = Slices(v, g, axis)
    dv = one.gradient(ct)[0]
    with localcontext(DIGITS):
        c, w = exact(ct), one.weight().value
        projected = one.g / one.norm * (c - w * one.along(w * c) / one.along(w * w))
        assert np.all(abs(projected - dv.value) <= dv.magnitude * Decimal("1e-40"))


COMPILED = [
    ((3, 5), 0, np.float32),
    ((3, 5), 0, np.float64),
    ((4, 3), 1, np.float64),
    ((6,), None, np.float32),
    ((2, 3, 4), (0, 2), np.float64),
    ((2, 2, 3, 2), 1, np.float32),
    ((5, 1), 0, np.float64),
]


@pytest.mark.once
@pytest.mark.parametrize(("shape", "axis", "dtype"), COMPILED)
def test_a_compiled_step_equals_decimal_arithmetic_to_the_second_order(shape, axis, dtype):
    step, kind = tg.jit(lambda v, g, ct, a, b: climbed(v, g, ct, a, b, axis, True)), np.finfo(dtype)
    low, high = kind.minexp + ROOM, kind.maxexp - ROOM
    most, least = (high, high, high, high), (low, low, low, low)
    for seed, (k, others) in enumerate(
        [
            (0, ()),
            (0, ()),
            (low, ()),
            (-1, ()),
            (7, ()),
            (high, ()),
            (high, most),
            (low, least),
            (high, (0, high, 0, 0)),
        ]
    ):
        arrays = numbers(shape, axis, dtype, seed, k, seed % 2 == 0, others or (0, 0, 0, 0))
        held(step(*(tg.tensor(x, requires_grad=True) for x in arrays)), truths(*arrays, axis))


@both
@kernels_or_definitions
@pytest.mark.parametrize("axis", [0, 1])
def test_a_slice_of_zeros_has_no_second_derivative_either(dtype, on, axis):
    v, g, ct, a, b = numbers((3, 3), axis, dtype, 0, 0, False)
    v[1] = v[:, 1] = 0
    with tg.kernels(on), pytest.raises(ZeroNormError, match="weight_norm_second"):
        OPS["weight_norm_second"](a, b, ct, v, g, axis=axis)


def layer(x, v, g, bias):
    y = tg.weight_norm_linear(x, v, g, bias)
    return y, tg.square(y).sum().gradient(x, g)


compiled = {np.float32: tg.jit(layer), np.float64: tg.jit(layer)}
SMALL, LARGE = (20, 7), (190, 190)
LAYERS = [(SMALL, 1), (SMALL, 4), (SMALL, 5), ((3, 5), 40), ((1, 9), 5), (LARGE, 2), (LARGE, 40)]
"""(out, in) and rows of the batch. v of few numbers is turned and measured once, unless the batch has up to 4 rows; a
larger one is read in panels. The cotangent of a batch of twice as many rows as there are outputs goes its own way.
"""


@pytest.mark.once
@both
@settings(phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(data=st.data())
def test_the_scale_of_v_changes_no_bit_of_a_layer(dtype, data):
    shape, rows = data.draw(st.sampled_from(LAYERS))
    kind = np.finfo(dtype)
    k = data.draw(
        st.sampled_from([kind.minexp, -21, -20, -19, 20, kind.maxexp - 1]) | st.integers(kind.minexp, kind.maxexp - 1)
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    v = (rng.uniform(1, 2, shape) * rng.choice([-1, 1, 0], shape, p=[0.45, 0.45, 0.1])).astype(dtype)
    v[:, 0] = 1
    x, g, bias = (rng.standard_normal(s).astype(dtype) for s in ((rows, shape[1]), (shape[0], 1), shape[0]))
    for run in (layer, compiled[dtype]):
        ends = []
        for power in (0, 0, k):
            scaled = np.ldexp(v, power).astype(dtype)
            y, slopes = run(*(tg.tensor(one, requires_grad=True) for one in (x, scaled, g, bias)))
            ends.append([one.numpy().copy() for one in (y, *slopes)])
        for one, other in zip(*ends[1:], strict=True):
            np.testing.assert_array_equal(other, one)


@pytest.mark.once
@both
@pytest.mark.parametrize(("shape", "rows"), LAYERS, ids=str)
def test_a_layer_is_the_same_where_all_numbers_of_v_are_subnormal(dtype, shape, rows):
    rng, kind = np.random.default_rng(rows), np.finfo(dtype)
    v = (rng.integers(1, 100, shape) * rng.choice([-1, 1], shape)).astype(dtype)
    x, g, bias = (rng.standard_normal(s).astype(dtype) for s in ((rows, shape[1]), (shape[0], 1), shape[0]))
    small = np.ldexp(v, kind.minexp - kind.nmant)
    for run in (layer, compiled[dtype]):
        run(*(tg.tensor(one, requires_grad=True) for one in (x, v, g, bias)))
        found = [run(*(tg.tensor(one, requires_grad=True) for one in (x, own, g, bias))) for own in (v, small)]
        for one, other in zip(*((y, *slopes) for y, slopes in found), strict=True):
            np.testing.assert_array_equal(other.numpy(), one.numpy())


@both
@given(data=st.data())
def test_the_scale_of_v_changes_no_bit_of_w_over_the_whole_range(dtype, data):
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    axis, kind = data.draw(axes_for(len(shape))), np.finfo(dtype)
    v, g, *_ = numbers(shape, axis, dtype, data.draw(st.integers(0, 2**32 - 1)), 0, False)
    low, high = (int(np.frexp(one)[1]) for one in (np.abs(v[v != 0]).min(), np.abs(v).max()))
    k = data.draw(st.integers(kind.minexp + 1 - low, kind.maxexp - high))
    for on in (True, False):
        with tg.kernels(on):
            plain, scaled = (tg.weight_norm(one, g, axis).numpy() for one in (v, np.ldexp(v, k)))
        np.testing.assert_array_equal(scaled, plain)


def network(v1, g1, v2, g2, fused=True):
    x = np.random.default_rng(7).standard_normal((6, 4))
    hidden = tg.tanh(tg.linear(tg.tensor(x), tg.weight_norm(v1, g1, fused=fused)))
    y = tg.linear(hidden, tg.weight_norm(v2, g2, fused=fused))
    return tg.cross_entropy(y, tg.tensor(np.arange(6) % 3))


SHAPES = [(5, 4), (5, 1), (3, 5), (3, 1)]


def test_the_second_derivative_of_a_network_equals_differences():
    rng = np.random.default_rng(1)
    gradcheck(network, [rng.standard_normal(shape) for shape in SHAPES], order=2, rtol=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_hessian_vector_products_of_a_network_equal_the_composed_form(seed):
    rng = np.random.default_rng(seed)
    point, u = ([rng.standard_normal(shape) for shape in SHAPES] for _ in range(2))
    found = []
    for fused in (True, False):
        at = leaves(*point)
        slopes = network(*at, fused=fused).gradient(*at, create_graph=True)
        total = sum(((s * one).sum() for s, one in zip(slopes, u, strict=True)), tg.tensor(0.0, "float64"))
        found.append([h.numpy() for h in total.gradient(*at)])
    lengths = [np.linalg.norm(point[i], axis=1).min() for i in (0, 2)]
    size = (1 + 1 / min(lengths)) ** 2  # what v of this length makes of a second derivative
    for one, other in zip(*found, strict=True):
        assert np.linalg.norm(one - other) <= 1e-10 * (np.linalg.norm(other) + 1e-4 * size)


def test_the_kernel_of_the_second_derivative_takes_slices_that_are_no_rows():
    v, g, ct, a, b = numbers((3, 4, 5), 1, np.float64, 3, 0, False)
    found = OPS["weight_norm_second"](a, b, ct, v, g, axis=1)
    by_v, by_g, by_ct = Slices(v, g, 1).second(ct, a, b)
    for y, truth in zip(found, (by_ct, by_v, by_g), strict=True):
        assert not truth.misses(y.numpy())


@pytest.mark.once
def test_the_benchmark_of_second_derivatives_refuses_forms_that_do_not_agree(monkeypatch, capsys):
    monkeypatch.setattr(second, "ROUNDS", 2)
    second.main()
    assert len(capsys.readouterr().out.splitlines()) == 5
    other = {"fused": lambda: (tg.ones(2),), "composed": lambda: (tg.zeros(2),)}
    monkeypatch.setattr(second, "derivatives", lambda shape, dtype: other)
    with pytest.raises(AssertionError, match="do not agree for float32"):
        second.main()
