"""Every declared op, tested because it is declared: its definition, kernel, rules, derivatives and messages agree."""

import doctest
import importlib
import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import tinygrad_wn as tg
from tinygrad_wn.domains import Array
from tinygrad_wn.errors import DTypeError, ShapeError, TinygradWNError, ZeroNormError
from tinygrad_wn.op import OPS, Op
from tinygrad_wn.tensor import Tensor, wrap
from tinygrad_wn.testing import gradcheck
from tinygrad_wn.testing.strategies import calls, layouts


def each(wanted: Callable[[Op[...]], bool]) -> pytest.MarkDecorator:
    found = {name: op for name, op in OPS.items() if wanted(op)}
    return pytest.mark.parametrize("op", found.values(), ids=found.keys())


def reals_of(op: Op[...]) -> list[str]:
    return [name for name, domain in op.domains.items() if domain.kind == "real"]


every_op = each(lambda op: True)
every_smooth_op = each(lambda op: op.gradient)
every_elementwise_op = each(lambda op: op.elementwise and len(op.input_names) > 1)
every_kernel = each(lambda op: op.kernel is not None)
floats: st.SearchStrategy[Any] = st.sampled_from([np.float32, np.float64])

SMOOTHED: dict[str, Callable[..., tuple[Array, ...]]] = {
    "remainder": lambda a, b: (b * (np.floor(a / b) + 0.5), b),  # half way between two jumps
}


def smooth(op: Op[...], arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    return SMOOTHED[op.name](*arrays) if op.name in SMOOTHED else arrays


def as_function(op: Op[...], arrays: tuple[Any, ...], params: Any) -> tuple[Callable[..., Any], list[Array]]:
    """The call as a function of its float inputs alone, and those."""
    places = [i for i, x in enumerate(arrays) if x is not None and x.dtype.kind == "f"]

    def f(*given: Any) -> Any:
        full = list(arrays)
        for i, x in zip(places, given, strict=True):
            full[i] = x
        return op(*full, **params)

    return f, [arrays[i] for i in places]


def outputs(y: Any) -> tuple[Any, ...]:
    return y if isinstance(y, tuple) else (y,)


def random(rng: np.random.Generator, like: Any) -> Array:
    return np.asarray(rng.standard_normal(like.shape), like.dtype)


def weighted(y: Any) -> Tensor:
    """The results as one number, each entry with a weight of its own."""
    rng = np.random.default_rng(0)
    return sum(((one * random(rng, one)).sum() for one in outputs(y)), tg.tensor(0.0))


def gradients(f: Callable[..., Any], xs: list[Array]) -> tuple[Tensor, ...]:
    """Gradients of the weighted results; the layout of xs stays as it is."""
    leaves = [wrap(x, requires_grad=True) for x in xs]
    return weighted(f(*leaves)).gradient(*leaves)


def norm(arrays: Any) -> float:
    return math.hypot(*(float(np.linalg.norm(np.asarray(x.detach() if hasattr(x, "detach") else x))) for x in arrays))


@every_op
@given(data=st.data())
def test_the_shape_rule_tells_the_shape_of_kernel_and_definition(op: Op[...], data: st.DataObject) -> None:
    arrays, params = data.draw(calls(op, data.draw(floats)))
    said = op.result_shape([None if x is None else x.shape for x in arrays], op.defaults | params)
    for on in (True, False):
        with tg.kernels(on):
            y = op(*arrays, **params)
        assert (tuple(one.shape for one in y) if isinstance(y, tuple) else y.shape) == said


@every_op
@given(data=st.data())
def test_results_have_the_common_dtype_of_the_float_inputs(op: Op[...], data: st.DataObject) -> None:
    arrays, params = data.draw(calls(op, np.float64))
    kinds = [data.draw(floats) for _ in arrays]
    arrays = tuple(
        x.astype(kind) if x is not None and x.dtype.kind == "f" else x for x, kind in zip(arrays, kinds, strict=True)
    )
    reals = [x for x in arrays if x is not None and x.dtype.kind == "f"]
    for on in (True, False):
        with tg.kernels(on):
            for y in outputs(op(*arrays, **params)):
                if "dtype" in params:
                    assert y.dtype == params["dtype"]
                elif op.gradient:
                    assert y.dtype == np.result_type(*reals)
                else:
                    assert y.dtype.kind in "ib" or y.dtype in [x.dtype for x in reals]


@every_op
@given(data=st.data())
def test_integers_are_promoted_as_numpy_promotes_them(op: Op[...], data: st.DataObject) -> None:
    arrays, params = data.draw(calls(op, np.int64))
    twin = getattr(np, op.name, None)
    if isinstance(twin, np.ufunc):
        try:
            expected = twin(*arrays)
        except ValueError:  # a negative integer power
            with pytest.raises(ValueError, match="negative integer powers"):
                op(*arrays, **params)
            return
        y = op(*arrays, **params)
        assert y.dtype == expected.dtype
        np.testing.assert_array_equal(y.numpy(), expected)
    else:
        for y in outputs(op(*arrays, **params)):
            assert y.dtype.kind in "iub" or y.dtype == params.get("dtype", np.float64)


@every_kernel
@given(data=st.data())
def test_the_kernel_equals_the_definition(op: Op[...], data: st.DataObject) -> None:
    dtype = data.draw(floats)
    arrays, params = data.draw(calls(op, dtype))
    params = op.defaults | params
    shapes = op.result_shape([x.shape for x in arrays if x is not None], params)
    several = bool(shapes) and isinstance(shapes[0], tuple)
    results = [np.full(s, np.nan, dtype) for s in (shapes if several else [shapes])]
    assert op.kernel is not None
    assert op.kernel(*results, *arrays, **params), "the kernel does not take its own cases"
    for fast, slow in zip(results, outputs(op.definition(*arrays, **params)), strict=True):
        np.testing.assert_allclose(fast, slow, rtol=4 * np.finfo(dtype).eps, atol=1e-12, strict=True)


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


@every_op
@given(data=st.data())
def test_an_empty_call_is_refused_or_gives_shapes_that_fit(op: Op[...], data: st.DataObject) -> None:
    arrays, params = data.draw(calls(op, data.draw(floats), empty=True))
    f, xs = as_function(op, arrays, params)
    for on in (True, False):
        with tg.kernels(on):
            try:
                y = f(*xs)
            except (ShapeError, ZeroNormError):
                continue
            said = op.result_shape([None if x is None else x.shape for x in arrays], op.defaults | params)
            assert (tuple(one.shape for one in y) if isinstance(y, tuple) else y.shape) == said
            if op.gradient:
                assert [g.shape for g in gradients(f, xs)] == [x.shape for x in xs]
                tangents = [np.ones_like(x) for x in xs]
                pushed = outputs(tg.jvp(f, xs, tangents)[1])
                assert [one.shape for one in pushed] == [one.shape for one in outputs(y)]


@every_op
@given(data=st.data())
def test_inputs_are_read_and_never_written(op: Op[...], data: st.DataObject) -> None:
    arrays, params = data.draw(calls(op))
    for x in arrays:
        if x is not None:
            x.flags.writeable = False
    for on in (True, False):
        with tg.kernels(on):
            f, xs = as_function(op, arrays, params)
            f(*xs)
            if op.gradient:
                gradients(f, xs)


@every_op
@given(data=st.data())
def test_a_result_that_shares_memory_shares_the_version_as_well(op: Op[...], data: st.DataObject) -> None:
    arrays, params = data.draw(calls(op))
    inputs = [None if x is None else tg.tensor(x) for x in arrays]
    for y in outputs(op(*inputs, **params)):
        for x in inputs:
            if x is not None and np.shares_memory(x.numpy(), y.numpy()):
                assert y._writes is x._writes


@every_smooth_op
@given(data=st.data())
def test_a_second_backward_adds_the_same_again(op: Op[...], data: st.DataObject) -> None:
    f, xs = as_function(op, *data.draw(calls(op)))
    leaves = [tg.tensor(x, requires_grad=True) for x in xs]
    total = weighted(f(*leaves))
    total.backward()
    once = [leaf.grad.numpy().copy() for leaf in leaves if leaf.grad is not None]
    assert len(once) == len(leaves)
    total.backward()
    for leaf, g in zip(leaves, once, strict=True):
        assert leaf.grad is not None
        np.testing.assert_array_equal(leaf.grad.numpy(), 2 * g)


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


SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30, 1e-30]


