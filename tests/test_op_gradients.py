"""Every op that has a gradient: both orders, forward and back, in both dtypes, any layout, beside Python numbers."""

from typing import Any

import numpy as np
from every_op import (
    as_function,
    each,
    every_elementwise_op,
    every_op,
    every_smooth_op,
    floats,
    gradients,
    norm,
    outputs,
    random,
    reals_of,
    smooth,
    weighted,
)
from hypothesis import given, strategies as st

import tinygrad_wn as tg
from tinygrad_wn.domains import Array
from tinygrad_wn.op import Op
from tinygrad_wn.tensor import Tensor
from tinygrad_wn.testing import gradcheck
from tinygrad_wn.testing.strategies import calls, layouts


@every_smooth_op
@given(data=st.data())
def test_first_and_second_gradients_equal_central_differences(op: Op[...], data: st.DataObject) -> None:
    arrays, params = data.draw(calls(op))
    f, xs = as_function(op, smooth(op, arrays), params)
    wide = all(y.dtype == np.float64 for y in outputs(f(*xs)))
    gradcheck(f, xs, rtol=1e-6 if wide else 2e-3, seed=data.draw(st.integers(0, 9)))


@every_smooth_op
@given(data=st.data())
def test_jvp_is_the_slope_along_the_tangents_and_the_adjoint_of_the_vjp(op: Op[...], data: st.DataObject) -> None:
    arrays, params = data.draw(calls(op))
    f, xs = as_function(op, smooth(op, arrays), params)
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    size, h = max(np.max(np.abs(x), initial=0.0) for x in xs) or 1.0, 2e-4
    tangents = [np.asarray(size * rng.uniform(-1, 1, x.shape)) for x in xs]
    pushed = outputs(tg.jvp(f, xs, tangents)[1])

    def at(k: int) -> list[Array]:
        moved = outputs(f(*(x + k * h * t for x, t in zip(xs, tangents, strict=True))))
        return [y.numpy().astype(np.float64) for y in moved]

    slopes = [(8 * (a - b) - (c - d)) / (12 * h) for a, b, c, d in zip(at(1), at(-1), at(2), at(-2), strict=True)]
    eps = max(float(np.finfo(y.dtype).eps) for y in pushed)
    for push, slope, y in zip(pushed, slopes, at(0), strict=True):
        assert norm([push.numpy() - slope]) <= 1e-6 * (norm([slope]) + norm(tangents)) + 32 * eps / h * norm([y])

    cts = [random(rng, y) for y in pushed]
    pulled = tg.vjp(f, *xs)[1](*cts)
    left = sum(float(np.sum(c * y.numpy())) for c, y in zip(cts, pushed, strict=True))
    right = sum(float(np.sum(g.numpy() * t)) for g, t in zip(pulled, tangents, strict=True))
    assert abs(left - right) <= 4500 * eps * (norm(cts) * norm(pushed) + norm(pulled) * norm(tangents))


@every_smooth_op
@given(data=st.data())
def test_derivatives_of_some_gradients_are_the_same_where_all_are_taken(op: Op[...], data: st.DataObject) -> None:
    f, xs = as_function(op, *data.draw(calls(op)))
    every = [*range(len(xs))]
    weights = [random(np.random.default_rng(1), x) for x in xs]

    def seconds(some: list[int], asked: list[int]) -> tuple[Tensor, ...]:
        leaves = [tg.tensor(x, requires_grad=True) for x in xs]
        slopes = weighted(f(*leaves)).gradient(*[leaves[i] for i in asked], create_graph=True)
        total = sum(((g * weights[i]).sum() for i, g in zip(asked, slopes, strict=True) if i in some), tg.tensor(0.0))
        return total.gradient(*leaves)

    drawn = data.draw(st.sets(st.sampled_from(every), min_size=1).map(sorted))
    for some in [drawn, *([i] for i in every)]:
        for one, two in zip(seconds(some, some), seconds(some, every), strict=True):
            np.testing.assert_allclose(one.numpy(), two.numpy(), rtol=1e-11, atol=1e-11)


@every_op
@given(data=st.data())
def test_only_an_op_with_a_gradient_gives_a_result_that_has_one(op: Op[...], data: st.DataObject) -> None:
    assert (op.pull is not None) == op.gradient
    f, xs = as_function(op, *data.draw(calls(op)))
    leaves = [tg.tensor(x, requires_grad=True) for x in xs]
    assert all(y.requires_grad == (op.gradient and bool(leaves)) for y in outputs(f(*leaves)))


