"""New tensors from sizes, and the package's random generator."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import DTypeError, ShapeError, ValueRangeError
from .slot import slot
from .tensor import Tensor, as_array, leaves_step, wrap


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Make a tensor from numbers, nested lists or an array; the values are copied.

    Python floats become float32, Python integers int64; arrays keep their dtype. Raises DTypeError for other dtypes
    (and for `requires_grad` on integers), ShapeError for ragged lists.

    >>> tg.tensor([[1, 2], [3, 4]], dtype="float32")
    Tensor([[1., 2.],
            [3., 4.]])
    """
    array = as_array(data, dtype)
    if requires_grad and array.dtype.kind != "f":
        raise DTypeError("only float32 and float64 tensors can require a gradient", {"dtype": array.dtype})
    over: Any = slot.over.get()
    if over is not None and isinstance(data, Tensor) and not over.creates(data):
        return wrap(over.copied(data, array), requires_grad=bool(requires_grad))
    made = wrap(np.array(array, order="C"), requires_grad=bool(requires_grad))
    if over is not None:
        over.constants.append(data)
        over.created[id(made._data)] = made
    return made


_generator = [np.random.default_rng()]


def seed(n: int) -> None:
    """Start the package's random generator anew from a number.

    Raises ValueRangeError for what is no seed to NumPy, as a number below 0 is none.

    >>> tg.seed(0)
    >>> first = tg.randn(2)
    >>> tg.seed(0)
    >>> bool(tg.all(first == tg.randn(2)))
    True
    """
    _generator[0] = _made(n)


def generator(rng: int | np.random.Generator | None = None) -> np.random.Generator:
    """The generator that `rng` stands for: itself, a new one from a seed, or the package's for None.

    Raises ValueRangeError for anything else.

    >>> tg.generator(7).integers(10)
    np.int64(9)
    """
    return _generator[0] if rng is None else _made(rng)


def _made(rng: Any) -> np.random.Generator:
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError):
        facts, hint = {"given": repr(rng)}, "give an integer of at least 0, or np.random.default_rng(...)"
        raise ValueRangeError("not a seed or generator of random numbers", facts, hint=hint) from None


def _filled(shape: Any, value: Any, dtype: Any, requires_grad: bool) -> Tensor:
    try:
        kind = np.dtype(dtype)
    except TypeError:
        hint = "give the shape as a tuple, as in tg.zeros((2, 3)), and the dtype as 'float32' or 'float64'"
        raise DTypeError("not a dtype", {"given": repr(dtype), "shape": repr(shape)}, hint=hint) from None
    try:
        made = np.empty(shape, kind)
    except (TypeError, ValueError):
        hint = "give an integer of at least 0, or a tuple of them"
        raise ShapeError("not a shape", {"given": repr(shape)}, hint=hint) from None
    try:
        made[...] = value
    except ValueError:
        facts = {"shape": made.shape, "value": np.shape(value)}
        raise ShapeError("a value that does not fit the shape", facts, hint="give one number") from None
    return tensor(made, requires_grad=requires_grad)


def zeros(shape: Any, dtype: Any = "float32", requires_grad: bool = False) -> Tensor:
    """A tensor of zeros.

    >>> tg.zeros((1, 2))
    Tensor([[0., 0.]])
    """
    return _filled(shape, 0, dtype, requires_grad)


def ones(shape: Any, dtype: Any = "float32", requires_grad: bool = False) -> Tensor:
    """A tensor of ones.

    >>> tg.ones(2)
    Tensor([1., 1.])
    """
    return _filled(shape, 1, dtype, requires_grad)


def full(shape: Any, value: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor with `value` everywhere; a Python float makes float32, a Python integer int64.

    >>> tg.full(2, 7.0)
    Tensor([7., 7.])
    """
    return _filled(shape, value, tensor(value, dtype).dtype, requires_grad)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Numbers from `start` (0 when only `stop` is given) up to but without `stop`: int64, or float32 for floats.

    >>> tg.arange(3), tg.arange(0.0, 1.0, 0.5)
    (Tensor([0, 1, 2]), Tensor([0. , 0.5]))
    """
    values = np.arange(start, stop, step) if stop is not None else np.arange(0, start, step)
    kind = dtype or (np.float32 if values.dtype.kind == "f" else values.dtype)
    return tensor(values, kind, requires_grad)


def randn(
    *shape: Any, dtype: Any = "float32", requires_grad: bool = False, rng: int | np.random.Generator | None = None
) -> Tensor:
    """Standard normal numbers; sizes come one by one or as a tuple; `rng` is a seed, a Generator, or the package's.

    In a compiled step, raises CompileError unless `rng` is a seed: the numbers of the first call would stay.

    >>> tg.randn(2, 3, rng=0).shape
    (2, 3)
    """
    sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
    made = tensor(generator(rng).standard_normal(sizes), dtype, requires_grad)
    if not isinstance(rng, int | np.integer):
        leaves_step(made, "drawing random numbers", "draw them outside, and take them as an argument")
    return made