@every_op
@given(data=st.data())
def test_no_value_raises_a_warning_or_an_error(op: Op[...], data: st.DataObject) -> None:
    arrays, params = data.draw(calls(op, data.draw(floats)))
    f, xs = as_function(op, arrays, params)
    for x in xs:
        for _ in range(data.draw(st.integers(0, 2))):
            x[tuple(data.draw(st.integers(0, n - 1)) for n in x.shape)] = data.draw(st.sampled_from(SPECIAL))
    for on in (True, False):
        with tg.kernels(on):
            try:
                f(*xs)
                if op.gradient:
                    gradients(f, xs)
                    tg.jvp(f, xs, [np.ones_like(x) for x in xs])
            except ZeroNormError:
                assert any((x == 0).any() for x in xs)


@every_op
def test_the_docstring_has_an_example_that_is_run(op: Op[...]) -> None:
    module = importlib.import_module(op.__module__)
    found = {test.name: test for test in doctest.DocTestFinder().find(module)}
    assert any(
        op.name in example.source or ">>> " not in example.source
        for example in found[f"{op.__module__}.{op.name}"].examples
    )


@every_op
def test_wrong_arguments_are_answered_with_the_signature(op: Op[...]) -> None:
    case = op.cases[0]
    count = len(op.input_names) + len(op.param_names)
    with pytest.raises(DTypeError, match=f"{op.name}.*") as caught:
        op(*[1.0] * len(op.input_names), **case.params, no_such_parameter=1)
    assert "no_such_parameter" in str(caught.value)
    assert repr(op) in str(caught.value)
    with pytest.raises(TinygradWNError, match=op.name):
        op(**case.params)
    if not op.variadic:
        with pytest.raises(DTypeError, match=f"{op.name}: argument '{op.input_names[0]}' is missing"):
            op()
        with pytest.raises(DTypeError, match=f"{op.name}: too many arguments"):
            op(*[1.0] * (count + 1))
        with pytest.raises(DTypeError, match=f"{op.name}: '{op.input_names[0]}' is given twice"):
            op(1.0, **{op.input_names[0]: 1.0})
    assert list(inspect.signature(op).parameters) == [*op.input_names, *op.param_names]
