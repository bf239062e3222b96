"""What is judged: functions from NumPy arrays to NumPy arrays, and what a library is called when it is not there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

FUNCTIONS = ("weight", "gradient", "second", "jvp", "fold", "copy", "state")


@dataclass(frozen=True)
class Implementation:
    """A library's weight normalization as functions from NumPy arrays to NumPy arrays; those it lacks are None.

    v has shape (…), g has size 1 on every axis but `axis` (on all where it is None), and so have b and dg; ct, a and dv
    have the shape of v. Each result has the shape of what it belongs to, and the dtype of v and g.

    `weight(v, g, axis)`
        returns w
    `gradient(v, g, ct, axis)`
        returns (∇v, ∇g) for the cotangent ct of w
    `second(v, g, ct, a, b, axis)`
        returns the gradient of ⟨a, ∇v⟩ + ⟨b, ∇g⟩ by (v, g, ct)
    `jvp(v, g, dv, dg, axis)`
        returns the derivative of w along (dv, dg)
    `fold(v, g, axis)`
        returns the weight of a layer of (v, g) from which weight normalization was taken away
    `copy(v, g, other_v, other_g, axis)`
        copies a layer of (v, g), then gives the layer the others; returns w of the copy and w of the layer
    `state(v, g, other_v, other_g, axis)`
        a layer of the others takes the state of one of (v, g), which is then given the others; returns v, g and w of
        the layer that took the state

    `dtypes` are those it computes in, and `axes` those it takes where it does not take every axis and None. A function
    says that it lacks something by NotImplementedError. `setup` are the lines of Python that bind `wn` to this object,
    for examples that can be pasted.

    >>> from tinygrad_wn.testing import Implementation
    >>> def weight(v, g, axis):
    ...     rest = tuple(i for i in range(v.ndim) if axis is None or i != axis % v.ndim)
    ...     return g * v / np.sqrt(np.sum(v * v, axis=rest, keepdims=True))
    >>> Implementation("mine", weight).lacks("gradient")
    True
    """

    name: str
    weight: Callable[..., Any]
    gradient: Callable[..., Any] | None = None
    second: Callable[..., Any] | None = None
    jvp: Callable[..., Any] | None = None
    fold: Callable[..., Any] | None = None
    copy: Callable[..., Any] | None = None
    state: Callable[..., Any] | None = None
    dtypes: tuple[str, ...] = ("float32", "float64")
    axes: tuple[int | None, ...] | None = None
    version: str = ""
    setup: str = "# wn is the Implementation that was checked"

    def lacks(self, function: str) -> bool:
        """Whether there is no function of this name."""
        return getattr(self, function) is None
