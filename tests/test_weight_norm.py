"""Weight normalization against the hand-derived formulas of Salimans & Kingma 2016 (arXiv 1602.07868).

Both forms are held against equations 2, 3 and 4, written out here in plain NumPy, over shapes of one to four
dimensions, every choice of axis, and both dtypes.
"""

from itertools import chain, combinations

import numpy as np
import pytest
from every_op import kernels_or_definitions
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_wn as tg
from tinygrad_wn.errors import DTypeError, ShapeError, ZeroNormError
from tinygrad_wn.ops.norm import g_shape, weight_norm_pullback

forms = pytest.mark.parametrize("fused", [True, False], ids=["fused", "composed"])


def rest_of(axis, ndim):
    kept = () if axis is None else tuple(i % ndim for i in (axis if isinstance(axis, tuple) else (axis,)))
    return tuple(i for i in range(ndim) if i not in kept)


def along(x, rest):
    return np.sum(x, axis=rest, keepdims=True)


def formulas(v, g, ct, axis):
    """Equation 2, and both gradients by equation 3, in the widest floats there are."""
    v, g, ct = (np.asarray(x, np.longdouble) for x in (v, g, ct))
    rest = rest_of(axis, v.ndim)
    length = np.sqrt(along(v * v, rest))
    dg = along(ct * v, rest) / length
    return g * v / length, g / length * ct - g * dg / length**2 * v, dg


def equation_4(v, g, ct, axis):
    """∇v = g/‖v‖ M ∇w with M = I - w w'/‖w‖², which projects away from w."""
    v, g, ct = (np.asarray(x, np.longdouble) for x in (v, g, ct))
    rest = rest_of(axis, v.ndim)
    w = v  # any g but zero gives the same projection
    return g / np.sqrt(along(v * v, rest)) * (ct - w * along(w * ct, rest) / along(w * w, rest))


@st.composite
def axes_for(draw, ndim):
    every = chain.from_iterable(combinations(range(ndim), n) for n in range(ndim + 1))
    axis = draw(st.sampled_from([None, *range(-ndim, ndim), *every]))
    if isinstance(axis, tuple):
        axis = tuple(draw(st.permutations([i - ndim * draw(st.booleans()) for i in axis])))
    return axis


@st.composite
def problems(draw, dtypes=(np.float32, np.float64)):
    """v without a zero slice, g, a cotangent of w, and an axis."""
    dtype = draw(st.sampled_from(dtypes))
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=4))
    axis = draw(axes_for(len(shape)))
    numbers = st.floats(-4, 4, width=32)  # subnormal numbers among them
    v, ct = (draw(hnp.arrays(dtype, shape, elements=numbers)) for _ in range(2))
    g = draw(hnp.arrays(dtype, g_shape(shape, axis), elements=numbers))
    v = np.where(np.sqrt(along(v * v, rest_of(axis, v.ndim))) < 0.125, v + 1, v).astype(dtype)
    return v, g, ct, axis


def norm(x):
    return float(np.linalg.norm(np.asarray(x, float)))


def leaves(*arrays):
    return tuple(tg.tensor(x, requires_grad=True) for x in arrays)


def gradients(v, g, ct, axis, fused):
    v, g = leaves(v, g)
    w = tg.weight_norm(v, g, axis, fused=fused)
    return (w, *w.gradient(v, g, cotangent=ct))


@forms
@given(problems())
def test_w_and_both_gradients_equal_equations_2_and_3(fused, problem):
    v, g, ct, axis = problem
    eps = np.finfo(v.dtype).eps
    w, dv, dg = gradients(*problem, fused)
    true_w, true_dv, true_dg = formulas(*problem)
    size = np.sqrt(along(np.asarray(v, float) ** 2, rest_of(axis, v.ndim)))
    assert w.dtype == dv.dtype == dg.dtype == v.dtype
    assert dg.shape == g.shape
    assert np.all(np.abs(w.numpy() - true_w) <= 8 * eps * np.abs(true_w) + np.finfo(v.dtype).smallest_subnormal)
    assert np.all(np.abs(dv.numpy() - true_dv) <= 8 * eps * np.abs(g) / size * norm(ct) + np.finfo(v.dtype).tiny)
    assert np.all(np.abs(dg.numpy() - true_dg) <= 8 * eps * norm(ct))


