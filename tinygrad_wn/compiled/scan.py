"""`tg.scan`: a step on every row of stacked batches, in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..creation import tensor
from ..errors import DTypeError, ShapeError
from ..functions import stack
from ..slot import differentiated, slot
from ..tensor import Tensor, wrap
from ..walk import recording
from .jit import Compiled
from .trees import apart, together

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..domains import Array
    from .step import Step


def scan(function: Callable[..., Any], *stacked: Any) -> Any:
    """Call `function` on the first entry of each of `stacked`, then on the second, …, and stack what it gives.

    `stacked` are tensors or arrays of shape (n, …) with the same n of at least 1, or dicts of them; results are tensors
    of shape (n, …), in the containers that `function` gives them in. Where `function` is one that `tg.jit` compiled and
    takes nothing but arrays, the calls follow each other with less between them: an epoch of batches is one call.
    Inside another compiled step, all n calls become part of it.

    Raises ShapeError where the lengths differ or are 0, DTypeError where a result is not a tensor, and whatever
    `function` raises; calls before that one are done.

    >>> total = tg.tensor(0.0, requires_grad=True)
    >>> optimizer = tg.optim.SGD([total], lr=1.0)
    >>> @tg.jit
    ... def step(x):
    ...     optimizer.zero_grad()
    ...     (-x * total).backward()
    ...     optimizer.step()
    ...     return x * 10
    >>> tg.scan(step, tg.tensor([1.0, 2.0, 3.0])), total.item()
    (Tensor([10., 20., 30.]), 6.0)
    """
    tensors: list[Any] = []
    structure = apart(tuple([x if isinstance(x, Tensor | dict) else tensor(x) for x in stacked]), tensors)
    tensors = [x if isinstance(x, Tensor) else tensor(x) for x in tensors]
    shapes = [x.shape for x in tensors]
    if not shapes or not all(shapes) or len({shape[0] for shape in shapes}) != 1 or not shapes[0][0]:
        facts = {f"argument {i}": list(shape) for i, shape in enumerate(shapes)}
        raise ShapeError("scan: arguments must be stacks of equally many entries", facts, hint="stack batches first")
    if isinstance(function, Compiled) and slot.over.get() is None and not differentiated.get():
        return _one_after_another(function, [np.ascontiguousarray(x._data) for x in tensors], structure)
    found = [_tensors(function(*together(structure, iter([x[k] for x in tensors])))) for k in range(shapes[0][0])]
    columns = zip(*(leaves for _, leaves in found), strict=True)
    return together(found[0][0], iter([stack(column) for column in columns]))[0]


def _tensors(result: Any) -> tuple[Any, list[Tensor]]:
    leaves: list[Any] = []
    structure = apart((result,), leaves)
    if not leaves or not all(isinstance(x, Tensor) for x in leaves):
        raise DTypeError("scan: results must be tensors", {"given": repr(result)})
    return structure, leaves


def _one_after_another(function: Compiled, arrays: list[Array], arguments: Any) -> Any:
    n, done, flat = len(arrays[0]), 0, set(arguments[1]) == {"array"}
    structure: Any = None
    outputs: list[Array] = []
    while True:
        step = function.last if flat else None
        if step is not None and _fits(step, arrays) and n - done > 1:
            made = outputs or [np.empty((n, *shape), dtype) for shape, dtype in step.shapes]
            if step.shapes == [(y.shape[1:], y.dtype) for y in made]:
                ran = step.run_each([x[done:] for x in arrays], [y[done:] for y in made])
                if ran:  # else the step is not the one of today, nor its results
                    structure, outputs, done = step.structure, made, done + ran
        if done == n:
            return together(structure, iter([wrap(y) for y in outputs]))[0]
        entries = iter([x[done : done + 1].reshape(x.shape[1:]) for x in arrays])
        structure, leaves = _tensors(function(*together(arguments, entries)))
        outputs = outputs or [np.empty((n, *x.shape), x.dtype) for x in leaves]
        for into, x in zip(outputs, leaves, strict=True):
            into[done] = x._data
        done += 1


def _fits(step: Step, arrays: list[Array]) -> bool:
    """Whether a step takes such entries, as things are, and gives nothing but tensors that it computes."""
    whole = 0 < len(step.leaves) == len(step.outputs) and step.recording is recording.get()
    return whole and step.forms == [(x.shape[1:], x.dtype) for x in arrays]
