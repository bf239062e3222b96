"""What a function finds in Python beside its arguments: numbers, lists and objects of its module and of its closure.

They are looked for before it runs, in its code and in that of the functions and methods that it names: values of the
names that are read, attributes that are asked of them, contents of lists, dicts and sets. A compiled step is one for as
long as all of them are the same; one that changes while it is recorded would change in the first call alone, and is
refused, as are random numbers that are drawn by a generator that was found, or by one that nobody gave a seed.
Code of this package, of installed packages and of Python itself is not looked into.
"""

from __future__ import annotations

import functools
from operator import is_
from types import CodeType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..tensor import Tensor
from .code import codes, place_of_write, read_names, unseeded, written_names
from .draws import GENERATORS, states
from .record import Recorder, refusal
from .values import CONTAINERS, EMPTY, FOREIGN, HELD, PLAIN, SEVERAL, STILL, copied, own, own_module, plain, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ..domains import Array

CALLED = {"forward", "__call__"}
"""Methods that code of the package calls."""
RULES = {"step", "begin", "update", "update_all", "rate"}
"""The same of optimizers."""
UNASKED = ("__init__", "__new__", "__repr__", "__str__")
"""Methods of classes that are not looked into unless the code names them."""
SMALL = 4096
"""Numbers of larger arrays that NumPy alone computes with, and no op, are not compared."""
MOST = 1000
"""Contents of longer lists, dicts and sets are not compared in each call."""


def _items(given: tuple[Any, ...] | list[Any]) -> Iterator[Any]:
    """What is given, in containers that are made for the call or not."""
    for one in given:
        if type(one) in (list, tuple, dict):
            yield from _items(list(one.values()) if isinstance(one, dict) else one)
        else:
            yield one