@forms
@given(problems())
def test_gradient_of_v_equals_equation_4(fused, problem):
    v, g, ct, axis = problem
    dv = gradients(*problem, fused)[1]
    size = np.sqrt(along(np.asarray(v, float) ** 2, rest_of(axis, v.ndim)))
    bound = 8 * np.finfo(v.dtype).eps * np.abs(g) / size * norm(ct) + np.finfo(v.dtype).tiny
    assert np.all(np.abs(dv.numpy() - equation_4(*problem)) <= bound)


@forms
@given(problems())
def test_gradient_of_v_is_orthogonal_to_v(fused, problem):
    v, g, ct, axis = problem
    dv = gradients(*problem, fused)[1].numpy()
    rest = rest_of(axis, v.ndim)
    n = max(1, int(np.prod([v.shape[i] for i in rest])))
    dots = np.abs(along(np.asarray(dv, float) * np.asarray(v, float), rest))
    limit = 8 * n * np.finfo(v.dtype).eps * np.abs(g) * np.sqrt(along(np.asarray(ct, float) ** 2, rest))
    assert np.all(dots <= limit + np.finfo(v.dtype).tiny)


@forms
@given(problems())
def test_each_slice_of_w_has_length_g(fused, problem):
    v, g, _, axis = problem
    w = tg.weight_norm(v, g, axis, fused=fused).numpy().astype(float)
    lengths = np.sqrt(along(w * w, rest_of(axis, v.ndim)))
    kind, n = np.finfo(v.dtype), v.size / max(g.size, 1)
    lost = np.sqrt(n) * float(kind.smallest_subnormal)  # where g is so small that entries of w are subnormal
    np.testing.assert_allclose(lengths, np.abs(g), rtol=8 * kind.eps, atol=lost)


@forms
@given(problems(), st.integers(-90, 90))
def test_length_of_v_does_not_matter_to_the_last_bit(fused, problem, k):
    v, g, ct, axis = problem
    v = np.where(np.abs(v) < 2.0**-20, 0, v).astype(v.dtype)
    v = np.where(along(np.abs(v), rest_of(axis, v.ndim)) == 0, 1, v).astype(v.dtype)
    w, dv, dg = gradients(v, g, ct, axis, fused)
    scaled_w, scaled_dv, scaled_dg = gradients(np.ldexp(v, k), g, ct, axis, fused)
    np.testing.assert_array_equal(scaled_w.numpy(), w.numpy())
    np.testing.assert_array_equal(scaled_dg.numpy(), dg.numpy())
    eps = np.finfo(v.dtype)
    np.testing.assert_allclose(
        np.ldexp(scaled_dv.numpy().astype(float), k), dv.numpy(), rtol=eps.eps, atol=eps.tiny * 2.0 ** abs(k)
    )


@pytest.mark.parametrize("axis", [0, 1])
def test_a_large_g_over_the_length_of_a_subnormal_slice_gives_w(axis):
    v, g = np.array([[3e-312, -4e-312]]), np.array([[1.5e308]])
    v, g = (v, g) if axis == 0 else (v.T, g.T)
    expected = np.array([[0.9e308, -1.2e308]]).reshape(v.shape)
    np.testing.assert_allclose(tg.weight_norm(v, g, axis).numpy(), expected, rtol=1e-11)  # v has 39 bits


@pytest.mark.parametrize("axis", [0, 1])
def test_the_largest_g_leaves_w_and_the_gradient_of_v_in_range(axis):
    v, g, ct = np.array([[3.0, 4.0]]) * 2.0**300, np.array([[1.5e308]]), np.array([[4.0, 3.0]]) * 2.0**-9
    v, g, ct = (v, g, ct) if axis == 0 else (v.T, g.T, ct.T)
    w, dv, dg = gradients(v, g, ct, axis, fused=True)
    across = np.array([[4 - 24 * 3 / 25, 3 - 24 * 4 / 25]]).reshape(v.shape)
    np.testing.assert_allclose(w.numpy(), np.array([[0.9e308, 1.2e308]]).reshape(v.shape), rtol=1e-14)
    np.testing.assert_allclose(dv.numpy(), across * 2.0**-9 / (5 * 2.0**300) * g, rtol=1e-14)
    np.testing.assert_allclose(dg.numpy(), [[24 / 5 * 2.0**-9]], rtol=1e-14)


