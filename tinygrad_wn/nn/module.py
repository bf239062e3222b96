"""Module: the base class of layers and networks. State is found by looking at attributes; nothing is registered."""

from __future__ import annotations

import math
import textwrap
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np

from ..errors import DTypeError, StateError, ZeroNormError
from ..slot import changed, depends_on_attributes, gradients_are_cleared, replaced, slot
from ..tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ..domains import Array

    Part: TypeAlias = "Module | Tensor"


class Module:
    """A computation with state. Subclass it, set tensors and other modules as attributes, and define `forward`.

    State is every tensor among the attributes, also inside lists, tuples, dicts and other modules; it is named by the
    way to it, such as "0.weight.v". Those that require a gradient are the parameters. What is reached by several ways
    counts once, under the first name.

    >>> class Scale(tg.nn.Module):
    ...     def __init__(self):
    ...         self.factor = tg.tensor([2.0, 3.0], requires_grad=True)
    ...     def forward(self, x):
    ...         return self.factor * x
    >>> scale = Scale()
    >>> scale(tg.tensor([1.0, 1.0])).detach(), scale.named_parameters()
    (Tensor([2., 3.]), [('factor', Tensor([2., 3.], requires_grad=True))])
    """

    training = True
    """Whether layers that act on training data alone, such as Dropout, are active; set by `train` and `eval`."""

    has_weights = True
    """Whether `nn.weight_norm` may put a WeightNorm in the place of a tensor of the module."""

    def forward(self, *_args: Any, **_kwargs: Any) -> Any:
        """Compute the result; to be defined by each module, and called by calling the module."""
        what = f"{type(self).__name__} has no forward"
        raise DTypeError(what, hint="define forward(self, x) in the class: it is what calling the module does")

    tells_changes = True
    """Compiled steps need not look at its attributes in each call: `changed` says when one is set."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call `forward`. A compiled step holds as long as the attributes of the modules that it called stay."""
        if slot.over.get() is not None:
            depends_on_attributes(self)
        try:
            return self.forward(*args, **kwargs)
        except ZeroNormError as error:  # the outermost module knows the whole path
            self.locate(error)
            raise

    def locate(self, error: ZeroNormError) -> None:
        """Say in the error which layer of this module it is about, if one of them has this v."""
        error.locate((name, part._data) for name, part in _parts(self) if isinstance(part, Tensor))

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute."""
        object.__setattr__(self, name, value)
        for one in (value,) if isinstance(value, Tensor) else value.parameters() if isinstance(value, Module) else ():
            replaced.pop(id(one), None)
        changed()

    def __delattr__(self, name: str) -> None:
        """Delete an attribute."""
        object.__delattr__(self, name)
        changed()

    def entries(self) -> Iterable[tuple[object, object]]:
        """Names and values among which state is looked for: the attributes, unless a subclass says otherwise."""
        return vars(self).items()

    def options(self) -> dict[str, Any]:
        """Arguments that make a module of this kind again, as `repr` shows them and `tg.save` writes them."""
        return {}

    def named_modules(self) -> list[tuple[str, Module]]:
        """This module under the name "", then every module below by name, each once.

        >>> [name for name, _ in tg.nn.Sequential(tg.nn.Sequential(tg.nn.ReLU()), tg.nn.Tanh()).named_modules()]
        ['', '0', '0.0', '1']
        """
        return [(name, part) for name, part in _parts(self) if isinstance(part, Module)]

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        """Every tensor of the state that requires a gradient, by name, each once."""
        return [(name, tensor) for name, tensor in state_of(self).items() if tensor.requires_grad]

    def parameters(self) -> list[Tensor]:
        """Every tensor of the state that requires a gradient, each once: what an optimizer is given.

        >>> sum(p.size for p in tg.nn.Linear(3, 2).parameters())
        8
        """
        return [tensor for _, tensor in self.named_parameters()]

    def state_dict(self) -> dict[str, Array]:
        """Copies of all state as arrays, by name.

        >>> list(tg.nn.weight_norm(tg.nn.Sequential(tg.nn.Linear(3, 2))).state_dict())
        ['0.weight.v', '0.weight.g', '0.bias']
        """
        return {name: tensor.numpy().copy() for name, tensor in state_of(self).items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Overwrite all state by the arrays (or tensors) of `state`, which have the same names, shapes and dtypes.

        Raises StateError, and changes nothing, when they do not: the message lists everything that does not fit.

        >>> a, b = tg.nn.Linear(3, 2), tg.nn.Linear(3, 2)
        >>> a.load_state_dict(b.state_dict())
        >>> bool(tg.all(a.weight == b.weight))
        True
        """
        own = state_of(self)
        new = {name: x.numpy() if isinstance(x, Tensor) else np.asarray(x) for name, x in state.items()}
        facts: dict[str, object] = {f"{name!r}": "missing in the state" for name in own if name not in new}
        facts |= {f"{name!r}": "not in the model" for name in new if name not in own}
        for name in own.keys() & new.keys():
            model, given = (f"{x.dtype} {list(x.shape)}" for x in (own[name], new[name]))
            if model != given:
                facts[f"{name!r}"] = f"model {model}, state {given}"
        if facts:
            hint = "make the model as the one that was saved; array.astype(...) gives another dtype"
            raise StateError("load_state_dict: the state does not fit the model", facts, hint=hint)
        for name, tensor in own.items():
            tensor.data = new[name]

    def train(self, mode: bool = True) -> Self:
        """Set `training` of this and all modules below; returns the module."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Switch to evaluation, the same as `train(False)`; returns the module.

        >>> tg.nn.Dropout(0.5).eval()(tg.ones(3))
        Tensor([1., 1., 1.])
        """
        return self.train(False)

    def zero_grad(self) -> None:
        """Set `.grad` of all parameters to None."""
        gradients_are_cleared()
        for parameter in self.parameters():
            parameter.grad = None

    @recursive_repr()
    def __repr__(self) -> str:
        """Options, and the modules inside as a tree."""
        options = ", ".join(f"{name}={value!r}" for name, value in self.options().items())
        inside = [f"({name}): {part!r}" for name, part in _inside(self) if isinstance(part, Module)]
        if not inside:
            return f"{type(self).__name__}({options})"
        lines = textwrap.indent("\n".join([options, *inside] if options else inside), "  ")
        return f"{type(self).__name__}(\n{lines}\n)"


