"""What is said to those who declare ops: missing derivatives, annotations, names that are taken."""

from typing import Any

import numpy as np
import pytest

import tinygrad_wn as tg
from tinygrad_wn.domains import Array, Real
from tinygrad_wn.errors import CompileError, DTypeError, GradientError
from tinygrad_wn.op import OPS, case, op
from tinygrad_wn.shapes import same

X = tg.tensor([1.0, 2.0])


@pytest.fixture(autouse=True)
def _forget() -> Any:
    known = dict(OPS)
    yield
    OPS.clear()
    OPS.update(known)


def cubed(gradient: bool = True, power: int = 3) -> Any:
    @op(cases=[case("(n)")], shape=same, elementwise=True, gradient=gradient)
    def cube(x: Real) -> Array:
        return np.multiply(x, x) * x if power == 3 else np.multiply(x, x)

    return cube


@pytest.mark.parametrize("wrap", [tg.jit, lambda function: function])
def test_nothing_goes_back_through_an_op_without_a_vjp(wrap: Any) -> None:
    with pytest.raises(GradientError, match=r"cube: the op has no vjp[^~]*@cube\.vjp"):
        wrap(tg.grad(lambda x: cubed()(x).sum() + x.sum()))(X)


def test_the_result_of_an_op_that_says_so_is_data() -> None:
    np.testing.assert_array_equal(tg.grad(lambda x: (cubed(gradient=False)(x) * x).sum())(X).numpy(), [1, 8])


def test_a_vjp_gives_tensors() -> None:
    cube = cubed()
    cube.vjp(lambda ct, _, x: ct.numpy() * 3)
    with pytest.raises(GradientError, match=r"its vjp must give tensors[^~]*ndarray"):
        tg.grad(lambda x: cube(x).sum())(X)


def test_an_op_declared_anew_in_its_module_is_the_new_one() -> None:
    assert cubed()(X).numpy().tolist() == [1, 8]
    square = cubed(power=2)
    assert square(X).numpy().tolist() == [1, 4]
    assert OPS["cube"] is square


def test_a_name_of_another_module_is_taken() -> None:
    with pytest.raises(DTypeError, match=r"'relu' is declared twice[^~]*tinygrad_wn\.ops"):

        @op(cases=[case("(n)")], shape=same)
        def relu(x: Real) -> Array:
            return np.asarray(x)


def test_some_argument_is_data() -> None:
    with pytest.raises(DTypeError, match="no argument is data"):

        @op(cases=[case("")], shape=lambda *, size: (size,))
        def zeros_of(size: int) -> Array:
            return np.zeros(size)


def test_every_argument_has_an_annotation() -> None:
    with pytest.raises(DTypeError, match=r"no annotation[^~]*: x"):

        @op(cases=[case("(n)")], shape=same)
        def bare(x) -> Array:  # type: ignore[no-untyped-def]
            return np.asarray(x)


def test_what_numba_does_not_know_is_said_in_a_few_lines() -> None:
    @op(cases=[case("(n)")], shape=same, elementwise=True, gradient=False)
    def converted(x: Real) -> Array:
        found: Array = x.astype(np.float32)
        return found

    with pytest.raises(CompileError, match="Numba cannot compile") as caught:
        tg.jit(lambda x: converted(x) * 2)(X)
    assert len(str(caught.value).splitlines()) == 4


def test_a_weight_norm_says_how_to_come_to_its_weight() -> None:
    layer = tg.nn.weight_norm(tg.nn.Linear(2, 3))
    with pytest.raises(AttributeError, match=r"layer\.weight\(\)\.T"):
        _ = layer.weight.T
    with pytest.raises(AttributeError, match=r"has no 'nonsense'$"):
        _ = layer.weight.nonsense
