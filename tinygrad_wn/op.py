"""Op: one declaration that the engine, the tests, the kernels and a compiler read; and the registry of all ops."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

import numpy as np

from .domains import Domain
from .errors import DTypeError, ShapeError
from .kernels.jit import kernels_are_on
from .shapes import Misfit
from .slot import Live, slot

if TYPE_CHECKING:
    from .tensor import Tensor

P = ParamSpec("P")
V = TypeVar("V", bound=Callable[..., Any])

OPS: dict[str, Op[...]] = {}
"""Every declared op by name; the tests run over it, so there is no list of tests to forget."""


@dataclass(frozen=True)
class Case:
    """A legal call by named sizes: "(o,i),(o,1)" with params; "(n):c" holds integers from 0 to c - 1."""

    shapes: str
    params: dict[str, Any]


def case(shapes: str, **params: Any) -> Case:
    """Make a Case: `case("(o,i),(o,1)", axis=0)`."""
    return Case(shapes, params)


NUMBERS = (float, int, bool, Live)
"""Python numbers: data of a call that take the dtype of the arrays beside them."""


class Op(Generic[P]):
    """A NumPy definition with its shape rule, legal cases, an optional kernel and, set by `@op.vjp`, its derivative.

    Arguments annotated with a Domain are data (tensors, arrays, Python numbers); all others are parameters.
    Calling an op runs it on tensors; `compute` runs it on arrays.
    """

    def __init__(
        self,
        definition: Callable[P, Any],
        *,
        cases: list[Case],
        shape: Callable[..., Any],
        kernel: Callable[..., bool] | None,
        gradient: bool,
        elementwise: bool,
        inplace: bool = False,
    ) -> None:
        signature = inspect.signature(definition)
        hints = typing.get_type_hints(definition, include_extras=True)
        if bare := [name for name in signature.parameters if name not in hints]:
            what = f"op {definition.__name__!r}: an argument has no annotation"
            raise DTypeError(what, {"argument": bare[0]}, hint="data is Real, Positive, ...; a parameter has its type")
        domains = {name: typing.get_args(hints[name])[1:] for name in signature.parameters}
        self.domains = {name: extra[0] for name, extra in domains.items() if extra and isinstance(extra[0], Domain)}
        self.input_names = tuple(self.domains)
        if not self.input_names:
            what = f"op {definition.__name__!r}: no argument is data"
            raise DTypeError(what, hint="annotate what may want a gradient: Real, Positive, ...")
        rest = {name: p for name, p in signature.parameters.items() if name not in self.domains}
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values())
        self.optional = {n for n in self.input_names if signature.parameters[n].default is None}
        self.defaults = {name: p.default for name, p in rest.items() if p.default is not p.empty}
        self.param_names, self.param_set = tuple(rest), frozenset(rest)
        self.count = -1 if self.variadic else len(self.input_names)
        self.enough = self.count if len(self.defaults) == len(rest) else -1
        self.integers = [(i, n) for i, n in enumerate(self.input_names) if self.domains[n].kind == "integer"]
        self.places = frozenset(i for i, _ in self.integers)
        self.name = self.__name__ = definition.__name__
        self.__doc__, self.__module__ = definition.__doc__, definition.__module__
        self.__signature__, self.__wrapped__ = signature, definition
        self.definition = np.errstate(all="ignore")(definition)
        self.several = typing.get_origin(hints.get("return")) is tuple
        self.cases, self.shape, self.kernel = cases, shape, kernel
        self.gradient, self.elementwise, self.inplace = gradient, elementwise, inplace
        self.pull: Callable[..., Any] | None = None
        self.keeps_result = self.asks = False

    def __repr__(self) -> str:
        shown = [
            f"*{n}" if p.kind is p.VAR_POSITIONAL else n if p.default is p.empty else f"{n}={p.default!r}"
            for n, p in self.__signature__.parameters.items()
        ]
        return f"{self.name}({', '.join(shown)})"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        """Run the op on tensors, arrays and Python numbers; record it where a gradient is wanted."""
        run = slot.over.get() or slot.eager
        if not kwargs and len(args) == self.enough:
            return run(self, args, self.defaults, None)
        inputs, params = self._bind(args, kwargs)
        return run(self, inputs, params, None)

    def into(self, targets: tuple[Any, ...], *args: P.args, **kwargs: P.kwargs) -> None:
        """Write the results into the arrays of `targets`: the one door for writes, which raises their version."""
        inputs, params = self._bind(args, kwargs)
        (slot.over.get() or slot.eager)(self, inputs, params, targets)

    def vjp(self, rule: V) -> V:
        """Declare how cotangents flow: `rule(ct, y, *inputs, **params)` gives one cotangent per input.

        Each is a Tensor expression, None for no gradient, or a function that the engine calls only when someone wants
        the result. With several outputs `ct` and `y` are tuples. A rule that calls its result `_` does not need it,
        so the engine does not keep it. A rule that takes `asked` is told, input by input, what someone wants.
        """
        names = list(inspect.signature(rule).parameters)
        self.pull = rule
        self.keeps_result, self.asks = names[1] != "_", "asked" in names
        return rule

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Sort arguments into data and parameters."""
        if len(args) == self.count and kwargs.keys() <= self.param_set:
            params = self.defaults | kwargs if kwargs else self.defaults
            if len(params) == len(self.param_names):
                return args, params
        if self.variadic:
            if len(args) < len(self.input_names) - 1:
                missing = self.input_names[len(args)]
                raise DTypeError(f"{self.name}: argument {missing!r} is missing", hint=f"call {self!r}")
            return args, self._params(kwargs)
        if len(args) > self.count + len(self.param_names):
            raise DTypeError(f"{self.name}: too many arguments", {"given": len(args)}, hint=f"call {self!r}")
        named = dict(zip(self.input_names + self.param_names, args, strict=False))
        if twice := named.keys() & kwargs.keys():
            raise DTypeError(f"{self.name}: {min(twice)!r} is given twice", hint=f"call {self!r}")
        named |= kwargs
        for n in self.input_names:
            if n not in named and n not in self.optional:
                raise DTypeError(f"{self.name}: argument {n!r} is missing", hint=f"call {self!r}")
        inputs = tuple(named.pop(n, None) for n in self.input_names)
        return inputs, self._params(named)

    def _params(self, given: dict[str, Any]) -> dict[str, Any]:
        params = self.defaults | given
        if params.keys() != self.param_set:
            unknown, missing = params.keys() - self.param_set, self.param_set - params.keys()
            facts = {"unknown": ", ".join(sorted(unknown)), "missing": ", ".join(sorted(missing))}
            raise DTypeError(
                f"{self.name}: wrong arguments", {k: v for k, v in facts.items() if v}, hint=f"call {self!r}"
            )
        return params

    def result_shape(self, shapes: list[Any], params: dict[str, Any]) -> Any:
        """Result shape by the rule (a tuple of shapes for several outputs), or a ShapeError with all the facts."""
        try:
            return self.shape(*shapes, **params)
        except Misfit as misfit:
            raise self._shape_error(misfit, shapes, params) from None

    def _shape_error(self, misfit: Misfit, shapes: list[Any], params: dict[str, Any]) -> ShapeError:
        names = [self.input_names[min(i, len(self.input_names) - 1)] for i in range(len(shapes))]
        if self.variadic:
            first = len(self.input_names) - 1
            names = [n if i < first else f"{n}[{i - first}]" for i, n in enumerate(names)]
        facts: dict[str, object] = {n: list(s) for n, s in zip(names, shapes, strict=True) if s is not None}
        facts |= {n: repr(params[n]) for n in self.param_names if n in ("axis", "axes", "shape")}
        return ShapeError(f"{self.name}: {misfit.what}", facts, hint=misfit.hint)

    def compute(self, arrays: list[Any], params: dict[str, Any]) -> Any:
        """Run on arrays (Python numbers and None allowed): by the kernel where there is one that takes the call."""
        if self.integers:
            self._check_integers(arrays)
        if self.kernel is None and self.elementwise:
            try:
                return self._defined(arrays, params)
            except ValueError:
                self.result_shape([np.shape(a) for a in arrays], params)
                raise
        shapes, dtype, numbers = _facts(arrays)
        if self.places:
            _, dtype, numbers = _facts([a for i, a in enumerate(arrays) if i not in self.places])
        try:
            shape = self.shape(*shapes, **params)
        except Misfit as misfit:
            raise self._shape_error(misfit, shapes, params) from None
        if dtype is not None and self.kernel is not None and kernels_are_on():
            given = _without_numbers(arrays, dtype) if numbers else arrays
            if self.several:
                results = tuple([np.empty(s, dtype) for s in shape])
                if self.kernel(*results, *given, **params):
                    return results
            else:
                result = np.empty(shape, dtype)
                if self.kernel(result, *given, **params):
                    return result
        return self._defined(arrays, params)

    def _defined(self, arrays: list[Any], params: dict[str, Any]) -> Any:
        """What the definition gives; float32 where NumPy has float16, which no tensor has, for functions of bytes."""
        found = self.definition(*arrays, **params)
        if type(found) is not tuple and found.dtype.char == "e":
            wide: list[Any] = [None if a is None else np.asarray(a, np.float32) for a in arrays]
            return self.definition(*wide, **params)
        return found

    def compute_into(self, targets: list[Any], arrays: list[Any], params: dict[str, Any]) -> bool:
        """Let the kernel write straight into `targets`, where it can; they may be inputs of the same call."""
        return bool(self.inplace and self.kernel and kernels_are_on() and self.kernel(*targets, *arrays, **params))

    def check_given(self, inputs: tuple[Any, ...]) -> None:
        """Raise DTypeError where None stands for data that the op cannot do without."""
        for i, x in enumerate(inputs):
            name = self.input_names[min(i, len(self.input_names) - 1)]
            if x is None and name not in self.optional:
                raise DTypeError(f"{self.name}: {name} must be a tensor, array or number", {"given": None})

    def _check_integers(self, arrays: list[Any]) -> None:
        for i, name in self.integers:
            for one in arrays[i:] if self.variadic else arrays[i : i + 1]:
                dtype = one.dtype if isinstance(one, np.ndarray) else np.asarray(one).dtype
                if dtype.kind not in "iu":
                    raise DTypeError(f"{self.name}: {name} must hold integers", {"dtype": dtype})


