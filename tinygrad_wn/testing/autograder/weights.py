"""The check of a student's weight normalization: `check_weight_norm`, in a student's words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..conformance import Implementation, check_weight_norm
from ..conformance.matrix import LACKING, WRONG as FAILED
from .report import RIGHT, WRONG, Report, unwritten

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = 50

WORDS = {
    "values": ("w = g v/‖v‖ to rounding", "Square, sum over one slice with its axes kept, take the root."),
    "gradient": ("∇g and ∇v of equation 3 to rounding", "Write ∇g first; ∇v uses it. Sums run over one slice."),
    "orthogonality": ("v·∇v = 0 in each slice", "What ∇v has along v must be taken away."),
    "second order": ("the second derivatives", "‖v‖ depends on v, too: is it a Tensor that v leads to?"),
    "scale": (
        "w, ∇v and ∇g at 2ᵏv, as long as they are numbers of that dtype",
        "A square leaves the range long before v does. Divide each slice by a power of two first.",
    ),
    "zero slice": ("no NaN where a slice of v is zero", "Look for slices that are all zero before you divide."),
    "near-parallel": (
        "∇v in float32 where ∇w is nearly parallel to v",
        "Two large terms cancel: compute in float64, and round once at the end.",
    ),
    "axis meaning": ("every axis means what it says", "What does others(v, axis) give for this axis?"),
    "dtype kept": ("float32 stays float32", "Give back results in the dtype of v, with .astype(v.dtype)."),
    "non-contiguous": ("the layout in memory does not matter", "Do not read the memory as it lies."),
}
"""What each property means, and what to look at where it fails."""


def check_weight(*properties: str, weight: Callable[..., Any], examples: int = EXAMPLES, **functions: Any) -> Report:
    """Check `weight(v, g, axis)`, and of `functions` `gradient` and `second`, for properties of `check_weight_norm`.

    What the functions take and return is said at `Implementation`. Raises ValueRangeError for no such property.

    >>> from tinygrad_wn.testing import autograder
    >>> def weight(v, g, axis):
    ...     rest = tuple(i for i in range(v.ndim) if axis is None or i != axis % v.ndim)
    ...     return g * v / np.sqrt(np.sum(v * v, axis=rest, keepdims=True))
    >>> autograder.check_weight("values", "zero slice", weight=weight)
    ✗ weight normalization, zero slice: wrong
      w is NaN where a slice of v is zero, in silence. The smallest example:
          v = np.array([[0.0, 0.0]], "float32")
          g = np.array([[1.0]], "float32")
          w = weight(v, g, axis=0)
          print(w.tolist())
          # found [[nan, nan]]
          # right: an error, or finite numbers
      Look for slices that are all zero before you divide.
    """
    functions["weight"] = weight
    holes: list[str] = []

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arrays: Any, axis: int | None) -> Any:
            try:
                return function(*arrays, axis=axis)
            except NotImplementedError:
                holes.append(function.__name__)
                raise

        return call

    given: dict[str, Any] = {name: watched(function) for name, function in functions.items()}
    matrix = check_weight_norm(Implementation("yours", **given), properties=properties, examples=examples)
    for name in properties:
        verdict = matrix["yours", name]
        title = f"weight normalization, {name}"
        if holes:
            return unwritten(title, holes[0])
        if verdict.status == LACKING:
            return Report(title, WRONG, (f"{verdict.reason}.",))
        if verdict.status == FAILED:
            failure = verdict.failures[0]
            code = re.sub(r"wn\.(\w+)", lambda call: functions[call[1]].__name__, failure.code).splitlines()[2:]
            advice = WORDS[name][1] if name in WORDS else ""
            shown = (f"{failure.what}. The smallest example:", *(f"    {line}" for line in code), advice)
            return Report(title, WRONG, shown)
    tried = (f"  {name}: {WORDS.get(name, ('as it must be',))[0]}" for name in properties)
    return Report("weight normalization", RIGHT, ("On examples drawn at random, in decimal arithmetic:", *tried))
