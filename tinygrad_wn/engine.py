"""The eager engine: it carries out each op call at once, and records it where a gradient is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import GradientError, ShapeError
from .op import NUMBERS, Op
from .slot import slot
from .tensor import Node, Tensor, as_array, check_writable, overwritten, wrap, write
from .walk import recording

if TYPE_CHECKING:
    from .domains import Array


def eager(op: Op[...], inputs: tuple[Any, ...], params: dict[str, Any], targets: tuple[Any, ...] | None) -> Any:
    """Run an op call now, and record it where a gradient is wanted: the interpreter of every day."""
    foreign = track = False
    try:  # tensors alone, as a rule
        arrays = [x._data for x in inputs]
        for x in inputs:
            track = track or x._wants
    except AttributeError:
        arrays, track, foreign = _looked_at(op, inputs)
    if targets is not None:
        return _store(op, targets, arrays, params)
    results = op.compute(arrays, params)
    several = op.several
    node = None
    if track and recording.get() and op.gradient and (results[0] if several else results).dtype.kind == "f":
        kept = tuple(map(_kept, inputs, arrays)) if foreign else inputs
        node = Node(op, kept, params, len(results) if several else 1, several)
    if several:
        every = tuple([wrap(np.asarray(r), node, i) for i, r in enumerate(results)])
        if node is not None:
            node.results = [(t._data, t._writes) for t in every]
        return every
    if type(results) is not np.ndarray:
        results = np.asarray(results)
    shared = None if results.base is None and results is not arrays[0] else _shared(results, inputs)
    out = wrap(results, node, 0, shared)
    if node is not None and op.keeps_result:
        node.results = [(results, out._writes)]
    return out


def _looked_at(op: Op[...], inputs: tuple[Any, ...]) -> tuple[list[Any], bool, bool]:
    """Arrays of a call in which not only tensors stand; whether to record it, and whether some are the caller's."""
    plain = foreign = odd = track = missing = False
    for x in inputs:
        if isinstance(x, Tensor):
            plain = True
            track = track or x._wants
        elif type(x) is np.ndarray and x.dtype.char in PLAIN and x.dtype.isnative and x.flags.aligned:
            plain = foreign = True
        elif x is None:
            missing = True
        elif type(x) not in NUMBERS:
            odd = foreign = True
    if missing:
        op.check_given(inputs)
    if odd or not plain:
        return _adopted(inputs), track, foreign
    return [x._data if isinstance(x, Tensor) else x for x in inputs], track, foreign


PLAIN = "fdl?"
"""Type codes of arrays that need no second look: float32, float64, int64 and booleans."""


def _adopted(inputs: tuple[Any, ...]) -> list[Any]:
    """Arrays for a call in which lists or arrays of the caller stand, or Python numbers alone.

    The floats of a list are weak, as numbers are: beside float64 nothing is rounded to float32.
    """
    wide = any(getattr(x, "dtype", None) == np.float64 for x in inputs)
    alone = not any(hasattr(x, "dtype") or isinstance(x, list | tuple) for x in inputs)
    arrays: list[Any] = []
    for x in inputs:
        if x is None or (type(x) in NUMBERS and not alone):
            arrays.append(x)
        elif wide and not hasattr(x, "dtype"):
            array = np.asarray(x)
            arrays.append(array if array.dtype == np.float64 else as_array(x))
        else:
            arrays.append(as_array(x))
    return arrays


def _kept(x: Any, array: Any) -> Any:
    """What a node keeps of an input. An array of the caller is copied: writing to it must not change a gradient."""
    if isinstance(x, Tensor) or x is None or type(x) in NUMBERS:
        return x
    return wrap(np.array(array) if isinstance(x, np.ndarray) else array)


def _shared(result: Array, inputs: tuple[Any, ...]) -> list[int] | None:
    """The version counter of the tensor whose memory `result` looks into, if there is one."""
    if not inputs or not isinstance(inputs[0], Tensor):
        return None
    source = inputs[0]._data
    if result is source or (result.base is not None and (result.base is source or result.base is source.base)):
        return inputs[0]._writes
    return None


def _store(op: Op[...], targets: tuple[Any, ...], arrays: list[Any], params: dict[str, Any]) -> None:
    """Write results into targets: all are checked before the first is written."""
    for target in targets:
        if target._node is not None:
            raise GradientError(f"{op.name}: a computed tensor cannot be overwritten", hint="write to a leaf")
    if op.compute_into([target._data for target in targets], arrays, params):
        for target in targets:
            overwritten(target)
        return
    for target in targets:
        check_writable(target._data)
    results = op.compute(arrays, params)
    values = results if isinstance(results, tuple) else (results,)
    for target, value in zip(targets, values, strict=True):
        if target.shape != value.shape or target.dtype != value.dtype:
            raise ShapeError(
                f"{op.name}: results must fit what they overwrite",
                {"target": f"{target.dtype} {list(target.shape)}", "result": f"{value.dtype} {list(value.shape)}"},
            )
    for target, value in zip(targets, values, strict=True):
        write(target, value)


slot.eager = eager
