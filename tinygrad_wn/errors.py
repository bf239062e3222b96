"""Error classes, and the one layout of every message: what broke, the facts, what to do."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


class TinygradWNError(Exception):
    """Base of every error this package raises on purpose.

    >>> print(ShapeError("add: shapes differ", {"a": (2, 3), "b": (4,)}, hint="reshape b"))
    add: shapes differ
      a    : (2, 3)
      b    : (4,)
      hint : reshape b
    """

    def __init__(self, what: str, facts: Mapping[str, object] | None = None, *, hint: str = "") -> None:
        """Lay out `what` broke, the `facts` (a name and a value a line) and a `hint` that says what to do."""
        rows = dict(facts or {}) | ({"hint": hint} if hint else {})
        width = max(map(len, rows), default=0)
        super().__init__("\n".join([what, *(f"  {name:<{width}} : {value}" for name, value in rows.items())]))


class ShapeError(TinygradWNError, ValueError):
    """Sizes that do not fit together, or an axis that is not there."""


class DTypeError(TinygradWNError, TypeError):
    """A value of a type or dtype that cannot be used here."""


class ValueRangeError(TinygradWNError, ValueError):
    """A number outside of what is allowed, for example a class label past the last class."""


class ZeroNormError(ValueRangeError):
    """A slice of v has norm 0, so v/‖v‖ has no direction."""

    v: Any = None
    """The array, and what the message is made of."""
    parts: tuple[str, dict[str, object], str] = ("", {}, "")

    def locate(self, named: Iterable[tuple[str, Any]]) -> None:
        """Say which layer v belongs to, if it is one of these arrays, named by the way to them ("0.weight.v")."""
        what, facts, hint = self.parts
        for name, array in named:
            above, _, last = name.rpartition(".")
            layer = above if last == "v" else name
            if layer and self.v is not None and _place(array) == _place(self.v):
                self.args = ZeroNormError(what, {"layer": layer, **facts}, hint=hint).args


def _place(array: Any) -> tuple[int, tuple[int, ...]]:
    return array.__array_interface__["data"][0], array.shape


class GradientError(TinygradWNError, RuntimeError):
    """A gradient was asked for that does not exist, or that would be wrong."""


class CompileError(TinygradWNError, RuntimeError):
    """Something in a step that a compiled one cannot keep, such as a value that is read into Python."""


class StateError(TinygradWNError, ValueError):
    """A state or a file that does not fit the model, is damaged, or is of another kind."""


class LibraryMissingError(TinygradWNError, ImportError):
    """A library that is needed here is not installed."""


def zero_norm(name: str, v: Any, zero: Any) -> ZeroNormError:
    """The error for slices of v whose norm is 0; `zero` marks them, with size 1 on the axes of a slice.

    >>> print(zero_norm("weight_norm", np.zeros((2, 3)), np.array([[False], [True]])))
    weight_norm: a slice of v has norm 0, so it has no direction
      v      : float64 [2, 3]
      slices : [1, :]
      hint   : draw v at random, leave this slice out, or pass zero="zero" (w is 0 there) or zero="nan"
    """
    places = np.argwhere(np.asarray(zero))
    names = [
        "["
        + ", ".join(
            ":" if n == 1 and full != 1 else str(i) for i, n, full in zip(p, np.shape(zero), v.shape, strict=True)
        )
        + "]"
        for p in places[:4]
    ]
    more = f" and {len(places) - 4} more" if len(places) > 4 else ""
    what = f"{name}: a slice of v has norm 0, so it has no direction"
    facts: dict[str, object] = {"v": f"{v.dtype} {list(v.shape)}", "slices": ", ".join(names) + more}
    hint = 'draw v at random, leave this slice out, or pass zero="zero" (w is 0 there) or zero="nan"'
    error = ZeroNormError(what, facts, hint=hint)
    error.v, error.parts = v, (what, facts, hint)
    return error