@pytest.mark.parametrize("scale", [1e-35, 1e-23, 1e19, 1e37])
@forms
def test_float32_at_the_ends_of_its_range(fused, scale):
    v = np.array([[3, 4], [-5, 12]], np.float32) * np.float32(scale)
    w = tg.weight_norm(v, np.array([[5], [13]], np.float32), fused=fused)
    np.testing.assert_allclose(w.numpy(), [[3, 4], [-5, 12]], rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
@forms
def test_float64_at_the_ends_of_its_range(fused, scale):
    v = np.array([[3.0, 4.0], [-5.0, 12.0]]) * scale
    w = tg.weight_norm(v, np.array([[5.0], [13.0]]), fused=fused)
    np.testing.assert_allclose(w.numpy(), [[3, 4], [-5, 12]], rtol=1e-14)


@pytest.mark.parametrize("k", [-1000, -500, 500, 1000])
@kernels_or_definitions
@forms
def test_float64_gradients_at_the_ends_of_the_range(fused, on, k):
    v, g, ct = np.array([[3.0, 4.0], [-5.0, 12.0]]), np.array([[5.0], [13.0]]), np.array([[1.0, 2.0], [3.0, 4.0]])
    with tg.kernels(on):
        _, dv, dg = gradients(np.ldexp(v, k), g, ct, 0, fused)
    _, true_dv, true_dg = formulas(v, g, ct, 0)
    np.testing.assert_allclose(np.ldexp(dv.numpy(), k), np.asarray(true_dv, float), rtol=1e-14)
    np.testing.assert_allclose(dg.numpy(), np.asarray(true_dg, float), rtol=1e-14)


@forms
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 25, -25, 60, -60, 100, -100]))
def test_float32_gradient_is_right_when_the_cotangent_is_nearly_parallel_to_v(fused, seed, k):
    rng = np.random.default_rng(seed)
    v = rng.standard_normal((2, 50)).astype(np.float32)
    ct = (v + 1e-6 * rng.standard_normal(v.shape)).astype(np.float32)
    g = np.ones((2, 1), np.float32)
    dv = np.ldexp(gradients(np.ldexp(v, k), g, ct, 0, fused)[1].numpy().astype(float), k)
    true = formulas(v, g, ct, 0)[1]
    assert norm(dv - true) <= 1e-6 * norm(true)


@pytest.mark.once
@pytest.mark.parametrize("k", [0, 40, -40, 70, -70, 110, -110])
def test_float32_weights_are_those_of_float64_rounded_once(k):
    rng = np.random.default_rng(k + 200)
    v = np.ldexp(rng.standard_normal((70, 301)), k).astype(np.float32)
    g = rng.standard_normal((70, 1)).astype(np.float32)
    w = tg.weight_norm(v, g).numpy()
    assert np.count_nonzero(w != formulas(v, g, v, 0)[0].astype(np.float32)) <= 2  # ties of numbers of 48 bits


def pulled_back(ct, v, g, axis, fused):
    """∇v and ∇g as functions of all three, recorded."""
    w = tg.weight_norm(v, g, axis, fused=fused)
    return w.gradient(v, g, cotangent=ct, create_graph=True)