@every_smooth_op
@given(data=st.data())
def test_float32_gradients_have_the_dtype_and_shape_of_their_inputs_and_are_close(
    op: Op[...], data: st.DataObject
) -> None:
    arrays, params = data.draw(calls(op, np.float32))
    f, narrow = as_function(op, smooth(op, arrays), params)
    wide = [x.astype(np.float64) for x in narrow]
    for x, g, true in zip(narrow, gradients(f, narrow), gradients(f, wide), strict=True):
        assert g.dtype == np.float32
        assert g.shape == x.shape
        largest = np.max(np.abs(true.numpy()), initial=0.0)
        np.testing.assert_allclose(g.numpy(), true.numpy(), rtol=1e-5, atol=1e-5 * largest + 2e-6)


@every_elementwise_op
@given(data=st.data())
def test_broadcasting_is_repeating_and_its_gradient_is_a_sum(op: Op[...], data: st.DataObject) -> None:
    arrays, params = data.draw(calls(op))
    full = np.broadcast_arrays(*arrays)
    np.testing.assert_array_equal(op(*arrays, **params).numpy(), op(*full, **params).numpy())
    if op.gradient:
        f, xs = as_function(op, arrays, params)
        g, wide = as_function(op, tuple(np.array(x) for x in full), params)
        for x, part, whole in zip(xs, gradients(f, xs), gradients(g, wide), strict=True):
            extra = tuple(range(whole.ndim - x.ndim))
            summed = whole.numpy().sum(axis=extra)
            thin = tuple(i for i, n in enumerate(x.shape) if n == 1)
            np.testing.assert_allclose(part.numpy(), summed.sum(axis=thin, keepdims=True), rtol=1e-12, atol=1e-12)


@every_op
@given(data=st.data())
def test_the_layout_in_memory_changes_neither_results_nor_gradients(op: Op[...], data: st.DataObject) -> None:
    drawn, params = data.draw(calls(op))
    plain = tuple(None if x is None else np.ascontiguousarray(x).reshape(x.shape) for x in smooth(op, drawn))
    other = tuple(None if x is None else data.draw(layouts(x)) for x in plain)
    found = []
    for arrays in (plain, other):
        f, xs = as_function(op, arrays, params)
        found.append([*outputs(f(*xs)), *(gradients(f, xs) if op.gradient else ())])
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(one.numpy(), two.numpy(), rtol=1e-12, atol=1e-12)


@every_smooth_op
@given(data=st.data())
def test_a_second_backward_adds_the_same_again(op: Op[...], data: st.DataObject) -> None:
    f, xs = as_function(op, *data.draw(calls(op)))
    leaves = [tg.tensor(x, requires_grad=True) for x in xs]
    total = weighted(f(*leaves))
    once = total.gradient(*leaves)
    for times in (1, 2):
        total.backward()
        for leaf, g in zip(leaves, once, strict=True):
            found = np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy()
            np.testing.assert_array_equal(found, times * g.numpy())


@each(
    lambda op: (
        len(reals_of(op)) > 0 and len(op.domains) > 1 and (op.elementwise or any("()" in c.shapes for c in op.cases))
    )
)
@given(data=st.data())
def test_a_python_number_takes_the_dtype_of_the_others_and_loses_no_digits(op: Op[...], data: st.DataObject) -> None:
    arrays, params = data.draw(calls(op, data.draw(floats)))
    reals = [i for i, x in enumerate(arrays) if x is not None and x.dtype.kind == "f"]
    keep = data.draw(st.sampled_from(reals))
    able = [i for i, x in enumerate(arrays) if x is not None and i != keep and (op.elementwise or x.shape == ())]
    chosen = data.draw(st.sets(st.sampled_from(able), min_size=1)) if able else set()
    strong = [x.reshape(-1)[:1].reshape(()) if i in chosen else x for i, x in enumerate(arrays)]
    weak = [x.item() if i in chosen else x for i, x in enumerate(strong)]
    found = []
    for full in (weak, strong):

        def f(x: Any, full: list[Any] = full) -> Any:
            return op(*full[:keep], x, *full[keep + 1 :], **params)

        found.append([*outputs(f(arrays[keep])), *(gradients(f, [arrays[keep]]) if op.gradient else ())])
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype
        if one.dtype == np.float64:
            np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-14)