def _facts(arrays: list[Any]) -> tuple[list[Any], np.dtype[Any] | None, bool]:
    """Shapes, the one float dtype of all arrays or None, and whether numbers stand by: kernels take nothing else."""
    shapes: list[Any] = []
    dtype, fits, numbers = None, True, False
    for a in arrays:
        if type(a) is np.ndarray:
            shapes.append(a.shape)
            if a.dtype is not dtype:
                fits = fits and (dtype is None or a.dtype == dtype) and a.dtype.char in "fd"
                dtype = a.dtype
        elif a is None:
            shapes.append(None)
        else:
            shapes.append(np.shape(a))
            numbers = True
            fits = fits and type(a) in NUMBERS
    return shapes, dtype if fits else None, numbers


def _without_numbers(arrays: list[Any], dtype: np.dtype[Any]) -> list[Any]:
    """Python numbers as arrays of the dtype that they take beside the others."""
    return [np.asarray(a, dtype) if type(a) in NUMBERS else a for a in arrays]


def op(
    *,
    cases: list[Case],
    shape: Callable[..., Any],
    kernel: Callable[..., bool] | None = None,
    gradient: bool = True,
    elementwise: bool = False,
    inplace: bool = False,
) -> Callable[[Callable[P, Any]], Op[P]]:
    """Declare an op: the decorated function is its NumPy definition.

    `cases` are legal calls; `shape` maps input shapes and params to the result's shape; `kernel(*results, *inputs,
    **params)` fills its first arguments and says whether it took the call; `gradient=False` is an op whose result is
    data; `elementwise` says that NumPy itself checks shapes by broadcasting; `inplace` that the kernel may be given
    inputs as results, each number of which it reads before it writes it, and checks itself all that it is given.
    A name is that of one op: the last one that its module declared, as when a cell of a notebook runs again.
    """

    def declare(definition: Callable[P, Any]) -> Op[P]:
        flags = {"gradient": gradient, "elementwise": elementwise, "inplace": inplace}
        new = Op(definition, cases=cases, shape=shape, kernel=kernel, **flags)
        old = OPS.get(new.name)
        if old is not None and (old.__module__ != new.__module__ or new.__module__.startswith(f"{__package__}.")):
            facts = {"first": old.__module__, "then": new.__module__}
            raise DTypeError(f"op {new.name!r} is declared twice", facts, hint="take another name")
        OPS[new.name] = new
        return new

    return declare