@forms
@given(problems(dtypes=(np.float64,)), st.integers(0, 2**32 - 1))
def test_second_derivatives_equal_finite_differences(fused, problem, seed):
    v, g, ct, axis = problem
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal(v.shape), rng.standard_normal(g.shape)
    tv, tg_, tc = leaves(v, g, ct)
    dv, dg = pulled_back(tc, tv, tg_, axis, fused)
    found = ((dv * a).sum() + (dg * b).sum()).gradient(tv, tg_, tc)

    def value(v, g, ct):
        _, dv, dg = formulas(v, g, ct, axis)
        return np.sum(dv * a) + np.sum(dg * b)

    rest = rest_of(axis, v.ndim)
    smallest = float(np.sqrt(along(v * v, rest)).min())
    sizes = {0: smallest, 1: 1.0, 2: 1.0}
    for i, (x, actual) in enumerate(zip((v, g, ct), found, strict=True)):
        u = rng.standard_normal(x.shape)
        h = np.longdouble(1e-5) * sizes[i] / max(norm(u), 1)
        points = [(*(v, g, ct)[:i], x + s * h * u, *(v, g, ct)[i + 1 :]) for s in (1, -1, 2, -2)]
        f = [value(*p) for p in points]
        expected = (8 * (f[0] - f[1]) - (f[2] - f[3])) / (12 * h)
        assert abs(float(expected) - float(np.sum(actual.numpy() * u))) <= 1e-6 * (norm(a) + norm(b) + 1)


@given(problems(dtypes=(np.float64,)), st.integers(0, 2**32 - 1))
def test_fused_and_composed_form_agree_to_the_third_order(problem, seed):
    v, g, ct, axis = problem
    rng = np.random.default_rng(seed)
    probes = [rng.standard_normal(x.shape) for x in (v, g, ct, v, g, ct)]
    found = []
    for fused in (True, False):
        tv, tg_, tc, a, b = leaves(v, g, ct, *probes[:2])
        dv, dg = pulled_back(tc, tv, tg_, axis, fused)
        first = (dv * a).sum() + (dg * b).sum()
        second = first.gradient(tv, tg_, tc, create_graph=True)
        third = sum(((s * p).sum() for s, p in zip(second, probes[3:], strict=True)), tg.tensor(0.0, "float64"))
        found.append([*second, *third.gradient(tv, tg_, tc, a, b)])
    for one, other in zip(*found, strict=True):
        size = max(norm(one.numpy()), norm(other.numpy()))
        smallest = float(np.sqrt(along(v * v, rest_of(axis, v.ndim))).min())
        floor = (1 + norm(g)) * (1 + norm(ct)) * (1 + 1 / smallest) ** 3
        assert norm(one.numpy() - other.numpy()) <= 1e-10 * size + 1e-13 * floor


@forms
@given(problems(dtypes=(np.float64,)), st.integers(0, 2**32 - 1))
def test_forward_and_backward_derivative_are_adjoint(fused, problem, seed):
    v, g, ct, axis = problem
    rng = np.random.default_rng(seed)
    tangents = rng.standard_normal(v.shape), rng.standard_normal(g.shape)
    _, pushed = tg.jvp(lambda v, g: tg.weight_norm(v, g, axis, fused=fused), (v, g), tangents)
    _, dv, dg = gradients(*problem, fused)
    right = np.sum(dv.numpy() * tangents[0]) + np.sum(dg.numpy() * tangents[1])
    left = np.sum(ct * pushed.numpy())
    pulled, tangent = (np.sqrt(norm(a) ** 2 + norm(b) ** 2) for a, b in ((dv.numpy(), dg.numpy()), tangents))
    assert abs(left - right) <= 1e-12 * (norm(ct) * norm(pushed.numpy()) + pulled * tangent)


@given(problems())
def test_kernel_equals_definition(problem):
    v, g, ct, axis = problem
    fast = gradients(v, g, ct, axis, True)
    with tg.kernels(False):
        slow = gradients(v, g, ct, axis, True)
    eps = np.finfo(v.dtype).eps
    for one, other, size in zip(fast, slow, (0, norm(g), 1), strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=4 * eps, atol=32 * eps * size * norm(ct))


@forms
@given(problems(dtypes=(np.float64,)))
def test_layout_in_memory_does_not_matter(fused, problem):
    v, g, ct, axis = problem
    spaced = np.zeros(tuple(2 * n for n in v.shape))[tuple(slice(None, None, -2) for _ in v.shape)]
    spaced[...] = v
    plain = gradients(v, g, ct, axis, fused)
    for other in (np.asfortranarray(v), spaced):
        leaf = tg.tensor(np.zeros_like(v), requires_grad=True)
        leaf._data = other  # tg.tensor would make it contiguous
        w = tg.weight_norm(leaf, tg.tensor(g), axis, fused=fused)
        np.testing.assert_allclose(w.numpy(), plain[0].numpy(), rtol=1e-15)
        np.testing.assert_allclose(w.gradient(leaf, cotangent=ct)[0].numpy(), plain[1].numpy(), rtol=1e-12, atol=1e-13)


