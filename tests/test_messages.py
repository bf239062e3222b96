"""Every mistake is explained: what broke, the facts, and what to do."""

import pickle
from fractions import Fraction

import numpy as np
import pytest

import tinygrad_wn as tg
from tinygrad_wn.errors import (
    CompileError,
    DTypeError,
    GradientError,
    ShapeError,
    StateError,
    TinygradWNError,
    ValueRangeError,
)
from tinygrad_wn.names import FUNCTIONS, METHODS


def leaf(values):
    return tg.tensor(values, requires_grad=True)


MISTAKES = {
    "backward of many values": (tg.Tensor.backward, GradientError, "more than one value"),
    "backward without a graph": (lambda x: tg.tensor(1.0).backward(), GradientError, "does not depend"),
    "backward under no_grad": (lambda x: tg.no_grad()(x.sum)().backward(), GradientError, "does not depend"),
    "cotangent of another shape": (lambda x: x.backward([1.0]), ShapeError, "result's shape"),
    "gradient by a constant": (lambda x: x.sum().gradient(tg.tensor(1.0)), GradientError, "requires a gradient"),
    "assignment": (lambda x: x.__setitem__(0, 1.0), GradientError, "tg.where"),
    "gradient of integers": (lambda x: tg.tensor([1, 2], requires_grad=True), DTypeError, "int64"),
    "gradient of integers, later": (lambda x: setattr(tg.tensor(1), "requires_grad", True), DTypeError, "int64"),
    "requires_grad of a result": (lambda x: setattr(x * 2, "requires_grad", False), GradientError, "detach"),
    "complex numbers": (lambda x: tg.tensor(1j), DTypeError, "complex128"),
    "half floats": (lambda x: tg.tensor(np.ones(1, "f2")), DTypeError, "float16"),
    "text": (lambda x: tg.tensor("a"), DTypeError, "float32, float64"),
    "ragged lists": (lambda x: tg.tensor([[1.0], [1.0, 2.0]]), ShapeError, "rows differ"),
    "unknown keyword": (lambda x: tg.sum(x, axs=0), DTypeError, "axs"),
    "argument given twice": (lambda x: tg.sum(x, 0, axis=0), DTypeError, "given twice"),
    "too many arguments": (lambda x: tg.exp(x, 1), DTypeError, "too many"),
    "missing argument": (tg.matmul, DTypeError, "'b' is missing"),
    "missing parameter": (tg.reshape, DTypeError, "shape"),
    "shapes that do not broadcast": (lambda x: x + tg.zeros(3), ShapeError, "a    : [2]"),
    "matrix product": (lambda x: tg.zeros((32, 784)) @ tg.zeros((10, 784)), ShapeError, "swapped would fit"),
    "axis out of range": (lambda x: x.sum(axis=1), ShapeError, "axis 1 is out of range"),
    "axis twice": (lambda x: x.sum(axis=(0, -1)), ShapeError, "twice"),
    "maximum of nothing": (lambda x: tg.max(tg.zeros((2, 0)), axis=1), ShapeError, "size 0"),
    "reshape": (lambda x: x.reshape(3), ShapeError, "2 values"),
    "index out of range": (lambda x: x[2], ShapeError, "out of bounds"),
    "index by text": (lambda x: x["a"], DTypeError, "integers"),
    "index by floats": (lambda x: x[[0.5]], DTypeError, "integers"),
    "index array out of range": (lambda x: x[[0, 2]], ShapeError, "out of bounds"),
    "class that is not there": (lambda x: tg.cross_entropy([[1.0, 2.0]], [2]), ValueRangeError, "row"),
    "classes as floats": (lambda x: tg.cross_entropy([[1.0, 2.0]], [0.0]), DTypeError, "integers"),
    "reduction": (lambda x: tg.cross_entropy([[1.0]], [0], reduction="avg"), ShapeError, "avg"),
    "item of many values": (lambda x: x.item(), ShapeError, "one value"),
    "length of a number": (lambda x: len(tg.tensor(1.0)), DTypeError, "length"),
    "new data of another shape": (lambda x: setattr(x, "data", [1.0]), ShapeError, "shape"),
    "new data of another kind": (lambda x: setattr(tg.tensor([1]), "data", [0.5]), DTypeError, "dtype"),
    "data of views": (lambda x: setattr(tg.broadcast_to(x.detach(), (1, 2)), "data", [[0, 0]]), GradientError, "look"),
    "gradient of truncated values": (lambda x: x.astype("int64").sum().backward(), GradientError, "does not depend"),
    "data of a result": (lambda x: setattr(x * 2, "data", [0.0, 0.0]), GradientError, "leaf"),
    "Tensor called": (lambda x: tg.Tensor(), DTypeError, "tg.tensor"),
    "pickle of a result": (lambda x: pickle.dumps(x * 2), GradientError, "detach"),
    "concat of nothing": (lambda x: tg.concat([]), ShapeError, "at least one"),
    "concat of other sizes": (lambda x: tg.concat([tg.zeros((1, 2)), tg.zeros((1, 3))]), ShapeError, "arrays[1]"),
    "index from a float tensor": (lambda x: range(tg.tensor(2.0)), DTypeError, "integer"),
    "gradient of a non-tensor": (lambda x: tg.grad(lambda y: 3.0)(1.0), GradientError, "float"),
    "gradient by integers": (lambda x: tg.grad(lambda y: y)(tg.tensor(1)), DTypeError, "argnums"),
    "weight norm of nothing": (lambda x: tg.weight_norm(None, x), DTypeError, "v must be a tensor"),
    "weight norm by nothing": (lambda x: tg.weight_norm(tg.ones((2, 2)), None), DTypeError, "g must be a tensor"),
    "momentum as text": (lambda x: tg.nn.BatchNorm1d(3, momentum="a"), ValueRangeError, "'a'"),
    "eps as text": (lambda x: tg.nn.BatchNorm1d(3, eps="a"), ValueRangeError, "'a'"),
    "p as text": (lambda x: tg.nn.Dropout("a"), ValueRangeError, "'a'"),
    "a seed below 0": (lambda x: tg.nn.Linear(2, 3, rng=-1), ValueRangeError, "default_rng"),
    "a seed as text": (lambda x: tg.seed("a"), ValueRangeError, "'a'"),
    "format of many values": (lambda x: f"{x:.3f}", ShapeError, "t.mean()"),
    "truth of many values": (bool, ShapeError, "tg.any"),
    "sizes one by one": (lambda x: tg.ones(2, 3), DTypeError, "tuple"),
    "a dtype that is none": (lambda x: tg.zeros(2, dtype="foo"), DTypeError, "'foo'"),
    "a size below 0": (lambda x: tg.full(-1, 2.0), ShapeError, "-1"),
    "a value of another shape": (lambda x: tg.full((2,), [1, 2, 3]), ShapeError, "value : (3,)"),
    "a size as text": (lambda x: tg.ones("a"), ShapeError, "'a'"),
    "a dict as a tensor": (lambda x: tg.tensor({"x": 1}), DTypeError, "{'x': 1}"),
    "gradient by an integer": (lambda x: tg.grad(lambda y: y * y)(3), DTypeError, "3.0 for 3"),
    "batches of a tuple": (lambda x: tg.data.batches((x, x), 1, rng=0), DTypeError, "tg.data.Dataset(x, y)"),
    "split of an array": (lambda x: tg.data.split(np.ones((4, 2))), DTypeError, "tg.data.Dataset(x, y)"),
    "an optimizer saved": (lambda x: tg.save(tg.optim.SGD([x], 0.1), "x.npz"), DTypeError, "state_dict()"),
    "weight norm without weights": (lambda x: tg.nn.weight_norm(tg.nn.ReLU()), StateError, "a layer with weights"),
    "no function to compile": (lambda x: tg.jit(3), DTypeError, "not a function"),
    "argnums": (lambda x: tg.grad(lambda y: y, argnums=1)(1.0), ShapeError, "argnums"),
}  # fmt: skip


