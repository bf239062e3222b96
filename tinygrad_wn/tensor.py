"""Tensor, and the graph that it records; walk.py goes back through it. Reads from top to bottom in one sitting.

A `Tensor` is an array and, when it was computed from something that wants a gradient, the `Node` that made it. A node
knows its op and its inputs, and nothing points from a node to its results, so a graph has no reference cycles and is
gone the moment its last tensor goes. Serial numbers rise as nodes are made: taking the newest first from a heap is
reverse topological order, without a sort and without recursion.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import DTypeError, GradientError, ShapeError
from .op import OPS, Op
from .operators import Operators
from .slot import changed, gradient_is_left, slot, takes_gradient
from .walk import Written, key_of, recorded, unsettled, walk

if TYPE_CHECKING:
    from .domains import Array, Shape

serials = itertools.count(1)
"""Numbers of nodes and of writes, in the order in which they happened."""


class Node:
    """One recorded op call, and what its vjp needs. An array written to after `serial` is not what it was."""

    __slots__ = ("inputs", "op", "outputs", "params", "results", "serial", "several")

    def __init__(
        self, op: Op[...], inputs: tuple[Any, ...], params: dict[str, Any], outputs: int, several: bool
    ) -> None:
        self.op, self.inputs, self.params, self.outputs, self.several = op, inputs, params, outputs, several
        self.serial = next(serials)
        self.results: list[tuple[Array, list[int]]] | None = None

    def pull(self, cotangents: list[Tensor | None], asked: list[bool]) -> tuple[Any, ...]:
        """Cotangents of the inputs, from those of the results."""
        inputs, op = self.inputs, self.op
        for x in inputs:
            if isinstance(x, Tensor) and x._writes[0] > self.serial:
                inputs = tuple(self._guarded(i, x) for i, x in enumerate(inputs))
                break
        rule: Any = op.pull
        if rule is None:
            hint = f"declare it with @{op.name}.vjp, or the op with gradient=False if its result is data"
            raise GradientError(f"{op.name}: the op has no vjp, so nothing goes back through it", hint=hint)
        params = {**self.params, "asked": asked} if op.asks else self.params
        if not self.several:
            ct = rule(cotangents[0], self._result(0) if self.results else None, *inputs, **params)
            return ct if type(ct) is tuple else (ct,)
        results = self.results or []
        filled = tuple(
            wrap(np.zeros_like(array)) if ct is None else ct for ct, (array, _) in zip(cotangents, results, strict=True)
        )
        found: tuple[Any, ...] = rule(filled, tuple(map(self._result, range(len(results)))), *inputs, **params)
        return found

    def _result(self, index: int) -> Tensor:
        """The result as it was, with its place in the graph, so that it can be differentiated again."""
        array, writes = (self.results or [])[index]
        if writes[0] > self.serial:
            return Overwritten(array, f"{self.op.name}: its result")
        return wrap(array, self, index, writes)

    def _guarded(self, index: int, x: Any) -> Any:
        if not isinstance(x, Tensor) or x._writes[0] <= self.serial:
            return x
        names = self.op.input_names
        return Overwritten(x._data, f"{self.op.name}: its input {names[min(index, len(names) - 1)]!r}")


class Tensor(Operators):
    """An n-dimensional array that records what is computed from it. Make one with `tg.tensor`.

    >>> x = tg.tensor([[1.0, 2.0]], requires_grad=True)
    >>> x.shape, x.T.shape, (2 * x[0, 1] + x.sum()).item()
    ((1, 2), (2, 1), 7.0)
    """

    __slots__ = ("__weakref__", "_data", "_index", "_node", "_wants", "_writes", "grad")
    _data: Array
    _index: int
    _node: Node | None
    _writes: list[int]
    _wants: bool
    grad: Tensor | None

    def __init__(self) -> None:
        raise DTypeError("Tensor() cannot be called", hint="make one with tg.tensor(data)")

    @property
    def data(self) -> Array:
        """The values as a read-only NumPy view. Assigning copies new values of the same shape into the tensor."""
        leaves_step(self, "reading values")
        view = self._data.view()
        view.flags.writeable = False
        return view

    @data.setter
    def data(self, values: Any) -> None:
        if self._node is not None:
            raise GradientError("the values of a computed tensor cannot be replaced", hint="write to a leaf")
        new = np.asarray(values._data if isinstance(values, Tensor) else values)
        if new.shape != self.shape:
            raise ShapeError("new values must have the tensor's shape", {"tensor": self.shape, "values": new.shape})
        if new.dtype != self.dtype and not np.can_cast(new.dtype, self.dtype, "same_kind"):
            raise DTypeError("new values do not fit the dtype", {"tensor": self.dtype, "values": new.dtype})
        if slot.over.get() is not None and isinstance(values, Tensor):
            OPS["stop_gradient"].into((self,), values if new.dtype == self.dtype else values.astype(self.dtype))
            return
        leaves_step(self, "assigning an array or a number", "assign a tensor, as in p.data = p - rate * slope")
        write(self, new)

    @property
    def requires_grad(self) -> bool:
        """Whether op calls on this tensor are recorded. May be set on a float tensor that was not computed."""
        return self._wants

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if self._node is not None:
            raise GradientError("requires_grad of a computed tensor follows from its inputs", hint="use t.detach()")
        if wanted and self.dtype.kind != "f":
            raise DTypeError("only float32 and float64 tensors can require a gradient", {"dtype": self.dtype})
        if self._wants is not bool(wanted):
            self._wants = bool(wanted)
            changed()

    def numpy(self) -> Array:
        """The values as a read-only NumPy view; `.copy()` makes an array of your own."""
        return self.data

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        """Size of each axis."""
        return self._data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy dtype of the values."""
        return self._data.dtype

    @property
    def ndim(self) -> int:  # type: ignore[override]
        """Number of axes."""
        return self._data.ndim

    @property
    def size(self) -> int:
        """Number of values."""
        return self._data.size

    def item(self) -> Any:
        """The only value, as a Python number."""
        if self.size != 1:
            hint = "take one value, as in t[0], or tg.any(t), tg.all(t), tg.sum(t); t.numpy() has all of them"
            raise ShapeError("only a tensor with one value has an item", {"shape": list(self.shape)}, hint=hint)
        leaves_step(self, "a Python number, or a branch,")
        return self._data.item()

    def __float__(self) -> float:
        """The only value as a float."""
        return float(self.item())

    def __int__(self) -> int:
        """The only value as an int."""
        return int(self.item())

    def __bool__(self) -> bool:
        """Truth of the only value."""
        return bool(self.item())

    def __index__(self) -> int:
        """The only value of an integer tensor, for use in `range` or as an index."""
        if self.dtype.kind not in "iu":
            raise DTypeError("only an integer tensor is an index", {"dtype": self.dtype})
        return int(self.item())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Give the values to NumPy, unless a gradient would be lost on the way."""
        if self.requires_grad:
            raise GradientError("NumPy would lose the gradient of this tensor", hint="take t.detach() or t.numpy()")
        return np.array(self.data, dtype, copy=copy)

    def __format__(self, spec: str) -> str:
        """The only value in a format, as in f"{loss:.3f}" (ShapeError if there are several); without one, `str`."""
        if spec and self.size != 1:
            hint = "format one value, as in f'{t.mean():.3f}', or the list t.numpy().tolist()"
            raise ShapeError("only a tensor with one value has a format", {"shape": list(self.shape)}, hint=hint)
        return format(self.item(), spec) if spec else str(self)

    def __repr__(self) -> str:
        if slot.over.get() is not None:  # its values are those of one run
            return f"Tensor(in a compiled step, {self.dtype} {list(self.shape)})"
        values = np.array2string(self._data, separator=", ", prefix="Tensor(")
        notes = "" if self.dtype in (np.float32, np.int64, np.bool_) else f", dtype={self.dtype}"
        return f"Tensor({values}{notes}{', requires_grad=True' if self.requires_grad else ''})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle values, not the graph."""
        if self._node is not None:
            raise GradientError("a computed tensor cannot be copied with its graph", hint="copy t.detach()")
        leaves_step(self, "a copy by Python, or a pickle,")
        return restore, (self._data, self.requires_grad)

    def detach(self) -> Tensor:
        """The same values without the graph; memory is shared."""
        return wrap(self._data, writes=self._writes)

    def backward(self, gradient: Any = None, create_graph: bool = False) -> None:
        """Add d(self)/d(leaf) to `.grad` of every leaf that requires a gradient.

        `gradient` is the cotangent, of this tensor's shape; a tensor with one value needs none. `create_graph=True`
        records the walk, so that `.grad` can be differentiated again. Raises GradientError without a graph.

        >>> x = tg.tensor([1.0, 2.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        Tensor([2., 4.])
        """
        if not self.requires_grad:
            raise GradientError(
                "backward: this tensor does not depend on any tensor that requires a gradient",
                {"tensor": f"{self.dtype} {list(self.shape)}"},
                hint="make the inputs with requires_grad=True; what tg.no_grad() and tg.jit give has no graph",
            )
        found = walk(self, _cotangent(self, gradient, "backward(gradient)"), None, create_graph)
        for leaf, _ in found.values():
            if leaf.grad is not None:
                takes_gradient(leaf.grad)
        with recorded(create_graph):
            new = [(leaf, ct if leaf.grad is None else leaf.grad + ct) for leaf, ct in found.values()]
        for leaf, total in new:
            leaf.grad = total
            gradient_is_left(total)

    def gradient(self, *inputs: Tensor, cotangent: Any = None, create_graph: bool = False) -> tuple[Tensor, ...]:
        """d(self)/d(input) for each of `inputs`, always a tuple; zeros where there is none. Touches no `.grad`.

        >>> x = tg.tensor(3.0, requires_grad=True)
        >>> (slope,) = (x**2).gradient(x, create_graph=True)
        >>> slope, slope.gradient(x)
        (Tensor(6., requires_grad=True), (Tensor(2.),))
        """
        for x in inputs:
            if not isinstance(x, Tensor) or not x.requires_grad:
                raise GradientError(
                    "gradient: each input must be a tensor that requires a gradient", {"input": repr(x)}
                )
        seed = _cotangent(self, cotangent, "gradient(..., cotangent=...)")
        found = walk(self, seed, inputs, create_graph) if self.requires_grad else {}
        return tuple(found[key_of(x)][1] if key_of(x) in found else wrap(np.zeros_like(x._data)) for x in inputs)