@forms
@kernels_or_definitions
def test_a_slice_of_norm_zero_is_named(fused, on):
    v = np.ones((3, 2, 2), np.float32)
    v[1, :, 1] = 0
    with tg.kernels(on), pytest.raises(ZeroNormError) as caught:
        tg.weight_norm(v, np.ones((3, 1, 2), np.float32), axis=(0, 2), fused=fused)
    assert "slices : [1, :, 1]" in str(caught.value)
    assert "hint" in str(caught.value)
    assert isinstance(caught.value, ValueError)


@forms
@pytest.mark.parametrize(
    ("axis", "shape"), [(0, (2,)), (0, (1, 3)), (1, (2, 1)), (None, (2, 1)), ((0, 1), (2, 1)), (0, (2, 3))]
)
def test_g_of_another_shape_is_refused(fused, axis, shape):
    with pytest.raises(ShapeError, match="g must have shape"):
        tg.weight_norm(np.ones((2, 3)), np.ones(shape), axis, fused=fused)


@forms
@pytest.mark.parametrize("axis", [2, -3, (0, 0), (0, -2), "rows", 0.5, True])
def test_an_axis_that_is_not_there_is_refused(fused, axis):
    with pytest.raises(ShapeError, match="axis"):
        tg.weight_norm(np.ones((2, 3)), np.ones((2, 1)), axis, fused=fused)


@forms
def test_integers_and_text_are_refused_or_promoted(fused):
    assert tg.weight_norm([[3, 4]], [[5]], fused=fused).dtype == np.float64
    with pytest.raises(DTypeError):
        tg.weight_norm([["a"]], [[5.0]], fused=fused)


@forms
def test_not_a_number_stays_in_its_slice(fused):
    v = np.array([[np.nan, 1.0], [3.0, 4.0]])
    w = tg.weight_norm(v, np.array([[1.0], [5.0]]), fused=fused).numpy()
    assert np.isnan(w[0]).all()
    np.testing.assert_array_equal(w[1], [3.0, 4.0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_lies_across_a_slice_of_one_number(dtype: str) -> None:
    rng = np.random.default_rng(0)
    v, ct, g = (rng.normal(size=(70, 1)).astype(dtype) for _ in range(3))
    leaves = [tg.tensor(x, requires_grad=True) for x in (v, g)]
    dv, dg = tg.weight_norm(*leaves).gradient(*leaves, cotangent=ct)
    np.testing.assert_array_equal(dv.numpy(), 0)
    np.testing.assert_array_equal(dg.numpy(), ct * np.sign(v))
    a, b = rng.normal(size=(70, 1)).astype(dtype), rng.normal(size=(70, 1)).astype(dtype)
    to_ct, to_v, to_g = tg.vjp(lambda *xs: tuple(weight_norm_pullback(*xs)), ct, v, g)[1](a, b)
    np.testing.assert_array_equal(to_ct.numpy(), b * np.sign(v))
    np.testing.assert_array_equal([to_v.numpy(), to_g.numpy()], 0)


@kernels_or_definitions
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_not_finite_shows_across_a_slice_of_one_number_as_well(on: bool, dtype: str) -> None:
    v, g, ct = np.full((3, 1), 2, dtype), np.full((3, 1), 3, dtype), np.array([[np.nan], [np.inf], [1]], dtype)
    leaves = [tg.tensor(x, requires_grad=True) for x in (v, g)]
    with tg.kernels(on):
        dv, dg = tg.weight_norm(*leaves).gradient(*leaves, cotangent=ct)
    np.testing.assert_array_equal(dv.numpy(), [[np.nan], [np.nan], [0]])
    np.testing.assert_array_equal(dg.numpy(), ct)
