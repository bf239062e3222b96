"""`tg.jit`: a function of tensors becomes machine code, a step for each signature that it is called with."""

from __future__ import annotations

import functools
import os
import sys
import threading
import warnings
import weakref
from operator import attrgetter
from types import MethodType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CompileError, DTypeError, StateError
from ..kernels.called import called
from ..kernels.entry import handed
from ..slot import changes, differentiated, slot
from ..tensor import Tensor, as_array, check_writable, overwritten_by_step, serials, wrap
from ..walk import recording as _recording
from .outside import Outside
from .record import Recorder, keep_apart
from .show import drawn, table
from .step import Step
from .trees import apart, check_result, together

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..domains import Array

over, inside, recording = slot.over.get, differentiated.get, _recording.get

MANY = 16
"""Signatures of one function above which a warning says so."""


class Compiled:
    """What `tg.jit` makes of a function: call it as the function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        if not callable(function):
            raise DTypeError("tg.jit: not a function", {"given": repr(function)}, hint="call the step that it makes")
        functools.update_wrapper(self, function)
        self.function = function
        self.name = getattr(function, "__name__", repr(function))
        self.steps: dict[Any, list[Step]] = {}
        self.last: Step | None = None
        """The step that ran last of those that take nothing but arrays."""
        self.hot: Step | None = None
        """The same, if it is one function and has one result."""
        self.direct: list[Any] = []
        """That step and its words, if machine code may call it."""
        self.newest: Step | None = None
        self.recording = threading.RLock()
        self.methods: dict[int, Compiled] = {}
        _all.add(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the step of this signature; the first call with it runs the function itself, and records it."""
        step = self.hot
        if (
            step is None
            or kwargs
            or over() is not None
            or inside()
            or recording() is not step.recording
            or not step.same()
            or (step.changes != changes[0] and not step.current())
            or not (step.still or step.fits(args))
        ):
            return self._looked_up(args, kwargs)
        results = (np.empty(*step.shapes[0]),)
        if step.still:
            status = step.quick(args, results)
            ran = not status or step.again(status, args, results)
        else:
            ran = step.asked(args, results)
        if not ran:
            return self._looked_up(args, kwargs)
        written = step.written
        written.serial = next(serials)
        if not written.waits:
            overwritten_by_step(written)
        return wrap(results[0])

    def _looked_up(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if over() is not None or inside():
            return self.function(*args, **kwargs)
        leaves: list[Any] = []
        structure = apart((args, kwargs), leaves)
        arrays, trained = [_plain(x) for x in leaves], _trained(leaves)
        key = (
            structure,
            recording(),
            *[(x.shape, x.dtype.char, place) for x, place in zip(arrays, trained, strict=True)],
        )
        known = self.steps.setdefault(key, [])
        step = next((one for one in known if one.current()), None)
        if step is None:
            with self.recording:  # whoever waited for it may find what was recorded meanwhile
                step = next((one for one in known if one.current()), None)
                if step is None:
                    return self._recorded(structure, arrays, leaves, known)
        flat = structure[1][0][1] == ("array",) * len(args)  # no container among the arguments
        if flat and not (kwargs or step.touched or any(place >= 0 for place in trained)):
            self.last = step
            self.hot = step if step.single and step.simple else None
            self._let_called(step)
        for i in step.touched:
            check_writable(leaves[i]._data if isinstance(leaves[i], Tensor) else leaves[i])
        found = step.run(tuple(arrays))
        if found is None:
            keep_apart(arrays, step.targets)
            raise CompileError("tg.jit: a step refuses the signature that it was recorded for", {"signature": key})
        step.written_back(leaves, arrays)
        return found[0]

    def _let_called(self, step: Step) -> None:
        """Have machine code called in the place of `__call__`, which it calls where it does not run the step."""
        if step.direct and type(self) is Compiled:
            state = (self.direct, _weakly(self))
            self.__class__ = type("Compiled", (Compiled,), {"__call__": handed(called, state)})
        self.direct[:] = [step, step.direct.words] if step.direct else []

    def __del__(self) -> None:
        """Let go of the step: the class, which holds it, goes when Python next collects."""
        vars(self).get("direct", []).clear()

    def _recorded(self, structure: Any, arrays: list[Array], leaves: list[Any], known: list[Step]) -> Any:
        own = [np.asarray(x.data) for x in arrays]  # over a buffer: views of these have them as base, not the base of x
        given: list[Tensor] = []
        for i, place in enumerate(_trained(leaves)):
            given.append(given[place] if 0 <= place < i else wrap(own[i], requires_grad=place >= 0))
        args, kwargs = together(structure, iter(given))
        outside = Outside(self.function, (*args, *kwargs.values()))
        recorder = Recorder(own, leaves)
        recorder.drawing, recorder.assigns_gradients = outside.drawing, outside.assigns("grad")
        try:
            result = recorder.watch(lambda: self.function(*args, **kwargs))
            outside.unchanged(recorder)
            keep_apart(own, recorder.targets())
            outputs: list[Any] = []
            check_result(result)
            shape = apart((result,), outputs)
            recorder.check_gradients(outputs)
            recorder.forget_gradients()
            recorder.depends_on_leaves()
            self.newest = Step(recorder, arrays, shape, outputs, outside)
        except BaseException:  # what gives nothing writes nothing, as in later calls
            recorder.undo()
            raise
        known.append(self.newest)
        self.newest.written_back(leaves, arrays)
        for act in recorder.record.after:
            act()
        if sum(map(len, self.steps.values())) == MANY + 1:
            warnings.warn(
                f"tg.jit: {self.name} was compiled for {MANY + 1} signatures; each new shape, dtype and Python value "
                "is one: pad batches, and give numbers as arrays",
                stacklevel=4,
            )
        return together(shape, iter([_detached(x, recorder) for x in outputs]))[0]

    def __reduce__(self) -> Any:
        """One that a name leads to is pickled by that name, as a function is; others with what they compile."""
        name = getattr(self.function, "__qualname__", "")
        try:
            named = attrgetter(name)(sys.modules[self.function.__module__])
        except (AttributeError, KeyError):
            named = None
        return name if named is self else (Compiled, (self.function,))

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """A compiled method: each object has steps of its own, and stays as long as its class."""
        if instance is None:
            return self
        if id(instance) not in self.methods:
            self.methods[id(instance)] = Compiled(MethodType(self.function, instance))
        return self.methods[id(instance)]

    def _last(self) -> Step:
        if self.newest is None:
            raise CompileError(f"tg.jit: {self.name} was not called yet", hint="call it: the first call compiles it")
        return self.newest

    @property
    def source(self) -> str:
        """The emitted module of the signature that was compiled last."""
        return self._last().text.module

    def plan(self) -> str:
        """A table of that step: what runs as one, shapes, where results lie, operations and bytes."""
        return table(self._last().plan)

    def graph(self, style: str = "dot") -> str:
        """A drawing of that step as text for Graphviz ("dot") or Mermaid ("mermaid")."""
        return drawn(self._last().plan, style)


def _weakly(compiled: Compiled) -> Callable[..., Any]:
    """`Compiled.__call__`, of one that is not kept."""
    one = weakref.ref(compiled)

    def call(*args: Any, **kwargs: Any) -> Any:
        found = one()
        if found is None:
            hint = "keep it as long as its __call__; where objects that hold each other are collected, it goes first"
            raise StateError("tg.jit: the compiled function is gone", hint=hint)
        return Compiled.__call__(found, *args, **kwargs)

    return call


def _plain(x: Any) -> Array:
    """The array of an argument, as a step takes it: contiguous, aligned, of native byte order."""
    array = as_array(x)
    plain = array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative
    return array if plain else np.array(array, array.dtype.type, order="C")


def _trained(leaves: list[Any]) -> list[int]:
    """For each argument that requires a gradient, where the same tensor is given first; -1 for others."""
    first: dict[int, int] = {}
    return [first.setdefault(id(x), i) if isinstance(x, Tensor) and x._wants else -1 for i, x in enumerate(leaves)]


def _detached(x: Any, recorder: Recorder) -> Any:
    """A result of the recorded call; what was computed has no graph, as in every later call."""
    return wrap(np.array(x._data)) if isinstance(x, Tensor) and recorder.computes(x) else x


def jit(function: Callable[..., Any]) -> Compiled:
    """Compile a whole step: forward, backward and the update of parameters become one function of machine code.

    The first call with new shapes, dtypes, Python values or containers runs the function as ever, writes down its op
    calls and compiles them; later calls run the machine code. Parameters, the state of optimizers and learning rates
    stay live: eager code sees what a step wrote, and a step what eager code wrote. Arrays and tensors that the function
    finds outside are read where they lie. Results have no graph, and gradients are not kept in `.grad`; where `tg.grad`
    or another transform differentiates a function that calls the compiled one, it runs as it was written.

    Raises CompileError, with the line, for what cannot be part of a compiled step: a value that is read into Python, as
    in `float(loss)` or a branch; assigning an array to `.data`; gradients from outside. Python numbers among the
    arguments are part of the signature, so each new one compiles anew.

    >>> w = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> optimizer = tg.optim.SGD([w], lr=0.25)
    >>> @tg.jit
    ... def step(x):
    ...     optimizer.zero_grad()
    ...     loss = (x * w * w).sum()
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    >>> [step(tg.ones(2)).item() for _ in range(3)], w.detach()
    ([5.0, 1.25, 0.3125], Tensor([0.125, 0.25 ]))
    """
    return Compiled(function)


def _renew() -> None:
    """In a forked child, no thread is recording: it is not there."""
    for one in _all:
        one.recording = threading.RLock()


_all: weakref.WeakSet[Compiled] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
