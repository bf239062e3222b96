"""What a function finds in Python beside its arguments: numbers, lists and objects of its module and of its closure.

They are looked for before it runs, in its code and in that of the functions and methods that it names: values of the
names that are read, attributes that are asked of them, contents of lists and dicts. A compiled step is one for as long
as all of them are the same; one that changes while it is recorded would change in the first call alone, and is refused.
Code of this package, of installed packages and of Python itself is not looked into.
"""

from __future__ import annotations

import dis
import functools
import pickle
import random
import sysconfig
from operator import is_
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..tensor import Tensor
from .record import PACKAGE, Recorder, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..domains import Array

FOREIGN = (PACKAGE, *{sysconfig.get_path(one) for one in ("stdlib", "platstdlib", "purelib", "platlib")})
STILL = (ModuleType, FunctionType, BuiltinFunctionType, MethodType, type, np.ufunc)
"""What a name may hold that nobody is expected to replace between two steps."""
PLAIN = (bool, int, float, complex, str, bytes, np.generic, type(None))
SMALL = 4096
"""Numbers of larger arrays that NumPy alone computes with, and no op, are not compared."""
MOST = 64
"""Contents of longer lists and dicts are not looked at."""


def plain(value: Any) -> bool:
    """Whether a value is a number, a text, or a tuple of such."""
    return all(map(plain, value)) if isinstance(value, tuple) else isinstance(value, PLAIN)


def codes(code: CodeType) -> Iterator[CodeType]:
    """A code, and those of the functions that are made in it."""
    yield code
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from codes(one)


