"""Error classes, and the one layout of every message: what broke, the facts, what to do."""

from collections.abc import Mapping
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


class GradientError(TinygradWNError, RuntimeError):
    """A gradient was asked for that does not exist, or that would be wrong."""


class CompileError(TinygradWNError, RuntimeError):
    """Something in a step that a compiled one cannot keep, such as a value that is read into Python."""


class StateError(TinygradWNError, ValueError):
    """A state or a file that does not fit the model, is damaged, or is of another kind."""


def zero_norm(name: str, v: Any, zero: Any) -> ZeroNormError:
    """The error for slices of v whose norm is 0; `zero` marks them, with size 1 on the axes of a slice.

    >>> print(zero_norm("weight_norm", np.zeros((2, 3)), np.array([[False], [True]])))
    weight_norm: a slice of v has norm 0, so it has no direction
      v      : float64 [2, 3]
      slices : [1, :]
      hint   : give each slice a nonzero entry: draw v at random, or leave this slice out
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
    return ZeroNormError(
        f"{name}: a slice of v has norm 0, so it has no direction",
        {"v": f"{v.dtype} {list(v.shape)}", "slices": ", ".join(names) + more},
        hint="give each slice a nonzero entry: draw v at random, or leave this slice out",
    )