@pytest.mark.parametrize("number", [0.25, np.float32(0.25), np.array(0.25), tg.tensor(0.25), Fraction(1, 4)])
def test_options_are_whatever_python_takes_for_a_number(number):
    layer = tg.nn.BatchNorm1d(3, eps=number, momentum=number)
    assert (layer.eps, layer.momentum, tg.nn.Dropout(number).p) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize(("mistake", "kind", "text"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_explained(mistake, kind, text):
    with pytest.raises(kind) as caught:
        mistake(leaf([1.0, 2.0]))
    assert text in str(caught.value)
    assert isinstance(caught.value, TinygradWNError)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_a_tensor_with_one_value_is_formatted_as_its_number(dtype):
    for x in (tg.tensor(3, dtype), tg.tensor([[3]], dtype)):
        assert f"{x:6.2f}|{x:>8}" == f"{x.item():6.2f}|{x.item():>8}"
        assert f"{x}" == str(x)
    assert f"{tg.ones(2)}" == "Tensor([1., 1.])"


def test_a_formatted_number_of_a_compiled_step_is_refused():
    with pytest.raises(CompileError, match="a Python number"):
        tg.jit(lambda x: f"{x.sum():.2f}")(tg.ones(2))


def words_of(hint):
    """The code of a hint: what stands before an alternative or a remark."""
    return hint.split(", or ")[0].split(": ")[0]


NAMES = {
    "tg": tg,
    "np": np,
    "axis": 0,
    "axes": (1, 0),
    "shape": (2, 3),
    "dtype": "float64",
    "min": 0.0,
    "max": 1.0,
    "n": 2,
    "indices": [0, 1],
    "mask": np.ones((2, 3), bool),
    "value": 0.5,
}


@pytest.mark.parametrize("name", METHODS)
def test_what_is_said_for_a_method_of_others_can_be_written(name):
    x, y = tg.tensor(np.arange(6.0).reshape(2, 3)), tg.ones((3, 2), "float64")
    with pytest.raises(AttributeError, match=f"a Tensor has no '{name}'; take ") as caught:
        getattr(x, name)
    code = words_of(str(caught.value).split("; take ")[1])
    if code != "nothing":
        exec(code, NAMES | {"x": x, "y": y if "@" in code else x})


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_said_for_a_function_of_others_can_be_written(name):
    with pytest.raises(AttributeError, match=f"'tinygrad_wn' has no '{name}'; take ") as caught:
        getattr(tg, name)
    code = words_of(str(caught.value).split("; take ")[1].replace("...", "0, 1"))
    if not code.startswith("functions"):
        exec(code, NAMES | {"x": tg.tensor(np.arange(6.0).reshape(2, 3))})


def test_other_names_are_not_there():
    for owner in (tg, tg.ones(1)):
        with pytest.raises(AttributeError, match=r"has no (attribute )?'nonsense'$"):
            _ = owner.nonsense
