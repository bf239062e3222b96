"""Python operators and methods of a Tensor. Each asks the registry for an op by name and knows nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import nan
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .errors import DTypeError, GradientError, ShapeError
from .names import METHODS, Elsewhere
from .op import OPS

if TYPE_CHECKING:
    from .domains import Axis, Shape
    from .tensor import Tensor

    Unary: TypeAlias = Callable[[Any], Tensor]
    Binary: TypeAlias = Callable[[Any, Any], Tensor]


def call(name: str, *inputs: Any, **params: Any) -> Tensor:
    """Call the op of this name."""
    return OPS[name](*inputs, **params)


def binary(name: str) -> tuple[Binary, Binary]:
    """A Python operator and its reflection."""

    def operator(self: Any, other: Any) -> Tensor:
        return OPS[name](self, other)

    def reflected(self: Any, other: Any) -> Tensor:
        return OPS[name](other, self)

    return operator, reflected


def unary(name: str) -> Unary:
    """A Python operator, or a method without arguments."""

    def operator(self: Any) -> Tensor:
        return OPS[name](self)

    return operator


class Operators:
    """What `Tensor` offers beside its own data: operators, methods, and a place in NumPy's functions."""

    __slots__ = ()
    shape: Shape
    ndim: int

    def __dir__(self) -> list[str]:
        return sorted(set(super().__dir__()) - METHODS.keys())

    __add__, __radd__ = binary("add")
    __sub__, __rsub__ = binary("subtract")
    __mul__, __rmul__ = binary("multiply")
    __truediv__, __rtruediv__ = binary("divide")
    __floordiv__, __rfloordiv__ = binary("floor_divide")
    __mod__, __rmod__ = binary("remainder")
    __pow__, __rpow__ = binary("power")
    __matmul__, __rmatmul__ = binary("matmul")
    __and__, __rand__ = binary("bitwise_and")
    __or__, __ror__ = binary("bitwise_or")
    __xor__, __rxor__ = binary("bitwise_xor")
    __lshift__, __rlshift__ = binary("bitwise_left_shift")
    __rshift__, __rrshift__ = binary("bitwise_right_shift")
    __lt__, _ = binary("less")
    __le__, _ = binary("less_equal")
    __gt__, _ = binary("greater")
    __ge__, _ = binary("greater_equal")
    __hash__ = object.__hash__
    __neg__ = unary("negative")
    __pos__ = unary("positive")
    __abs__ = unary("abs")
    __invert__ = unary("bitwise_invert")
    exp, log, sqrt, square = unary("exp"), unary("log"), unary("sqrt"), unary("square")
    sin, cos, tanh = unary("sin"), unary("cos"), unary("tanh")
    sigmoid, relu = unary("sigmoid"), unary("relu")

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        """Compare entry by entry, as NumPy does; None equals no number."""
        return call("equal", self, nan if other is None else other)

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        """Compare entry by entry, as NumPy does; None equals no number."""
        return call("not_equal", self, nan if other is None else other)

    def __divmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        """Quotient rounded down, and what remains."""
        return call("floor_divide", self, other), call("remainder", self, other)

    def __rdivmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        """Quotient rounded down, and what remains, of a number by a tensor."""
        return call("floor_divide", other, self), call("remainder", other, self)

    def __getitem__(self, key: Any) -> Tensor:
        """Select entries by NumPy's rules: integers, slices, None, Ellipsis, integer and boolean arrays."""
        arrays: list[Any] = []
        parts: list[Any] = []
        plain: list[Any] = []
        for part in key if isinstance(key, tuple) else (key,):
            plain.append(part)
            if part is None or part is Ellipsis or isinstance(part, slice):
                parts.append(part)
            elif isinstance(part, int | np.integer) and not isinstance(part, bool):
                parts.append(int(part))
            else:
                found = index_arrays(part)
                parts += [HERE] * len(found)
                arrays += found
                if not (found and found[0] is part):
                    plain[-1] = np.asarray(part)
        if any(isinstance(part, np.ndarray) and part.dtype.kind == "b" for part in plain):
            check_masks(self.shape, tuple(plain))
        return call("index", self, *arrays, key=tuple(parts))

    def __setitem__(self, key: Any, value: Any) -> None:
        """Refuse: a recorded graph may still need the old entries."""
        raise GradientError(
            "a tensor's entries cannot be assigned",
            {"index": repr(key)},
            hint="build a new tensor with tg.where, or replace all values with `t.data = array`",
        )

    def __len__(self) -> int:
        """Size of the first axis."""
        if not self.ndim:
            raise DTypeError("a tensor without axes has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        """Go along the first axis."""
        return (self[i] for i in range(len(self)))

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """`tg.sum` of this tensor."""
        return call("sum", self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """`tg.mean` of this tensor."""
        return call("mean", self, axis=axis, keepdims=keepdims)

    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """`tg.max` of this tensor."""
        return call("max", self, axis=axis, keepdims=keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """`tg.min` of this tensor."""
        return call("min", self, axis=axis, keepdims=keepdims)

    def prod(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """`tg.prod` of this tensor."""
        return call("prod", self, axis=axis, keepdims=keepdims)

    def var(self, axis: Axis = None, correction: int = 0, keepdims: bool = False) -> Tensor:
        """`tg.var` of this tensor."""
        return call("var", self, axis=axis, correction=correction, keepdims=keepdims)

    def argmax(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """`tg.argmax` of this tensor."""
        return call("argmax", self, axis=axis, keepdims=keepdims)

    def reshape(self, *shape: Any) -> Tensor:
        """`tg.reshape` of this tensor; the sizes come as one tuple or one by one."""
        return call(
            "reshape", self, shape=shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
        )

    def permute_dims(self, *axes: Any) -> Tensor:
        """`tg.permute_dims` of this tensor; the axes come as one tuple or one by one."""
        return call(
            "permute_dims", self, axes=axes[0] if len(axes) == 1 and isinstance(axes[0], tuple | list) else axes
        )

    def squeeze(self, axis: Axis = None) -> Tensor:
        """`tg.squeeze` of this tensor."""
        return call("squeeze", self, axis=axis)

    def astype(self, dtype: Any) -> Tensor:
        """`tg.astype` of this tensor."""
        return call("astype", self, dtype=dtype)

    @property
    def T(self) -> Tensor:
        """The tensor with its axes in reverse order."""
        return call("permute_dims", self)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Carry `np.exp(t)` and `array * t` over to the op of that name, or refuse: no gradient is lost in silence."""
        name = ALIASES.get(ufunc.__name__, ufunc.__name__)
        if method != "__call__" or options or name not in OPS:
            what = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
            raise DTypeError(
                f"np.{what} does not work on tensors here",
                {"options": sorted(options)} if options else {},
                hint="use the function of tinygrad_wn, or take the array with t.detach().numpy()",
            )
        return OPS[name](*inputs)

    def __array_function__(
        self, function: Callable[..., Any], _types: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Carry `np.sum(t)` over to the function of that name, or refuse: no gradient is lost in silence."""
        name = ALIASES.get(function.__name__, function.__name__)
        if name in OPS and not OPS[name].variadic:
            return OPS[name](*args, **kwargs)
        raise DTypeError(
            f"np.{function.__name__} does not work on tensors",
            hint="use the function of tinygrad_wn, or take the array with t.detach().numpy()",
        )


HERE = "array"
"""Marks, in the static part of an index, where an array of the call stands."""

ALIASES = {
    "absolute": "abs",
    "amax": "max",
    "amin": "min",
    "true_divide": "divide",
    "transpose": "permute_dims",
    "invert": "bitwise_invert",
    "left_shift": "bitwise_left_shift",
    "right_shift": "bitwise_right_shift",
}


def check_masks(shape: Shape, key: tuple[Any, ...]) -> None:
    """Refuse a mask of another shape than what it selects from: the places where it is true would not show that."""
    try:
        np.broadcast_to(False, shape)[key]
    except IndexError as error:
        raise ShapeError(f"index: {error}", {"x": list(shape)}) from None


def index_arrays(part: Any) -> list[Any]:
    """Integer arrays that select what `part` selects; a boolean array turns into the places where it is true."""
    if hasattr(part, "dtype") and part.dtype.kind in "iu":
        return [part]  # a tensor's values are not read: a compiled step reads them anew each time
    array = np.asarray(part)
    if array.size == 0 and isinstance(part, list):
        array = array.astype(np.int64)
    if array.dtype.kind == "b":
        if array.ndim == 0:
            raise DTypeError("a single boolean is no index", hint="use tg.where")
        return list(np.nonzero(array))
    if array.dtype.kind not in "iu":
        raise DTypeError(
            "an index must be made of integers, slices, None, Ellipsis, integer or boolean arrays",
            {"found": repr(part)},
        )
    return [array]


for _name in METHODS:  # not __getattr__, with which Python 3.11 takes twice as long for every attribute that is there
    setattr(Operators, _name, Elsewhere("a Tensor", _name, METHODS))
