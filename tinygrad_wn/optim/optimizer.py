"""Optimizer: parameters in groups, checks before the first write, and update rules that are ops."""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from ..creation import tensor
from ..errors import DTypeError, GradientError, ShapeError, StateError, ValueRangeError
from ..slot import (
    changed,
    comes_first,
    depends_on,
    gradients_are_cleared,
    has_no_gradient,
    is_recorded,
    once,
    replaced,
    takes_gradient,
)
from ..tensor import Tensor, leaves_step
from .telling import Group, Telling

if TYPE_CHECKING:
    from ..domains import Array


Work: TypeAlias = tuple[Tensor, Tensor, dict[str, Any]]
"""A parameter, its gradient, and its state."""

PACKAGE = __name__.split(".")[0]
STEADY = (float, int, bool, tuple)
"""Types of options that cannot change while they stay the same object."""


class Watcher(Protocol):
    """Whoever wants to know of each step of an optimizer."""

    def before_step(self) -> None:
        """Called when all is checked, and nothing is changed yet."""

    def after_step(self) -> None:
        """Called when all is updated."""


class Optimizer(ABC):
    """Base class: parameters in groups with options of their own, and a state for each parameter.

    `param_groups` is a list of dicts with the key "params" and the options, which may be changed between steps, as in
    PyTorch. A subclass says how one parameter is updated.

    >>> class SignDescent(tg.optim.Optimizer):
    ...     def begin(self, p):
    ...         return {}
    ...     def update(self, p, g, state, group):
    ...         p.data = p - group["lr"] * tg.sign(g)
    >>> x = tg.tensor([3.0, -1.0], requires_grad=True)
    >>> tg.sum(x * x).backward()
    >>> SignDescent([x], {"lr": 0.5}).step()
    >>> x.detach()
    Tensor([ 2.5, -0.5])
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        """Take tensors, or groups {"params": tensors, option: value, …}; what a group leaves out is in `defaults`."""
        self.defaults = defaults
        self.param_groups: list[Group] = []
        self.state: list[dict[str, Any]] = []
        self._checked: dict[int, list[Any]] = {}
        self.watchers: list[Watcher] = []
        self._last_rate: Any = None
        self._changes = 0
        newest: Any = next(c for c in type(self).__mro__ if vars(c).keys() & {"update", "update_all"})
        self._own_code = any(kind.__module__.split(".")[0] != PACKAGE for kind in type(self).__mro__[:-2])
        self._rule: Any = newest.update_all if "update_all" in vars(newest) else Optimizer.update_all
        given: Any = params if isinstance(params, Tensor) or not isinstance(params, Iterable) else list(params)
        grouped = isinstance(given, list) and given and all(isinstance(one, Mapping) for one in given)
        for group in given if grouped else [{"params": given}]:
            self.add_param_group(group)
        leaves_step(
            self.param_groups[0]["params"][0], "making an optimizer", "make it outside, so that its state lasts"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; compiled steps are told of new groups and of a new state."""
        told = name in ("param_groups", "state")
        object.__setattr__(self, name, Telling(value) if told else value)
        if told:
            changed()

    @abstractmethod
    def begin(self, p: Tensor) -> dict[str, Any]:
        """The state of `p` before its first step, by name: tensors, arrays and counts."""

    def begun(self, p: Tensor, state: dict[str, Any]) -> None:
        """Fill the empty state of `p`."""
        state.update(once(lambda: self.begin(p)))

    @abstractmethod
    def update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: Mapping[str, Any]) -> None:
        """Write the next value of `p` and of its `state` for the gradient `g`."""

    def update_all(self, work: list[Work], group: Mapping[str, Any]) -> None:
        """Update parameters of one group and one dtype, given as (p, g, state).

        Here one by one, as it is done in every class that inherits a rule for all and has a rule of its own for one.
        """
        for p, g, state in work:
            if not state:
                self.begun(p, state)
            self.update(p, g, state, group)

    def check(self, group: Mapping[str, Any]) -> None:
        """Raise ValueRangeError for an option of `group` that is out of its range."""
        for name in ("lr", "momentum", "eps", "weight_decay"):
            if name in group:
                in_range(f"{type(self).__name__}: {name}", group[name])

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add parameters with options of their own: {"params": tensors, "lr": 0.1}.

        Raises DTypeError for what is not a tensor, GradientError for computed tensors, ValueRangeError for options out
        of range or unknown, for no parameters, and for one that is given twice.
        """
        name = type(self).__name__
        if "params" not in group or group.keys() - self.defaults.keys() - {"params"}:
            facts = {"given": ", ".join(map(str, group)), "known": ", ".join(["params", *self.defaults])}
            raise ValueRangeError(f"{name}: a group needs params, and no options that {name} does not have", facts)
        known = {id(p) for one in self.param_groups for p in one["params"]}
        new = listed(group["params"], name, known)
        merged = Group({**self.defaults, **group, "params": Telling(new)})
        self.check(merged)
        self.param_groups.append(merged)
        self.state += [Group() for _ in new]
        self._changes += 1
        changed()

    def rate(self, group: Mapping[str, Any]) -> float:
        """The learning rate of a group, checked where it is not the one that was last."""
        lr = group["lr"]
        if lr is not self._last_rate:
            in_range(f"{type(self).__name__}: lr", lr)
            self._last_rate = lr
        return float(lr)

    def step(self) -> None:
        """Update every parameter that has a gradient; one whose `.grad` is None stays as it is.

        Raises, before anything is written, DTypeError or ShapeError for a gradient that does not fit, ValueRangeError
        for an option that is out of range, and StateError where a group was given other parameters by hand.
        """
        comes_first(self)
        depends_on(self._known)
        if self._own_code:
            depends_on(self._options)
        if sum(len(group["params"]) for group in self.param_groups) != len(self.state):
            what = f"{type(self).__name__}.step: there is not a state for each parameter"
            facts = {"parameters": [len(group["params"]) for group in self.param_groups], "states": len(self.state)}
            raise StateError(what, facts, hint="add parameters with add_param_group")
        states = iter(self.state)
        found = [self._work(i, group, states) for i, group in enumerate(self.param_groups)]
        for one in self.watchers:
            one.before_step()
        for group, works in zip(self.param_groups, found, strict=True):
            for work in works:
                numbers = [_numbers(state) for _, _, state in work] if self._own_code else []
                self._rule(self, work, group)
                for (p, _, state), before in zip(work, numbers, strict=False):
                    if _numbers(state) != before:
                        leaves_step(p, "counting in a Python number of an optimizer's state")
        for one in self.watchers:
            one.after_step()

    def _known(self) -> list[int]:
        """What a compiled step takes for granted: the same groups, parameters and states, the same watchers."""
        groups = self.param_groups
        parameters = (id(p) for group in groups for p in group["params"])
        states = (id(x) for state in self.state for x in (state, *state.values()))
        return [self._changes, *states, *map(id, groups), *parameters]

    def _options(self) -> list[Any]:
        """What a rule of the user may compute with in Python."""
        values = [x for group in self.param_groups for name, x in group.items() if name != "params"]
        return [x if isinstance(x, STEADY) else list(x) if isinstance(x, list) else id(x) for x in values]

    def watch(self, watcher: Watcher, *, on: bool = True) -> None:
        """Call `watcher.before_step()` and `watcher.after_step()` in each step from now on, or no more if not `on`.

        Compiled steps are recorded anew. What a watcher does there has to be op calls, as in the rest of the step.
        """
        self.watchers = [one for one in self.watchers if one is not watcher] + [watcher] * on
        self._changes += 1
        changed()

    def _work(self, i: int, group: dict[str, Any], states: Iterator[dict[str, Any]]) -> Iterable[list[Work]]:
        """Check the options and gradients of group i; list its parameters that have a gradient, by dtype."""
        options, known = list(group.values()), self._checked.get(i, ())
        if len(options) != len(known) or not all(map(operator.is_, options, known)):
            self.check(group)
            steady = all(type(x) in STEADY for name, x in group.items() if name != "params")
            self._checked[i] = options if steady else []
        works: dict[str, list[Work]] = {}
        last, recorded = None, is_recorded()
        for j, (p, state) in enumerate(zip(group["params"], states, strict=False)):
            g = p.grad
            if g is None:
                if id(p) in replaced:
                    what = f"{type(self).__name__}.step: parameter {j} of group {i} is in no layer any more"
                    hint = "make the optimizer after nn.weight_norm, or nn.fold_weight_norm, has replaced it"
                    raise StateError(what, {"tensor": f"{p.dtype} {list(p.shape)}"}, hint=hint)
                has_no_gradient(p)
                continue
            if type(g) is not Tensor or g._data.dtype is not (dtype := p._data.dtype) or g._data.shape != p._data.shape:
                check_gradient(f"{type(self).__name__}.step: parameter {j} of group {i}", p, g)
                dtype = p._data.dtype
            if recorded:
                takes_gradient(g)
            if dtype is not last:
                last, work = dtype, works.setdefault(dtype.char, [])
            work.append((p, g, state))
        return works.values()

    def zero_grad(self) -> None:
        """Set `.grad` of every parameter to None."""
        gradients_are_cleared()
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def state_dict(self) -> dict[str, Array]:
        """Options and state as arrays under names such as "group.0.lr" and "state.3.momentum", for `tg.save`."""
        found = {
            f"group.{i}.{name}": value
            for i, group in enumerate(self.param_groups)
            for name, value in group.items()
            if name != "params"
        }
        found |= {f"state.{i}.{name}": value for i, state in enumerate(self.state) for name, value in state.items()}
        return {name: np.array(x.numpy() if isinstance(x, Tensor) else x) for name, x in found.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave, for the same parameters in the same groups.

        Raises StateError, and changes nothing, for names, shapes or dtypes that do not fit, and ValueRangeError for
        options out of range.

        >>> w = tg.tensor([1.0], requires_grad=True)
        >>> old, new = (tg.optim.SGD([w], lr=rate) for rate in (0.1, 0.2))
        >>> new.load_state_dict(old.state_dict())
        >>> new.param_groups[0]["lr"]
        0.1
        """
        rest = {name: np.asarray(value) for name, value in state.items()}
        problems: dict[str, object] = {}

        def taken(prefix: str, like: Mapping[str, Any]) -> dict[str, Any]:
            found: dict[str, Any] = {}
            for name, own in like.items():
                given = rest.pop(f"{prefix}.{name}", None)
                wanted = np.asarray(own.numpy() if isinstance(own, Tensor) else own)
                if given is None:
                    problems[f"{prefix}.{name}"] = "missing in the state"
                elif given.shape != wanted.shape or (isinstance(own, Tensor) and given.dtype != wanted.dtype):
                    ours, theirs = (f"{x.dtype} {list(x.shape)}" for x in (wanted, given))
                    problems[f"{prefix}.{name}"] = f"optimizer {ours}, state {theirs}"
                else:
                    found[name] = _like(own, given)
            return found

        groups = [
            taken(f"group.{i}", {name: x for name, x in group.items() if name != "params"})
            for i, group in enumerate(self.param_groups)
        ]
        params = [p for group in self.param_groups for p in group["params"]]
        begun = {name.split(".")[1] for name in rest if name.startswith("state.")}
        states = [taken(f"state.{i}", self.begin(p)) if str(i) in begun else {} for i, p in enumerate(params)]
        problems |= dict.fromkeys(rest, "not in the optimizer")
        if problems:
            hint = "make the optimizer as the one that was saved"
            raise StateError(f"{type(self).__name__}: the state does not fit the optimizer", problems, hint=hint)
        for options in groups:
            self.check(options)
        for group, options in zip(self.param_groups, groups, strict=True):
            group.update(options)
        self._changes += any(own.keys() != new.keys() for own, new in zip(self.state, states, strict=True))
        for own, new in zip(self.state, states, strict=True):
            _take_over(own, new)


