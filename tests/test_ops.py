"""Every declared op, tested because it is declared: definition, kernel, rules, example and messages agree."""

import doctest
import importlib
import inspect
import operator
from typing import Any

import numpy as np
import pytest
from every_op import as_function, each, every_kernel, every_op, floats, gradients, outputs
from hypothesis import given, settings, strategies as st

import tinygrad_wn as tg
from tinygrad_wn.errors import DTypeError, GradientError, ShapeError, TinygradWNError, ZeroNormError
from tinygrad_wn.op import Op
from tinygrad_wn.testing.strategies import calls


@pytest.mark.once
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
@settings(max_examples=3)
@given(data=st.data())
def test_none_stands_only_for_what_an_op_can_do_without(op: Op[...], data: st.DataObject) -> None:
    arrays, params = data.draw(calls(op, data.draw(floats)))
    for i in range(len(arrays)):
        name = op.input_names[min(i, len(op.input_names) - 1)]
        given = (*arrays[:i], None, *arrays[i + 1 :])
        if name in op.optional:
            op(*given, **params)
        else:
            with pytest.raises(DTypeError, match=f"{op.name}: {name} must be a tensor"):
                op(*given, **params)


@pytest.mark.parametrize("values", [[1.0, np.nan], [1, 0], [True, False]])
def test_none_equals_no_number(values: list[Any]) -> None:
    for x in (tg.tensor(values), np.array(values)):
        assert [np.asarray(f(x, None)).tolist() for f in (operator.eq, operator.ne)] == [[False] * 2, [True] * 2]


@pytest.mark.once
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


@pytest.mark.once
@every_op
@given(dtype=st.sampled_from(["uint8", "uint32", "uint64", "bool"]), data=st.data())
def test_integers_without_a_sign_are_numbers_as_others(op: Op[...], dtype: str, data: st.DataObject) -> None:
    numpys = hasattr(np, op.name) or not op.__module__.startswith("tinygrad_wn.")  # their definitions decide
    if numpys or not op.gradient or op.several or any(x.kind == "integer" for x in op.domains.values()):
        return
    arrays, params = data.draw(calls(op, np.float64))
    given = [x if x is None else np.abs(x).round().astype(dtype) for x in arrays]
    try:
        wanted = op(*[x if x is None else x.astype(np.float64) for x in given], **params).numpy()
    except TinygradWNError:
        return
    with np.errstate(all="ignore"):
        found = op(*given, **params)
    if found.dtype.kind == "f":
        np.testing.assert_allclose(found.numpy(), wanted, rtol=2e-3, atol=2e-3)


@pytest.mark.once
@every_kernel
@given(data=st.data())
def test_the_kernel_equals_the_definition(op: Op[...], data: st.DataObject) -> None:
    dtype = data.draw(floats)
    arrays, params = data.draw(calls(op, dtype))
    params = op.defaults | params
    shapes = op.result_shape([None if x is None else x.shape for x in arrays], params)
    several = bool(shapes) and isinstance(shapes[0], tuple)
    results = [np.full(s, np.nan, dtype) for s in (shapes if several else [shapes])]
    assert op.kernel is not None
    assert op.kernel(*results, *arrays, **params), "the kernel does not take its own cases"
    for fast, slow in zip(results, outputs(op.definition(*arrays, **params)), strict=True):
        eps = float(np.finfo(dtype).eps)
        atol = 4 * eps * terms(op, arrays, params) if op.name in SUMS else 1e-12
        np.testing.assert_allclose(fast, slow, rtol=4 * eps, atol=atol, strict=True)


SUMS = ("matmul", "linear", "linear_pullback", "weight_norm_linear", "weight_norm_linear_pullback")
"""Ops whose terms may cancel: what is lost in a sum is bounded by the sum of the sizes of its terms."""


def terms(op: Op[...], arrays: tuple[Any, ...], params: Any) -> float:
    sizes = [None if x is None else np.abs(x) for x in arrays]
    return max(float(np.max(y, initial=0.0)) for y in outputs(op.definition(*sizes, **params)))


@pytest.mark.once
@every_kernel
@given(data=st.data())
def test_the_kernel_runs_where_kernels_are_on_and_nowhere_else(op: Op[...], data: st.DataObject) -> None:
    arrays, params = data.draw(calls(op, data.draw(floats)))

    def refuse(*_: object, **__: object) -> bool:
        raise InterruptedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(op, "kernel", refuse)
        with tg.kernels(False):
            op(*arrays, **params)
        with pytest.raises(InterruptedError), tg.kernels(True):
            op(*arrays, **params)


@pytest.mark.once
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


@pytest.mark.once
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


SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30, 1e-30]


@pytest.mark.once
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
            except GradientError:
                assert op.name == "finite"
                assert not np.isfinite(xs[0]).all()


@each(lambda op: len(op.integers) > 0)
@given(data=st.data())
def test_floats_are_refused_where_integers_are_needed(op: Op[...], data: st.DataObject) -> None:
    arrays, params = data.draw(calls(op))
    floats_instead = [x.astype(np.float64) if x is not None and x.dtype.kind == "i" else x for x in arrays]
    if len(arrays) > 1:
        with pytest.raises(DTypeError, match=f"{op.name}: {op.integers[0][1]} must hold integers"):
            op(*floats_instead, **params)


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