class Outside:
    """Values that were found before a function ran, and where: `same` says whether they still are what they were."""

    def __init__(self, function: Callable[..., Any], given: tuple[Any, ...] = ()) -> None:
        self.found: dict[tuple[int, Any], tuple[str, Any, Any, Any]] = {}
        """How a value is read, from what, by which key, and what it was."""
        self.quiet: dict[tuple[int, Any], tuple[str, Any, Any, Any]] = {}
        """The same for attributes of what says itself when one is set."""
        self.things: list[Any] = []
        self._codes: dict[CodeType, None] = {}
        self._names = set(CALLED)
        self._writes: set[str] = set()
        self._seen: dict[int, Any] = {}
        self._absent: dict[tuple[int, str], tuple[Mapping[str, Any], str]] = {}
        """Attributes that the code writes to and that were not there."""
        self._copies: dict[int, tuple[str, Any, Any]] = {}
        """Contents that are compared once, when the function was recorded."""
        self._generators: dict[int, Any] = {}
        self._classes: dict[type, Any] = {}
        """Their attributes, by one object for all who ask."""
        self._look_at([function, *_items(given)])
        self.same = self._compiled()
        self._drawn = False
        self._random = self._states()

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
            "slot": "getattr(h{0}, k{0}, None) is v{0}",
            "cell": "h{0}.cell_contents is v{0}",
            **dict.fromkeys(CONTAINERS, "len(h{0}) == len(v{0}) and all(map(is_, h{0}, v{0}))"),
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
            now = read(how, holder, key)
            self.found[one] = (how, holder, [*holder] if how == "dict" else key, copied(how, now))
        self.same = self._compiled()

    def equal(self) -> bool:
        """Whether all numbers have the same value, if not the same object, and all else is the same; then it counts."""
        for one, (how, holder, key, value) in self.found.items():
            now = read(how, holder, key)
            if now is not value and how not in (*CONTAINERS, "numbers"):
                if not (plain(value) and type(now) is type(value) and now == value):
                    return False
                self.found[one] = (how, holder, key, now)
        self.same = self._compiled()
        return self.same()

    def assigns(self, name: str) -> bool:
        """Whether code of the user sets an attribute of this name."""
        return name in self._writes

    def drawing(self, prepare: Callable[[], Any]) -> Any:
        """What `prepare` gives, which may draw random numbers as it will be asked before each run."""
        self._drawn |= self._states() != self._random
        found = prepare()
        self._random = self._states()
        return found

    def _states(self) -> Any:
        return states(self._generators.values())

    def unchanged(self, recorder: Recorder) -> None:
        """Raise CompileError where the function wrote to what it found, or drew random numbers outside of the step."""
        for how, holder, key, value in (*self.found.values(), *self.quiet.values()):
            now = read(how, holder, key)
            if how in CONTAINERS:
                self._same_contents(how, holder, value)
            elif now is not value and (
                (plain(now) and plain(value)) or (isinstance(now, Tensor) and recorder.made(now))
            ):
                self._refuse(f"{key} is written to", str(key), key)
        self._nothing_written(recorder)
        if (leaf := recorder.adds_up()) is not None and not self.assigns("grad"):
            what = "a step without zero_grad, which adds its gradients to those of the step before,"
            recorder.refuse(leaf, what, hint="call optimizer.zero_grad() in the step")
        if self._drawn or self._states() != self._random:
            self._refuse("random numbers are drawn", "random, numpy.random", None)
        if line := next(filter(None, map(unseeded, self._codes)), ""):
            self._refuse("random numbers of a generator without a seed are drawn", "numpy.random", None, line)

    def _nothing_written(self, recorder: Recorder) -> None:
        """The same for attributes that were not there, long lists, and arrays."""
        for holder, key in self._absent.values():
            if isinstance(now := holder.get(key), Tensor) and recorder.made(now):
                self._refuse(f"{key} is written to", str(key), key)
        for how, holder, value in self._copies.values():
            if how in CONTAINERS:
                self._same_contents(how, holder, value)
            elif holder.tobytes() != value.tobytes() and not recorder.overwrites(holder):
                self._refuse("an array is changed", f"{holder.dtype} {list(holder.shape)}", None)

    def _same_contents(self, how: str, holder: Any, value: list[Any]) -> None:
        now = read(how, holder, None)
        if getattr(type(holder), "tells_items", False):  # new tensors, as of a state, are told
            now, value = ([x for x in some if plain(x)] for some in (now, value))
        if len(now) != len(value) or not all(map(is_, now, value)):
            self._refuse(f"a {how} is changed", repr(type(holder).__name__), None)

    def _refuse(self, what: str, name: str, key: Any, line: str = "") -> None:
        hint = "take it as an argument and return it, or keep it in a tensor; dropout draws anew in each step"
        raise refusal(f"{what}, which", {"what": name, "line": line or place_of_write(self._codes, key)}, hint)

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
        if isinstance(value, (*PLAIN, Tensor)) or id(value) in self._seen:
            return
        self._seen[id(value)] = value  # kept, so that no other object gets its id
        for one in self._parts(value):
            self._visit(one)
        if isinstance(value, FunctionType):
            self._function(value)
        elif isinstance(value, SEVERAL):
            self._contents(value)
        elif isinstance(value, np.ndarray):
            self._array(value)
        elif isinstance(value, GENERATORS):
            self._generators[id(value)] = value
        elif isinstance(value, ModuleType):
            if own_module(value):
                self._attributes(vars(value))
        elif not isinstance(value, MethodType | tuple | type) or own(value):
            self._object(value)

    def _array(self, value: Array) -> None:
        if value.dtype == bool:  # what it chooses is part of the step
            self._numbers(value)
        if value.size <= SMALL:
            self._copies[id(value)] = ("numbers", value, value.copy())

    @staticmethod
    def _parts(value: Any) -> Iterator[Any]:
        """What a value consists of: what a callable calls, what a container contains."""
        yield getattr(value, "__dict__", {}).get("__wrapped__")
        if isinstance(value, MethodType):
            yield from (value.__func__, value.__self__)
        elif isinstance(value, functools.partial):
            yield from (value.func, *value.args, *value.keywords.values())
        elif isinstance(value, (tuple, *SEVERAL)) and len(value) <= MOST:
            yield from value.values() if isinstance(value, dict) else value

    def _function(self, function: FunctionType) -> None:
        code = function.__code__
        if code.co_filename.startswith(FOREIGN):
            return
        for one in codes(code):
            self._codes[one] = None
            self._names.update(one.co_names)
            self._writes.update(written_names(one))
            for name in read_names(one):
                self._hold("name", function.__globals__, name)
        self._attributes(vars(function))
        for names in (function.__globals__, vars(function)):
            self._may_appear(names)
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            self._hold("cell", cell, name)
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._visit(value)

    def _hold(self, how: str, holder: Any, key: Any, *, quiet: bool = False) -> None:
        value = read(how, holder, key)
        if value is not EMPTY:
            if not isinstance(value, STILL) or own(value):
                (self.quiet if quiet else self.found)[id(holder), key] = (how, holder, key, value)
            self._visit(value)

    def _numbers(self, value: Array) -> None:
        """Hold on to the numbers of an array, for those whose numbers are not read anew in each run."""
        self.found[id(value), "numbers"] = ("numbers", value, None, value.copy())

    def _contents(self, value: Any) -> None:
        how = next(kind.__name__ for kind in SEVERAL if isinstance(value, kind))
        copy = copied(how, read(how, value, None))
        if len(value) <= MOST:
            self.found[id(value), how] = (how, value, [*value] if how == "dict" else None, copy)
        else:
            self._copies[id(value)] = (how, value, copy)
        if type(value) not in SEVERAL:
            self._object(value)

    def _attributes(self, own: Any, *, quiet: bool = False) -> None:
        for name in sorted(self._names & own.keys()):
            self._hold("name", own, name, quiet=quiet)

    def _object(self, value: Any) -> None:
        """Look at attributes of an object and of its classes, or of a class, and at its methods that are named."""
        tells, whole = getattr(type(value), "tells_changes", False), isinstance(value, type)
        found = None if whole else getattr(value, "__dict__", None)
        rules = RULES if hasattr(type(value), "update_all") else set()
        if tells:
            self.things.append(value)
        if found is not None:
            self._attributes(found, quiet=tells)
            self._may_appear(found)
        above = [] if found is None else [found]
        for kind in value.__mro__ if whole else type(value).__mro__:
            above.append(self._classes.setdefault(kind, vars(kind)))
            self._operators(kind)
            for name in sorted((self._names | rules) & vars(kind).keys()):
                self._attribute(value, kind, name, above)
        if tells:
            for _, child in value.named_modules():
                self._visit(child)

    def _attribute(self, value: Any, kind: type, name: str, above: list[Any]) -> None:
        """One of a class, or a slot; `above` are the attributes of the class, behind those that would come first."""
        one = vars(kind)[name]
        method = getattr(one, "fget", None) or getattr(one, "__func__", one)
        if isinstance(method, FunctionType):
            self._visit(method)
        if isinstance(one, MemberDescriptorType) and not isinstance(value, type):
            self._hold("slot", value, name)
        elif kind.__module__ != "builtins" and (plain(one) or own(one) or isinstance(one, HELD)):
            self._hold("name", above[-1], name)
            unset = ((id(x), name, x) for x in above[:-1] if name not in x)
            self.found.update({(i, name): ("unset", x, name, EMPTY) for i, name, x in unset})

    def _operators(self, kind: type) -> None:
        """Look into methods of a class that the code uses without a name, as `+`, an index, or `with`."""
        for name, method in vars(kind).items() if own(kind) else ():
            if name.startswith("__") and name not in UNASKED and isinstance(method, FunctionType):
                self._visit(method)

    def _may_appear(self, attributes: Any) -> None:
        """Note which names that the code writes to are not there yet."""
        self._absent.update({(id(attributes), one): (attributes, one) for one in self._writes - attributes.keys()})
