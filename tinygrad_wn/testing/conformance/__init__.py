"""Judge any library's weight normalization: `check_weight_norm(Implementation(...))` gives a matrix of verdicts.

A command does the same: `tinygrad-wn check ours torch`. Hypothesis draws the examples and shrinks those that fail; the
right results come from decimal arithmetic of 60 digits.
"""

from __future__ import annotations

import platform
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ...errors import LibraryMissingError, ValueRangeError
from .adapters import adapter
from .implementation import Implementation
from .matrix import Matrix, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

EXAMPLES = 100
"""Examples for each check, of which a property has one or several."""

__all__ = ["Implementation", "LibraryMissingError", "Matrix", "Verdict", "adapter", "check_weight_norm"]


def check_weight_norm(
    *impls: Implementation, properties: Sequence[str] | None = None, examples: int = EXAMPLES
) -> Matrix:
    """Judge implementations: a matrix with a column for each, and a row for each of `properties` (all by default).

    The verdict on a property is right, wrong with the smallest example that Hypothesis found on `examples` tries of
    each check, or lacking. The same examples are drawn in every run of the same code; Hypothesis also tries numbers
    that stand in the sources that are loaded. Raises LibraryMissingError without Hypothesis, and ValueRangeError for a
    property that is not there, for names that are not distinct, for nothing to judge, and for no examples.

    >>> from tinygrad_wn.testing import Implementation, check_weight_norm
    >>> def weight(v, g, axis):
    ...     rest = tuple(i for i in range(v.ndim) if axis is None or i != axis % v.ndim)
    ...     return g * v / np.sqrt(np.sum(v * v, axis=rest, keepdims=True))
    >>> print(check_weight_norm(Implementation("mine", weight), properties=["values", "zero slice", "jvp"]))
                  mine
    values        ✓
    zero slice    ✗
    jvp           —
    <BLANKLINE>
    mine, zero slice: w is NaN where a slice of v is zero, in silence
        import numpy as np
        # wn is the Implementation that was checked
        v = np.array([[0.0, 0.0]], "float32")
        g = np.array([[1.0]], "float32")
        w = wn.weight(v, g, axis=0)
        print(w.tolist())
        # found [[nan, nan]]
        # right: an error, or finite numbers
    <BLANKLINE>
    mine, jvp: lacking, there is no function jvp
    """
    if find_spec("hypothesis") is None:
        raise LibraryMissingError("hypothesis is not installed", hint="pip install 'tinygrad_wn[test]'")
    known = list(import_module(".properties", __name__).PROPERTIES)
    wanted = known if properties is None else list(properties)
    for name in wanted:
        if name not in known:
            raise ValueRangeError("no such property", {"given": name}, hint=f"one of {', '.join(known)}")
    names = [impl.name for impl in impls]
    if not names or len(set(names)) < len(names):
        raise ValueRangeError("implementations must have different names, and be at least one", {"names": names})
    if not isinstance(examples, int) or examples < 1:
        raise ValueRangeError("examples must be an integer of at least 1", {"given": repr(examples)})
    judge = import_module(".judge", __name__).judge
    versions = {impl.name: impl.version for impl in impls}
    versions |= {name: version(name) for name in ("numpy", "hypothesis")} | {"python": platform.python_version()}
    return Matrix(versions, {impl.name: {name: judge(impl, name, examples) for name in wanted} for impl in impls})
