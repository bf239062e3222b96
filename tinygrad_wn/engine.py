"""The eager engine: it carries out each op call at once, and records it where a gradient is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import GradientError, ShapeError
from .op import Op, slot
from .tensor import Node, Tensor, as_array, wrap, write
from .walk import recording

if TYPE_CHECKING:
    from .domains import Array


def eager(op: Op[...], given: tuple[Any, ...], params: dict[str, Any], targets: tuple[Any, ...] | None) -> Any:
    """Run an op call now, and record it where a gradient is wanted: the interpreter of every day."""
    inputs = list(given)
    arrays: list[Any] = []
    track = False
    for i, x in enumerate(given):
        if isinstance(x, Tensor):
            track = track or x._wants
            arrays.append(x._data)
        elif x is None or type(x) in (float, int, bool):
            arrays.append(x)
        else:
            inputs[i] = wrap(as_array(x) if hasattr(x, "dtype") else _list_array(x, given))
            arrays.append(inputs[i]._data)
    if not any(isinstance(a, np.ndarray) for a in arrays):
        arrays = [a if a is None else as_array(a) for a in arrays]
    results = op.compute(arrays, params)
    if targets is not None:
        return _store(op, targets, results)
    several = type(results) is tuple
    made = results if several else (results,)
    made = tuple(r if type(r) is np.ndarray else np.asarray(r) for r in made)
    if not (track and op.pull is not None and recording.get() and made[0].dtype.kind == "f"):
        out = tuple(wrap(r, writes=_shared(r, given)) for r in made)
        return out if several else out[0]
    inputs = [_owned(x, g) for x, g in zip(inputs, given, strict=True)]
    node = Node(op, tuple(inputs), params, len(made), several)
    out = tuple(wrap(r, node, i, _shared(r, given)) for i, r in enumerate(made))
    if op.keeps_result or several:
        node.results = [(t._data, t._writes, t._writes[0]) for t in out]
    return out if several else out[0]


def _list_array(values: Any, inputs: tuple[Any, ...]) -> Array:
    """The array of a nested list in a call: its floats are weak, so beside float64 nothing is rounded to float32."""
    wide = any(getattr(x, "dtype", None) == np.float64 for x in inputs)
    array = np.asarray(values) if wide else as_array(values)
    return array if array.dtype == np.float64 else as_array(values)


def _owned(x: Any, given: Any) -> Any:
    """A recorded array of the caller is copied: writing to it later must not change a gradient."""
    if isinstance(given, np.ndarray):
        return wrap(np.array(x._data))
    return x


def _shared(result: Array, inputs: tuple[Any, ...]) -> list[int] | None:
    """The version counter of the tensor whose memory `result` looks into, if there is one."""
    if not inputs or not isinstance(inputs[0], Tensor):
        return None
    source = inputs[0]._data
    if result is source or (result.base is not None and (result.base is source or result.base is source.base)):
        return inputs[0]._writes
    return None


def _store(op: Op[...], targets: tuple[Any, ...], results: Any) -> None:
    """Write results into targets: all are checked before the first is written."""
    values = results if isinstance(results, tuple) else (results,)
    for target, value in zip(targets, values, strict=True):
        if target._node is not None:
            raise GradientError(f"{op.name}: a computed tensor cannot be overwritten", hint="write to a leaf")
        if target.shape != value.shape or target.dtype != value.dtype:
            raise ShapeError(
                f"{op.name}: results must fit what they overwrite",
                {"target": f"{target.dtype} {list(target.shape)}", "result": f"{value.dtype} {list(value.shape)}"},
            )
    for target, value in zip(targets, values, strict=True):
        write(target, value)


slot.eager = eager
