"""grad, value_and_grad, vjp, jvp, jacobian, hessian and hvp: each alone, nested, and against each other."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_wn as tg
from tinygrad_wn.domains import Array
from tinygrad_wn.errors import DTypeError, GradientError, ShapeError
from tinygrad_wn.tensor import Tensor

vectors = hnp.arrays(np.float64, st.integers(1, 4), elements=st.floats(-2, 2))
scalars = st.floats(-2, 2)


def pairs(n: int = 2) -> st.SearchStrategy[tuple[Array, ...]]:
    """Vectors of one size."""
    return st.integers(1, 4).flatmap(
        lambda size: st.tuples(*[hnp.arrays(np.float64, size, elements=st.floats(-2, 2))] * n)
    )


def wavy(x: Any) -> Tensor:
    """A number with derivatives of every order, mixed ones too."""
    return tg.sum(tg.sin(x) * tg.exp(0.5 * x)) * tg.sum(x * x) + tg.prod(x)


def curve(x: Any) -> Tensor:
    """A vector of another size than x."""
    return tg.concat([tg.sin(x) * tg.sum(x), tg.expand_dims(wavy(x), 0)])


def close(a: Any, b: Any, tolerance: float = 1e-11) -> None:
    np.testing.assert_allclose(a.numpy() if isinstance(a, Tensor) else a, b, rtol=tolerance, atol=tolerance)


def slope(f: Callable[[Any], Any], x: Any, u: Any, h: float = 1e-3) -> Array:
    """Derivative of f along u by central differences."""

    def at(k: int) -> Array:
        return np.asarray(f(x + k * h * u).numpy())

    return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * h)


@given(vectors)
def test_value_and_grad_gives_both_and_grad_the_second(x: Array) -> None:
    value, gradient = tg.value_and_grad(wavy)(x)
    close(value, wavy(x).numpy())
    close(gradient, tg.grad(wavy)(x).numpy())
    close(gradient, [float(slope(wavy, x, one)) for one in np.eye(x.size)], 1e-8)


@given(pairs())
def test_jacobian_has_the_slopes_as_columns(xu: tuple[Array, Array]) -> None:
    x, u = xu
    whole = tg.jacobian(curve)(x)
    assert whole.shape == (x.size + 1, x.size)
    close(whole.numpy() @ u, slope(curve, x, u), 1e-8)


@given(pairs(), st.integers(0, 99))
def test_jvp_is_the_jacobian_times_and_vjp_the_jacobian_transposed_times(xu: tuple[Array, Array], seed: int) -> None:
    x, u = xu
    ct = np.random.default_rng(seed).standard_normal(x.size + 1)
    whole = tg.jacobian(curve)(x).numpy()
    y, pushed = tg.jvp(curve, (x,), (u,))
    close(y, curve(x).numpy())
    close(pushed, whole @ u)
    y, pull = tg.vjp(curve, x)
    close(y, curve(x).numpy())
    close(pull(ct)[0], ct @ whole)
    close(pull(2 * ct)[0], 2 * ct @ whole)


@given(pairs())
def test_hessian_is_symmetric_the_jacobian_of_grad_and_hvp_its_product(xu: tuple[Array, Array]) -> None:
    x, u = xu
    whole = tg.hessian(wavy)(x).numpy()
    close(whole, whole.T)
    close(tg.jacobian(tg.grad(wavy))(x), whole)
    close(tg.hvp(wavy, (x,), (u,))[0], whole @ u)
    close(tg.jvp(tg.grad(wavy), (x,), (u,))[1], whole @ u)
    close(tg.grad(lambda x: tg.jvp(wavy, (x,), (u,))[1])(x), whole @ u)
    close(tg.vjp(tg.grad(wavy), x)[1](u)[0], whole @ u)
    close(whole @ u, slope(tg.grad(wavy), x, u), 1e-7)


@given(pairs(3))
def test_third_derivatives_agree_whatever_way_they_are_taken(xuv: tuple[Array, Array, Array]) -> None:
    x, u, v = xuv

    def along_both(x: Any) -> Tensor:
        return tg.jvp(lambda x: tg.jvp(wavy, (x,), (u,))[1], (x,), (v,))[1]

    third = tg.jacobian(tg.hessian(wavy))(x).numpy()
    assert third.shape == (x.size,) * 3
    close(third, np.swapaxes(third, 0, 2), 1e-10)
    close(tg.grad(along_both)(x), np.einsum("ijk,i,j->k", third, u, v), 1e-10)
    close(np.einsum("ijk,k->ij", third, v), slope(tg.hessian(wavy), x, v), 1e-7)


@given(scalars)
def test_five_derivatives_of_sine_go_round(x: float) -> None:
    f: Callable[..., Any] = tg.sin
    for expected in (np.sin, np.cos, lambda x: -np.sin(x), lambda x: -np.cos(x), np.sin):
        close(f(np.float64(x)), expected(x), 1e-12)
        f = tg.grad(f)


@given(scalars, scalars)
def test_an_inner_grad_sees_the_variable_of_the_outer_as_a_constant(a: float, b: float) -> None:
    a, b = np.float64(a), np.float64(b)
    close(tg.grad(lambda x: tg.grad(lambda y: x * y**2)(b))(a), 2 * b)
    close(tg.grad(lambda x: x * tg.grad(lambda y: x * y)(b))(a), 2 * a)
    close(tg.grad(lambda x: tg.grad(lambda y: x + y)(x) * x)(a), 1)
    close(tg.grad(lambda x: tg.grad(lambda y: x * x * y)(x))(a), 2 * a)
    close(tg.grad(lambda x: tg.grad(lambda y: tg.grad(lambda z: x * y * z**3)(a))(b))(b), 3 * a * a)
    close(tg.grad(lambda x: tg.jvp(lambda y: x * y * y, (b,), (1.0,))[1])(a), 2 * b)
    close(tg.jvp(lambda x: tg.grad(lambda y: x * x * y)(b), (a,), (1.0,))[1], 2 * a)
    close(tg.grad(lambda x: tg.vjp(lambda y: x * y * y, b)[1](x)[0])(a), 4 * a * b)
    close(tg.grad(lambda t: tg.jvp(lambda y: y * y, (b,), (t,))[1])(a), 2 * b)
    close(tg.grad(lambda t: tg.hvp(lambda y: y**3, (b,), (t,))[0])(a), 6 * b)
    close(tg.grad(lambda ct: tg.vjp(lambda y: y * y, b)[1](ct)[0])(a), 2 * b)
    close(tg.jvp(lambda x: tg.jvp(lambda y: x * y, (x,), (x,))[1], (a,), (1.0,))[1], 2 * a)


def test_results_of_nested_transforms_belong_to_no_graph() -> None:
    nested: list[Callable[[Any], Tensor]] = [
        lambda x: x * tg.grad(lambda y: x * y * y)(2.0),
        lambda x: x * tg.value_and_grad(lambda y: x * y * y)(2.0)[0],
        lambda x: x * tg.jvp(lambda y: x * y * y, (2.0,), (1.0,))[0],
        lambda x: x * tg.jvp(lambda y: x * y * y, (2.0,), (1.0,))[1],
        lambda x: tg.sum(x * tg.jacobian(lambda y: x * y * y)(2.0)),
    ]
    for f in nested:
        assert not tg.grad(f)(3.0).requires_grad


def test_the_example_of_nested_closures() -> None:
    assert tg.grad(lambda x: tg.grad(lambda y: x * y**2)(2.0))(3.0).item() == 4.0
    assert tg.grad(lambda x: x * tg.grad(lambda y: x + y)(1.0))(1.0).item() == 1.0


@given(pairs())
def test_argnums_choose_the_arguments_and_the_form_of_the_result(xy: tuple[Array, Array]) -> None:
    x, y = xy

    def f(x: Any, y: Any, scale: float = 1.0) -> Tensor:
        return tg.sum(x * x * y) * scale

    by_x, by_y = 2 * x * y, x * x
    close(tg.grad(f)(x, y), by_x)
    close(tg.grad(f, 1)(x, y), by_y)
    close(tg.grad(f, -1)(x, y, scale=3.0), 3 * by_y)
    both = tg.grad(f, (1, 0))(x, y)
    assert isinstance(both, tuple)
    close(both[0], by_y)
    close(both[1], by_x)
    (one,) = tg.grad(f, (1,))(x, y)
    close(one, by_y)
    close(tg.jacobian(lambda x, y: x * y, 1)(x, y), np.diag(x))
    close(tg.jacobian(lambda x, y: x * y, (0, 1))(x, y)[0], np.diag(y))
    close(tg.hessian(f, 0)(x, y), np.diag(2 * y))
    (by_xx, by_xy), (by_yx, by_yy) = tg.hessian(f, (0, -1))(x, y)
    for found, expected in ((by_xx, 2 * y), (by_xy, 2 * x), (by_yx, 2 * x), (by_yy, 0 * x)):
        close(found, np.diag(expected))
    close(tg.jvp(f, (x, y), (x, y))[1], np.sum(by_x * x + by_y * y))
    close(tg.jvp(f, (x, y), (y,), argnums=1)[1], np.sum(by_y * y))
    close(tg.vjp(f, x, y, argnums=1)[1](1.0)[0], by_y)
    assert len(tg.vjp(f, x, y)[1](1.0)) == 2
    close(tg.hvp(f, (x, y), (x, y))[0], 2 * y * x + 2 * x * y)
    close(tg.hvp(f, (x, y), (x, y))[1], 2 * x * x)
    close(tg.hvp(f, (x, y), (x,), argnums=0)[0], 2 * y * x)


@given(pairs())
def test_functions_of_several_results_take_and_give_tuples(xu: tuple[Array, Array]) -> None:
    x, u = xu

    def both(x: Any) -> tuple[Tensor, Tensor]:
        return tg.sin(x), tg.sum(x * x)

    y, pushed = tg.jvp(both, (x,), (u,))
    assert isinstance(y, tuple)
    close(pushed[0], np.cos(x) * u)
    close(pushed[1], 2 * np.sum(x * u))
    y, pull = tg.vjp(both, x)
    close(y[1], np.sum(x * x))
    close(pull(u, 3.0)[0], np.cos(x) * u + 6 * x)


@given(vectors)
def test_results_belong_to_no_graph_and_arguments_stay_as_they_were(x: Array) -> None:
    leaf, plain = tg.tensor(x, requires_grad=True), tg.tensor(x)
    for one in (leaf, plain):
        value, gradient = tg.value_and_grad(wavy)(one)
        y, pushed = tg.jvp(curve, (one,), (x,))
        with tg.no_grad():
            silent = tg.grad(wavy)(one)
        outer = one is leaf
        assert (value.requires_grad, y.requires_grad, pushed.requires_grad) == (outer, outer, outer)
        assert not silent.requires_grad
        assert gradient.requires_grad == outer, "a leaf of the caller is differentiated through"
        assert one.grad is None
        close(silent, gradient.numpy())
    assert leaf.requires_grad
    assert not plain.requires_grad


def test_a_gradient_taken_inside_of_a_recorded_function_reaches_its_leaves() -> None:
    w = tg.tensor([2.0, 3.0], requires_grad=True)
    penalty = tg.sum(tg.square(tg.grad(lambda x: tg.sum(w * x**3))(np.array([1.0, 2.0], np.float32))))
    penalty.backward()
    assert w.grad is not None
    close(w.grad, [2 * 2 * 9, 2 * 3 * 144], 1e-5)


def test_what_does_not_depend_on_the_argument_has_a_gradient_of_zero() -> None:
    c = tg.tensor(3.0, requires_grad=True)
    for f in (lambda x: c * c, lambda x: tg.tensor(1.0), lambda x: tg.sum(tg.stop_gradient(x))):
        close(tg.grad(f)(np.ones(2)), [0, 0])
        close(tg.jvp(f, (np.ones(2),), (np.ones(2),))[1], 0)
        close(tg.hessian(f)(np.ones(2)), np.zeros((2, 2)))
        close(tg.vjp(f, np.ones(2))[1](1.0)[0], [0, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_derivatives_have_the_dtype_of_the_argument(dtype: Any) -> None:
    x = np.ones(2, dtype)
    found = [
        tg.grad(wavy)(x),
        tg.jacobian(curve)(x),
        tg.hessian(wavy)(x),
        *tg.jvp(curve, (x,), (x,)),
        *tg.hvp(wavy, (x,), (x,)),
        *tg.vjp(curve, x)[1](np.ones(3, dtype)),
    ]
    assert {one.dtype for one in found} == {np.dtype(dtype)}
    assert tg.grad(lambda x: x * x)(3.0).dtype == np.float32


@given(vectors)
def test_writing_to_an_argument_after_vjp_does_not_change_what_is_pulled_back(x: Array) -> None:
    x, given = x.copy(), tg.tensor(x)
    pulls = [tg.vjp(wavy, x)[1], tg.vjp(wavy, given)[1]]
    true = tg.grad(wavy)(x.copy())
    x[...] = 7.0
    given.data = x
    for pull in pulls:
        close(pull(1.0)[0], true.numpy())


def test_transforms_keep_name_and_docstring_of_the_function() -> None:
    assert tg.grad(wavy).__name__ == "wavy"
    assert tg.jacobian(wavy).__doc__ == wavy.__doc__


TWO = np.ones(2)
MISTAKES: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "grad of a vector": (lambda: tg.grad(tg.exp)(TWO), GradientError, "more than one value"),
    "grad of two results": (lambda: tg.grad(lambda x: (x, x))(1.0), GradientError, "one tensor"),
    "jacobian of two results": (lambda: tg.jacobian(lambda x: (x, x))(1.0), GradientError, "one tensor"),
    "no tensor returned": (lambda: tg.grad(lambda x: 3.0)(1.0), GradientError, "float"),
    "vjp of a list": (lambda: tg.vjp(lambda x: [x], 1.0), GradientError, "list"),
    "integers": (lambda: tg.grad(lambda x: x)(np.arange(2)), DTypeError, "int64"),
    "argnums too large": (lambda: tg.grad(tg.exp, 1)(1.0), ShapeError, "argnums"),
    "argnums twice": (lambda: tg.vjp(lambda x, y: x * y, 1.0, 2.0, argnums=(1, -1)), ShapeError, "twice"),
    "argnums too small": (lambda: tg.grad(tg.exp, -2)(1.0), ShapeError, "argnums"),
    "cotangent of another shape": (lambda: tg.vjp(tg.exp, TWO)[1](np.ones(3)), ShapeError, "vjp"),
    "too many cotangents": (lambda: tg.vjp(tg.exp, TWO)[1](TWO, TWO), ShapeError, "vjp"),
    "tangent of another shape": (lambda: tg.jvp(tg.exp, (TWO,), (np.ones(3),)), ShapeError, "jvp"),
    "too few tangents": (lambda: tg.jvp(tg.add, (TWO, TWO), (TWO,)), ShapeError, "jvp"),
    "tangent of hvp": (lambda: tg.hvp(wavy, (TWO,), (1.0,)), ShapeError, "hvp"),
}


@pytest.mark.parametrize(("mistake", "kind", "text"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_explained(mistake: Callable[[], Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        mistake()