class Overwritten(Tensor):
    """Stands for an array that was overwritten after it was recorded: its shape is still right, its values are not."""

    __slots__ = ("_array", "_what")

    def __init__(self, array: Array, what: str) -> None:
        self._array, self._what = array, what
        self._node, self._index, self._writes, self._wants, self.grad = None, 0, [0], False, None

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        """Size of each axis."""
        return self._array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy dtype of the lost values."""
        return self._array.dtype

    @property
    def ndim(self) -> int:  # type: ignore[override]
        """Number of axes."""
        return self._array.ndim

    @property
    def _data(self) -> Array:  # type: ignore[override]
        raise GradientError(
            f"{self._what} was overwritten after it was recorded, and its gradient needs the old values",
            {"tensor": f"{self._array.dtype} {list(self._array.shape)}"},
            hint="walk back before you write (an optimizer step, `t.data = ...`), or compute the result again",
        )


def wrap(
    array: Array, node: Node | None = None, index: int = 0, writes: list[int] | None = None, requires_grad: bool = False
) -> Tensor:
    """A tensor over `array` itself, without a copy."""
    new: Tensor = object.__new__(Tensor)
    new._data, new._node, new._index, new.grad = array, node, index, None
    new._writes = [0] if writes is None else writes
    new._wants = requires_grad or node is not None
    return new


def restore(array: Array, requires_grad: bool) -> Tensor:
    """Make a tensor from what pickle or copy kept."""
    return wrap(np.array(array), requires_grad=requires_grad)


def check_writable(array: Array) -> None:
    """Raise GradientError for memory that must not be written to."""
    if not array.flags.writeable:
        raise GradientError(
            "this tensor looks into memory that it must not write, as after broadcast_to",
            {"tensor": f"{array.dtype} {list(array.shape)}"},
            hint="write to the tensor that it was made from",
        )


def write(target: Tensor, values: Array) -> None:
    """Overwrite the array of `target`, and raise its version so that a walk which needs the old values says so."""
    check_writable(target._data)
    with np.errstate(all="ignore"):
        np.copyto(target._data, values, casting="same_kind")
    overwritten(target)


def overwritten(target: Tensor) -> None:
    """Remember when the array of `target` was written to last, in the count that numbers nodes as well."""
    target._writes[0] = next(serials)


def overwritten_by_step(written: Written) -> None:
    """The same for all that a compiled step writes to."""
    written.serial = next(serials)
    if not written.waits:
        written.waits = True
        unsettled.append(written)


def leaves_step(tensor: Tensor, what: str, hint: str = "") -> None:
    """Where a step is being recorded, refuse what happens in Python alone."""
    over: Any = slot.over.get()
    if over is not None:
        over.refuse(tensor, what, hint)


def _cotangent(result: Tensor, given: Any, what: str) -> Tensor:
    if given is None:
        if result.size != 1:
            raise GradientError(
                f"{what} is needed for a result with more than one value",
                {"result": list(result.shape)},
                hint="sum the result, or give a cotangent of its shape",
            )
        return wrap(np.ones_like(result._data))
    ct = given if isinstance(given, Tensor) else wrap(as_array(np.asarray(given)))
    if ct.shape != result.shape:
        raise ShapeError(
            f"{what} must have the result's shape", {"result": list(result.shape), "given": list(ct.shape)}
        )
    return ct if ct.dtype == result.dtype else ct.astype(result.dtype)


def as_array(data: Any, dtype: Any = None) -> Array:
    """The array of `data` in a dtype that tensors have; Python floats become float32; no copy where none is needed."""
    if isinstance(data, Tensor):
        array = data._data
    else:
        try:
            array = np.asarray(data)
        except ValueError as ragged:
            raise ShapeError("tensor: rows differ in length", {"numpy": ragged}) from None
    if dtype is None:
        dtype = np.float32 if array.dtype == np.float64 and not hasattr(data, "dtype") else array.dtype
    wanted = np.dtype(dtype)
    if not wanted.isnative:
        wanted = np.dtype(wanted.type)
    if wanted.kind not in "iub" and wanted not in (np.float32, np.float64):
        facts: dict[str, object] = {"dtype": wanted} if wanted.kind in "fc" else {"given": repr(data), "dtype": wanted}
        raise DTypeError(
            "tensor: values must be float32, float64, integers or booleans", facts, hint="convert them first"
        )
    with np.errstate(all="ignore"):
        return array.astype(wanted, copy=not array.flags.aligned)
