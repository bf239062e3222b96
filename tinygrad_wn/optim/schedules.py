"""Learning rates that change from step to step. Each is a formula of the first rate and the number of steps taken."""

from __future__ import annotations

import inspect
import math
from abc import ABCMeta, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DTypeError, StateError, ValueRangeError
from ..slot import after_step
from .optimizer import Optimizer, in_range

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..domains import Array


class _Begun(ABCMeta):
    """Sets the rates once a schedule is made, when its class has all that its formula asks for."""

    @property
    def __signature__(cls) -> inspect.Signature:
        found = inspect.signature(cls.__init__)  # type: ignore[misc]
        return found.replace(parameters=[*found.parameters.values()][1:])

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        schedule = super().__call__(*args, **kwargs)
        schedule._set()
        return schedule


class Schedule(metaclass=_Begun):
    """Base class: `step()`, called after each step (or epoch) of the optimizer, sets the rate of every group.

    The first rates are those of the groups when the schedule is made. `count` is the number of steps taken. A subclass
    is a formula of both, which is asked when a schedule is made, too, with a count of 0.

    >>> class Halving(tg.optim.Schedule):
    ...     def rate(self, first):
    ...         return first / 2**self.count
    >>> optimizer = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=8.0)
    >>> schedule = Halving(optimizer)
    >>> for _ in range(3): schedule.step()
    >>> optimizer.param_groups[0]["lr"]
    1.0
    """

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise DTypeError(f"{type(self).__name__}: not an optimizer", {"given": repr(optimizer)})
        self.optimizer = optimizer
        self.first = [float(group["lr"]) for group in optimizer.param_groups]
        self.count = 0

    @abstractmethod
    def rate(self, first: float) -> float:
        """The rate after `count` steps of a group whose rate was `first`."""

    def step(self) -> None:
        """Count a step, and set the rates; in a compiled step, after each run."""
        after_step(self._advance, self.optimizer)

    def _advance(self) -> None:
        self.count += 1
        self._set()

    def _set(self) -> None:
        for group, first in zip(self.optimizer.param_groups, self.first, strict=False):
            group["lr"] = self.rate(first)

    def state_dict(self) -> dict[str, Array]:
        """The number of steps taken and the first rates, as arrays for `tg.save`; not the options of the schedule."""
        return {"count": np.array(self.count), "first": np.array(self.first, np.float64)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken: the count, the first rates, and with them the rates of all groups.

        Raises StateError, and changes nothing, unless there is a count of at least 0 and a rate for each group.

        >>> def halving():
        ...     optimizer = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=8.0)
        ...     return optimizer, tg.optim.Step(optimizer, every=1, factor=0.5)
        >>> (_, old), (optimizer, new) = halving(), halving()
        >>> old.step()
        >>> new.load_state_dict(old.state_dict())
        >>> new.step()
        >>> optimizer.param_groups[0]["lr"]
        2.0
        """
        given = {name: np.asarray(value) for name, value in state.items()}
        count, first = (given.get(name, np.array("missing")) for name in ("count", "first"))
        whole = count.shape == () and count.dtype.kind in "iu" and count >= 0
        if given.keys() != {"count", "first"} or not whole or first.shape != (len(self.first),) or first.dtype != float:
            facts = {name: f"{x.dtype} {list(x.shape)}" for name, x in given.items()} | {"groups": len(self.first)}
            hint = "load what state_dict() of a schedule gave, for an optimizer with the same groups"
            raise StateError(f"{type(self).__name__}: the state does not fit the schedule", facts, hint=hint)
        self.count, self.first = int(count), first.tolist()
        self._set()


class Constant(Schedule):
    """The first rate, always.

    >>> optimizer = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=0.5)
    >>> schedule = tg.optim.Constant(optimizer)
    >>> for _ in range(3): schedule.step()
    >>> optimizer.param_groups[0]["lr"]
    0.5
    """

    def rate(self, first: float) -> float:
        """The first rate."""
        return first


class Step(Schedule):
    """The rate times `factor` after every `every` steps.

    Raises ValueRangeError unless `every` is an integer of at least 1 and `factor` is finite and not negative.

    >>> optimizer = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=8.0)
    >>> schedule = tg.optim.Step(optimizer, every=2, factor=0.5)
    >>> for _ in range(4): schedule.step()
    >>> optimizer.param_groups[0]["lr"]
    2.0
    """

    def __init__(self, optimizer: Optimizer, every: int, factor: float) -> None:
        super().__init__(optimizer)
        _check_count("Step: every", every)
        in_range("Step: factor", factor)
        self.every, self.factor = every, factor

    def rate(self, first: float) -> float:
        """The first rate times a power of the factor."""
        return first * self.factor ** (self.count // self.every)


class Linear(Schedule):
    """A straight line from the first rate to `final` in `steps` steps, then `final`.

    Raises ValueRangeError unless `steps` is an integer of at least 1 and `final` is finite and not negative.

    >>> optimizer = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=4.0)
    >>> schedule = tg.optim.Linear(optimizer, steps=4, final=2.0)
    >>> for _ in range(3): schedule.step()
    >>> optimizer.param_groups[0]["lr"]
    2.5
    """

    def __init__(self, optimizer: Optimizer, steps: int, final: float = 0.0) -> None:
        super().__init__(optimizer)
        _check_count(f"{type(self).__name__}: steps", steps)
        in_range(f"{type(self).__name__}: final", final)
        self.steps, self.final = steps, float(final)

    def way(self, share: float) -> float:
        """How far the rate has gone from the first to the final one after this share of the steps."""
        return share

    def rate(self, first: float) -> float:
        """A mean of the first rate and the final one."""
        way = self.way(min(self.count / self.steps, 1.0))
        return first * (1 - way) + self.final * way


class Cosine(Linear):
    """Half a cosine wave from the first rate to `final` in `steps` steps, then `final` (arXiv 1608.03983, equation 5).

    Errors as for Linear.

    >>> optimizer = tg.optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=4.0)
    >>> schedule = tg.optim.Cosine(optimizer, steps=4)
    >>> for _ in range(3): schedule.step()
    >>> optimizer.param_groups[0]["lr"]
    0.58579
    """

    def way(self, share: float) -> float:
        """Slow at both ends."""
        return (1 - math.cos(math.pi * share)) / 2


def _check_count(what: str, value: object) -> None:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise ValueRangeError(f"{what} must be an integer of at least 1", {"given": repr(value)})