def number(given: Any) -> float:
    """What an option says; NaN, which is in no range, where it is no number."""
    try:
        return math.nan if isinstance(given, str) else float(given)
    except (TypeError, ValueError):
        return math.nan


def _inside(module: Module) -> Iterator[tuple[str, Part]]:
    """Tensors and modules directly inside: containers are looked through, modules are not."""
    for name, value in module.entries():
        yield from _looked_through(str(name), value)


def _looked_through(name: str, value: object) -> Iterator[tuple[str, Part]]:
    if isinstance(value, Tensor | Module):
        yield name, value
    elif isinstance(value, dict | list | tuple):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _looked_through(f"{name}.{key}", inner)


def _parts(module: Module) -> Iterator[tuple[str, Part]]:
    """`module` and everything below it, each once and in order; modules may refer to each other in circles."""
    seen: set[int] = set()
    stack: list[tuple[str, Part]] = [("", module)]
    while stack:
        name, part = stack.pop()
        if id(part) not in seen:
            seen.add(id(part))
            yield name, part
            if isinstance(part, Module):
                stack += [(f"{name}.{key}" if name else key, inner) for key, inner in reversed([*_inside(part)])]


def state_of(module: Module) -> dict[str, Tensor]:
    """Every tensor of the state by name, each once."""
    state: dict[str, Tensor] = {}
    for name, part in _parts(module):
        if isinstance(part, Tensor):
            if name in state:
                raise StateError(f"{type(module).__name__}: two tensors are named {name!r}", hint="rename one of them")
            state[name] = part
    return state