def _numbers(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: x for name, x in state.items() if isinstance(x, int | float)}


def _like(own: Any, given: Array) -> Any:
    """What was kept as an array, as what stands in its place: a tensor, an array, a number or a tuple."""
    if isinstance(own, Tensor):
        return tensor(given)
    if isinstance(own, np.ndarray):
        return np.array(given, own.dtype)
    return given.item() if given.ndim == 0 else tuple(given.tolist())


def _take_over(own: dict[str, Any], new: dict[str, Any]) -> None:
    """Give a state new values, in the memory of its tensors where it has them: a compiled step knows where they lie."""
    for name, value in new.items():
        if isinstance(value, Tensor) and name in own:
            own[name].data = value
        else:
            own[name] = value
    for name in own.keys() - new.keys():
        del own[name]
    changed()


def listed(params: Any, name: str, known: Iterable[int] = ()) -> list[Tensor]:
    """The tensors of `params`, checked: at least one, none computed, none twice or among the ids of `known`."""
    if not isinstance(params, Iterable):
        raise DTypeError(f"{name}: params must be tensors", {"given": repr(params)}, hint="give model.parameters()")
    found = [params] if isinstance(params, Tensor) else list(params)
    if not found:
        hint = "a parameter is a tensor with requires_grad=True in an attribute; a generator is empty once it was used"
        raise ValueRangeError(f"{name}: there are no parameters", hint=hint)
    seen = set(known)
    for i, p in enumerate(found):
        if not isinstance(p, Tensor):
            hint = "give model.parameters(), or dicts with the key params"
            raise DTypeError(f"{name}: parameter {i} is not a tensor", {"given": repr(p)}, hint=hint)
        facts = {"tensor": f"{p.dtype} {list(p.shape)}"}
        if p._node is not None:
            hint = "give the tensors that it is computed from"
            raise GradientError(f"{name}: parameter {i} is computed from other tensors", facts, hint=hint)
        if id(p) in seen:
            raise ValueRangeError(f"{name}: parameter {i} is given twice", facts, hint="give each parameter once")
        seen.add(id(p))
    return found


def check_gradient(where: str, p: Tensor, g: object) -> None:
    """Raise DTypeError or ShapeError unless `g` can be the gradient of `p`."""
    if not isinstance(g, Tensor):
        raise DTypeError(f"{where}: grad is not a tensor", {"grad": repr(g)}, hint="p.grad = tg.tensor(array)")
    if g.shape != p.shape or g.dtype != p.dtype:
        kind = ShapeError if g.shape != p.shape else DTypeError
        parts = {"parameter": p, "grad": g}
        raise kind(f"{where}: grad does not fit", {name: f"{t.dtype} {list(t.shape)}" for name, t in parts.items()})


def in_range(what: str, value: Any, below: float = math.inf) -> None:
    """Raise ValueRangeError unless 0 <= value < below."""
    if not isinstance(value, int | float | np.integer | np.floating) or not 0 <= value < below:
        limit = "" if below == math.inf else f" and below {below}"
        raise ValueRangeError(f"{what} must be a finite number of at least 0{limit}", {"given": repr(value)})
