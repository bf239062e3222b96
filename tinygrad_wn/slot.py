"""The slot of the interpreter, and what is told to one that records a step: what is found anew in each run, what holds.

Without one that records, each of these functions acts at once, or does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, Self
from weakref import WeakValueDictionary

from .errors import DTypeError

if TYPE_CHECKING:
    from .op import Op


class Interpreter(Protocol):
    """Whoever carries out op calls: the eager engine, or a compiler that writes them down."""

    def __call__(
        self, op: Op[...], inputs: tuple[Any, ...], params: dict[str, Any], targets: tuple[Any, ...] | None, /
    ) -> Any:
        """Run `op`; with `targets`, write the results into these tensors."""


def _nobody(op: Op[...], *_: Any) -> Any:
    raise DTypeError(f"{op.name}: no interpreter is there", hint="import tinygrad_wn, not one of its parts alone")


class Live(float):
    """A number that is found anew before each run of a compiled step, and the place it has among them."""

    place: int

    def __new__(cls, value: float, place: int) -> Self:
        new = super().__new__(cls, value)
        new.place = place
        return new


class Slot:
    """The interpreter slot: the eager engine fills it, others lie over it for a thread or a task."""

    def __init__(self) -> None:
        self.eager: Interpreter = _nobody
        self.over: ContextVar[Interpreter | None] = ContextVar("interpreter", default=None)


slot = Slot()

differentiated: ContextVar[bool] = ContextVar("differentiated", default=False)
"""Whether a transform such as `tg.grad` calls a function to record it: what has no graph must not take its place."""


def each_step(prepare: Callable[[], tuple[float, ...]], *, steady: bool = False) -> tuple[float, ...]:
    """The numbers that `prepare` gives: now, and anew before each run where a step is being recorded.

    Those that are `steady` stay the same until somebody raises `changes`.
    """
    over: Any = slot.over.get()
    return prepare() if over is None else over.each_step(prepare, steady)


def is_recorded() -> bool:
    """Whether a step is being recorded."""
    return slot.over.get() is not None


def after_step(act: Callable[[], None], of: object) -> None:
    """Act: now, or where a step is being recorded, after it, if it is not refused, and after each run.

    It changes what is asked of `of` before each run, so that `of` must not come after it in the step.
    """
    over: Any = slot.over.get()
    if over is None:
        act()
    else:
        over.after_step(act, of)


def comes_first(one: object) -> None:
    """Where a step is being recorded, refuse what comes after something that changes it after each run."""
    over: Any = slot.over.get()
    if over is not None:
        over.comes_first(one)


def once(make: Callable[[], Any]) -> Any:
    """What `make` gives; where a step is being recorded, this is no part of it."""
    token = slot.over.set(None)
    try:
        return make()
    finally:
        slot.over.reset(token)


def lasts(values: Iterable[Any]) -> None:
    """Where a step is being recorded, say that these tensors stay when it is over, although they were made in it."""
    over: Any = slot.over.get()
    if over is not None:
        over.lasts(values)


def gradient_is_left(gradient: Any) -> None:
    """Where a step is being recorded, say that this gradient is its own."""
    over: Any = slot.over.get()
    if over is not None:
        over.gradients[id(gradient)] = gradient


def takes_gradient(gradient: Any) -> None:
    """Where a step is being recorded, refuse a gradient that it did not compute."""
    over: Any = slot.over.get()
    if over is not None and not (over.made(gradient) or id(gradient) in over.gradients or over.assigns_gradients):
        over.refuse(gradient, "a .grad from outside of the step", hint="call zero_grad() and backward() in the step")


replaced: WeakValueDictionary[int, Any] = WeakValueDictionary()
"""Parameters that were taken out of their layer, by id: an optimizer that has one of them trains nothing."""

changes = [0]
"""How often something was set that a step may depend on, an attribute or an option: while this stands still, there is
nothing to compare, and `changed` raises it."""


def changed() -> None:
    """Say that something was set that a step may depend on."""
    changes[0] += 1


def depends_on_attributes(thing: object) -> None:
    """Where a step is being recorded, say that it holds as long as `thing` keeps its attributes, the very same ones.

    Whoever sets one has to raise `changes`.
    """
    over: Any = slot.over.get()
    if over is not None:
        over.depends_on_attributes(thing)


def depends_on(fact: Callable[[], Any]) -> None:
    """Where a step is being recorded, say what it takes for granted: for as long as `fact` gives the same.

    Whoever makes it give something else has to raise `changes`.
    """
    over: Any = slot.over.get()
    if over is not None:
        over.depends_on(fact)


def gradients_are_cleared() -> None:
    """Where a step is being recorded, say that it begins its gradients anew."""
    over: Any = slot.over.get()
    if over is not None:
        over.cleared = True


def has_no_gradient(parameter: Any) -> None:
    """Where a step is being recorded, refuse a parameter that stays as it is because it is an argument of the step."""
    over: Any = slot.over.get()
    if over is not None and id(parameter) in over.originals:
        what = "a parameter of an optimizer, given as an argument,"
        over.refuse(parameter, what, hint="an argument is a tensor of its own: let the step find the parameter outside")


def room_for(count: Any, most: int, empty: Callable[[], None]) -> None:
    """Call `empty` where a tensor of one number has come to `most`: now, and before each run of a compiled step.

    The step is about to raise it by one; `empty` makes it smaller.
    """
    over: Any = slot.over.get()
    if over is not None:
        over.room_for(count, most, empty)
    if count._data >= most:
        empty()
