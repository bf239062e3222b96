"""`tg.jit`: a function of tensors becomes machine code, a step for each signature that it is called with."""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CompileError
from ..op import slot
from ..tensor import Tensor, as_array, wrap
from .record import recorded
from .step import Step
from .trees import apart, together

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..domains import Array

MANY = 16
"""Signatures of one function above which a warning says so."""


class Compiled:
    """What `tg.jit` makes of a function: call it as the function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.name = getattr(function, "__name__", repr(function))
        self.function = function
        self.steps: dict[Any, list[Step]] = {}
        self.last: tuple[int, Step] | None = None
        self.count = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the step of this signature; the first call with it runs the function itself, and records it."""
        if slot.over.get() is not None:
            return self.function(*args, **kwargs)
        last = self.last
        if last is not None and not kwargs and len(args) == last[0]:
            try:
                arrays = tuple([x._data if type(x) is Tensor else x for x in args])
            except AttributeError:
                arrays = None
            if arrays is not None and last[1].current():
                found = last[1].run(arrays)
                if found is not None:
                    return found[0]
        return self._looked_up(args, kwargs)

    def _looked_up(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        leaves: list[Any] = []
        structure = apart((args, kwargs), leaves)
        arrays = [np.ascontiguousarray(as_array(x)).reshape(np.shape(as_array(x))) for x in leaves]
        key = (structure, tuple((x.shape, x.dtype.char) for x in arrays))
        known = self.steps.setdefault(key, [])
        for step in known:
            if step.current():
                if structure == (tuple, ((tuple, ("array",) * len(args)), (dict, ()))):
                    self.last = len(args), step
                found = step.run(tuple(arrays))
                if found is None:
                    raise CompileError("tg.jit: a step refuses the signature that it was recorded for", {"key": key})
                return found[0]
        return self._recorded(structure, arrays, leaves, known)

    def _recorded(self, structure: Any, arrays: list[Array], leaves: list[Any], known: list[Step]) -> Any:
        given = [
            wrap(array, requires_grad=isinstance(x, Tensor) and x.requires_grad and x._node is None)
            for x, array in zip(leaves, arrays, strict=True)
        ]
        args, kwargs = together(structure, iter(given))
        result, recorder = recorded(lambda: self.function(*args, **kwargs), arrays)
        recorder.forget_gradients()
        self.count += 1
        if self.count == MANY + 1:
            warnings.warn(
                f"tg.jit: {self.name} was compiled for {self.count} signatures; every new shape, dtype and Python value "
                "is another: pad batches, or give numbers as arrays",
                stacklevel=4,
            )
        outputs: list[Any] = []
        shape = apart((result,), outputs)
        known.append(Step(recorder, arrays, shape, outputs))
        return together(
            shape, iter([x.detach() if isinstance(x, Tensor) and recorder.made(x) else x for x in outputs])
        )[0]


def jit(function: Callable[..., Any]) -> Compiled:
    """Compile."""
    return Compiled(function)