class Outside:
    """Values that were found before a function ran, and where: `same` says whether they still are what they were."""

    def __init__(self, function: Callable[..., Any], given: tuple[Any, ...] = ()) -> None:
        self.found: dict[tuple[int, Any], tuple[str, Any, Any, Any]] = {}
        """How a value is read, from what, by which key, and what it was."""
        self.quiet: dict[tuple[int, Any], tuple[str, Any, Any, Any]] = {}
        """The same for attributes of what says itself when one is set."""
        self.things: list[Any] = []
        self._codes: dict[CodeType, None] = {}
        self._names = {"forward", "__call__"}
        self._seen: dict[int, Any] = {}
        self._random = _states()
        containers = (list, tuple, dict)  # those are made for the call
        self._look_at([function, *(one for one in given if type(one) not in containers)])
        self.same = self._compiled()

    def _look_at(self, roots: list[Any]) -> None:
        """Visit all that can be reached from here, until no code names an attribute that was not asked for before."""
        asked = -1
        while asked < len(self._names):
            asked = len(self._names)
            self._seen.clear()
            for one in roots:
                self._visit(one)

    def _compiled(self) -> Callable[[], bool]:
        """A function that compares all values: it is asked in each call, in some 30 ns for each of them."""
        texts = {
            "name": "h{0}[k{0}] is v{0}",
            "unset": "k{0} not in h{0}",
            "cell": "h{0}.cell_contents is v{0}",
            "list": "len(h{0}) == len(v{0}) and all(map(is_, h{0}, v{0}))",
            "numbers": "array_equal(h{0}, v{0})",
            "dict": "[*h{0}] == k{0} and all(map(is_, h{0}.values(), v{0}))",
        }
        names: dict[str, Any] = {"is_": is_, "array_equal": np.array_equal}
        for i, (_, holder, key, value) in enumerate(self.found.values()):
            names |= {f"h{i}": holder, f"k{i}": key, f"v{i}": value}
        terms = " and ".join(texts[one[0]].format(i) for i, one in enumerate(self.found.values())) or "True"
        text = f"def same():\n try:\n  return {terms}\n except (KeyError, ValueError):\n  return False\n"
        exec(compile(text, "<values found outside>", "exec"), names)
        return names["same"]

    def renew(self) -> None:
        """Count as the same what is there now."""
        for one, (how, holder, key, _) in self.found.items():
            now = _read(how, holder, key)
            self.found[one] = (how, holder, [*holder] if how == "dict" else key, _copy(how, now))
        self.same = self._compiled()

    def equal(self) -> bool:
        """Whether all numbers have the same value, if not the same object, and all else is the same; then it counts."""
        for one, (how, holder, key, value) in self.found.items():
            now = _read(how, holder, key)
            if now is not value and how not in (*CONTAINERS, "numbers"):
                if not (plain(value) and type(now) is type(value) and now == value):
                    return False
                self.found[one] = (how, holder, key, now)
        self.same = self._compiled()
        return self.same()

    def unchanged(self, recorder: Recorder) -> None:
        """Raise CompileError where the function wrote to what it found, or drew random numbers outside of the step."""
        for how, holder, key, value in (*self.found.values(), *self.quiet.values()):
            now = _read(how, holder, key)
            if how in CONTAINERS:
                if len(now) != len(value) or not all(map(is_, now, value)):
                    self._refuse(f"a {how} is changed", repr(type(holder).__name__), None)
            elif now is not value and (
                (plain(now) and plain(value)) or (isinstance(now, Tensor) and recorder.made(now))
            ):
                self._refuse(f"{key} is written to", str(key), key)
        if (leaf := recorder.adds_up()) is not None and not any("grad" in code.co_names for code in self._codes):
            what = "a step without zero_grad, which adds its gradients to those of the step before,"
            recorder.refuse(leaf, what, hint="call optimizer.zero_grad() in the step")
        if not any(not steady for _, _, steady in recorder.record.before) and _states() != self._random:
            self._refuse("random numbers are drawn", "random, numpy.random", None)

    def _refuse(self, what: str, name: str, key: Any) -> None:
        hint = "take it as an argument and return it, or keep it in a tensor; dropout draws anew in each step"
        raise refusal(f"{what}, which", {"what": name, "line": self._line(key)}, hint)

    def _line(self, key: Any) -> str:
        """Where a name is written to, as far as the code shows; else where the function begins."""
        writes = ("STORE_GLOBAL", "STORE_DEREF", "STORE_ATTR", "STORE_NAME")
        for code in self._codes:
            line = code.co_firstlineno
            for one in dis.get_instructions(code):
                line = one.positions.lineno if one.positions and one.positions.lineno else line
                if one.opname in writes and one.argval == key:
                    return f"{code.co_filename}:{line}"
        first = next(iter(self._codes), None)
        return f"{first.co_filename}:{first.co_firstlineno}" if first else "unknown"

    def watched(self, recorder: Recorder) -> Callable[[], bool]:
        """What says whether all is the same, for a step that was recorded; it depends on attributes that tell, too."""
        copied = {id(one) for one in recorder.constants}
        for one in self._seen.values():
            if isinstance(one, np.ndarray) and (id(one) in copied or (recorder.unread(one) and one.size <= SMALL)):
                self._numbers(one)
        things = recorder.record.things
        self._look_at(list(things.values()))
        things.update({id(one): one for one in self.things})
        self._seen.clear()
        self.renew()
        return self.same

    def _visit(self, value: Any) -> None:
        """Look into a value, once."""
        if isinstance(value, (*PLAIN, Tensor, type)) or id(value) in self._seen:
            return
        self._seen[id(value)] = value  # kept, so that no other object gets its id
        for one in self._parts(value):
            self._visit(one)
        if isinstance(value, FunctionType):
            self._function(value)
        elif type(value) in (list, dict):
            self._contents(value)
        elif isinstance(value, ModuleType):
            if not str(getattr(value, "__file__", None) or PACKAGE).startswith(FOREIGN):
                self._attributes(vars(value))
        elif isinstance(value, np.ndarray):
            if value.dtype == bool:  # what it chooses is part of the step
                self._numbers(value)
        elif not isinstance(value, MethodType | tuple):
            self._object(value)

    @staticmethod
    def _parts(value: Any) -> Iterator[Any]:
        """What a value consists of: what a callable calls, what a container contains."""
        yield getattr(value, "__dict__", {}).get("__wrapped__")
        if isinstance(value, MethodType):
            yield from (value.__func__, value.__self__)
        elif isinstance(value, functools.partial):
            yield from (value.func, *value.args, *value.keywords.values())
        elif type(value) in (list, tuple, dict) and len(value) <= MOST:
            yield from value.values() if isinstance(value, dict) else value

    def _function(self, function: FunctionType) -> None:
        code = function.__code__
        if code.co_filename.startswith(FOREIGN):
            return
        for one in codes(code):
            self._codes[one] = None
            self._names.update(one.co_names)
            for step in dis.get_instructions(one):
                if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") and step.argval in function.__globals__:
                    self._hold("name", function.__globals__, step.argval)
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            self._hold("cell", cell, name)
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._visit(value)

    def _hold(self, how: str, holder: Any, key: Any, *, quiet: bool = False) -> None:
        value = _read(how, holder, key)
        if value is not EMPTY:
            if not isinstance(value, STILL):
                (self.quiet if quiet else self.found)[id(holder), key] = (how, holder, key, value)
            self._visit(value)

    def _numbers(self, value: Array) -> None:
        """Hold on to the numbers of an array, for those whose numbers are not read anew in each run."""
        self.found[id(value), "numbers"] = ("numbers", value, None, value.copy())

    def _contents(self, value: Any) -> None:
        if len(value) <= MOST:
            how, key = ("dict", [*value]) if isinstance(value, dict) else ("list", None)
            self.found[id(value), how] = (how, value, key, _copy(how, _read(how, value, key)))

    def _attributes(self, own: Any, *, quiet: bool = False) -> None:
        for name in sorted(self._names & own.keys()):
            self._hold("name", own, name, quiet=quiet)

    def _object(self, value: Any) -> None:
        """Look at attributes of an object and of its classes, and at its methods that are named."""
        tells, own = getattr(type(value), "tells_changes", False), getattr(value, "__dict__", {})
        if tells:
            self.things.append(value)
        self._attributes(own, quiet=tells)
        for kind in type(value).__mro__:
            for name in sorted(self._names & vars(kind).keys()):
                one = vars(kind)[name]
                method = getattr(one, "fget", None) or getattr(one, "__func__", one)
                if isinstance(method, FunctionType):
                    self._visit(method)
                elif plain(one) and kind.__module__ != "builtins":
                    self._hold("name", vars(kind), name)
                    if name not in own:
                        self.found[id(own), name] = ("unset", own, name, EMPTY)
        if tells:
            for _, child in value.named_modules():
                self._visit(child)


CONTAINERS = ("list", "dict")
EMPTY = object()
"""What is read where there is nothing any more."""


def _read(how: str, holder: Any, key: Any) -> Any:
    if how in ("name", "unset"):
        return holder.get(key, EMPTY)
    if how == "dict":
        return list(holder.values())
    if how == "cell":
        try:
            return holder.cell_contents
        except ValueError:
            return EMPTY
    return holder


def _copy(how: str, value: Any) -> Any:
    return list(value) if how in CONTAINERS else value.copy() if how == "numbers" else value


def _states() -> Any:
    """States of the generators that everybody shares."""
    return random.getstate(), pickle.dumps(vars(np.random)["get_bit_generator"]().state)
