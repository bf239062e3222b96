"""One call to judge: its arrays and the Python text that makes them, the results, and the report of what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .oracle import Slices, Truth

if TYPE_CHECKING:
    from ...domains import Array
    from .implementation import Implementation

ARGUMENTS = {
    "weight": ("v", "g"),
    "gradient": ("v", "g", "ct"),
    "second": ("v", "g", "ct", "a", "b"),
    "jvp": ("v", "g", "dv", "dg"),
    "fold": ("v", "g"),
    "copy": ("v", "g", "other_v", "other_g"),
    "state": ("v", "g", "other_v", "other_g"),
}
RESULTS = {
    "weight": ("w",),
    "gradient": ("grad_v", "grad_g"),
    "second": ("by_v", "by_g", "by_ct"),
    "jvp": ("w_dot",),
    "fold": ("folded",),
    "copy": ("w_of_copy", "w_of_layer"),
    "state": ("v_back", "g_back", "w_back"),
}
BELONGS_TO = {"grad_v": "v", "grad_g": "g", "by_v": "v", "by_g": "g", "by_ct": "ct", "v_back": "v", "g_back": "g"}
"""The argument whose shape a result has; all others have the shape of v."""


class FailureError(Exception):
    """An example on which an implementation is wrong: `what` in one line, and lines of Python that show it."""

    def __init__(self, what: str, code: str) -> None:
        super().__init__(what)
        self.what, self.code = what, code


class RaisedError(FailureError):
    """An example on which a function of the implementation raises."""


class LackingError(Exception):
    """The implementation says that it has no such thing."""


@dataclass(frozen=True)
class Given:
    """An array, made from the array `plain` (itself where that is None) by an expression with {} in its place."""

    array: Array
    plain: Array | None = None
    expression: str = "{}"

    @property
    def text(self) -> str:
        """An expression of NumPy that makes the array."""
        return self.expression.format(literal(self.array if self.plain is None else self.plain))


@dataclass(frozen=True)
class Trial:
    """Arrays by the names of ARGUMENTS, an axis, and the implementation that is to take them."""

    impl: Implementation
    axis: int | None
    given: dict[str, Given]

    def __getitem__(self, name: str) -> Array:
        """The array of this name."""
        return self.given[name].array

    def truth(self) -> Slices:
        """The formulas at this v and g."""
        return Slices(self["v"], self["g"], self.axis)

    def call(self, function: str) -> tuple[Array, ...]:
        """The results, as many and of the shapes that they must have; the arrays that were given stay as they are."""
        names = ARGUMENTS[function]
        before = [self[name].copy() for name in names]
        try:
            found = getattr(self.impl, function)(*(self[name] for name in names), axis=self.axis)
        except NotImplementedError as error:
            raise LackingError(str(error) or "NotImplementedError") from None
        except Exception as error:  # of any kind: the code under test is not ours
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            failure = self.failure(function, f"{function} raises {reason}", f"# raises {reason}")
            raise RaisedError(failure.what, failure.code) from error
        for name, old in zip(names, before, strict=True):
            if not np.array_equal(old, self[name]):
                raise self.failure(function, f"{function} writes into {name}", f"print({name})  # was {plain(old)}")
        results = found if isinstance(found, tuple | list) else (found,)
        if len(results) != len(RESULTS[function]):
            what = f"{function} returns {len(results)} arrays, not {len(RESULTS[function])}"
            raise self.failure(function, what, f"# {what}")
        arrays = tuple(np.asarray(x) for x in results)
        for name, x in zip(RESULTS[function], arrays, strict=True):
            shape = self[BELONGS_TO.get(name, "v")].shape
            if x.shape != shape or x.dtype.kind != "f":
                what = f"{name} is {x.dtype} {list(x.shape)}, not floats {list(shape)}"
                raise self.failure(function, what, f"print({name}.dtype, {name}.shape)  # {what}")
        return arrays

    def compare(self, function: str, *truths: Truth, where: str = "") -> None:
        """Call the function and hold each result against its truth."""
        for name, found, truth in zip(RESULTS[function], self.call(function), truths, strict=True):
            if truth.misses(found):
                self.wrong(function, name, found, truth.rounded(found.dtype), where)

    def same(self, function: str, *wanted: Array) -> None:
        """Call the function and hold each result against an array, bit for bit."""
        for name, found, right in zip(RESULTS[function], self.call(function), wanted, strict=True):
            if found.dtype != right.dtype or found.tobytes() != right.tobytes():
                self.wrong(function, name, found, right, "")

    def wrong(self, function: str, name: str, found: Array, right: Array, where: str) -> None:
        """Report a result that is not what it must be."""
        with np.errstate(all="ignore"):
            apart = np.abs(found.astype(float) - right.astype(float))
            size = float(np.max(np.abs(right.astype(float)), initial=0.0))
        how = f"off by {np.max(apart):.1e}" + (f", its largest entry is {size:.1e}" if size else ", it must be 0")
        if not np.isfinite(found).all():
            how = "NaN" if np.isnan(found).any() else "infinite"
        shown = f"print({name}.tolist())\n# found {plain(found)}\n# right {plain(right)}"
        raise self.failure(function, f"{name} is {how}{where}", shown)

    def failure(self, function: str, what: str, shown: str) -> FailureError:
        """The report, with lines that can be pasted."""
        lines = ["import numpy as np", self.impl.setup]
        lines += [f"{name} = {self.given[name].text}" for name in ARGUMENTS[function]]
        call = f"wn.{function}({', '.join(ARGUMENTS[function])}, axis={self.axis})"
        lines.append(f"{', '.join(RESULTS[function])} = {call}")
        return FailureError(what, "\n".join([*lines, shown]))


def literal(x: Array) -> str:
    """An expression that makes the array, with the fewest digits that give the same numbers."""
    return f'np.array({plain(x)}, "{x.dtype}")'


def plain(x: Any) -> str:
    """Nested lists of numbers, each with the fewest digits that its dtype needs."""
    return f"[{', '.join(map(plain, x))}]" if np.ndim(x) else str(x[()] if isinstance(x, np.ndarray) else x)
