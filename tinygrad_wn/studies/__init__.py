"""Experiments that compare weight normalization with what else there is: `tinygrad-wn study NAME`.

One module is one study. Its docstring begins with the line that `tinygrad-wn study --help` shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from . import classification

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table


class Study(Protocol):
    """What a module of this folder offers.

    `run(quick, seed, progress)` gives a result of plain Python values that JSON can hold: what was set, what came out,
    and where. A study that takes data has a fourth argument `data`, names or paths. The same seed gives the same
    result, apart from times. The other functions show a result, also one that was read from a file: `draw` as a
    Figure of matplotlib, which only it imports; `summary` in sentences that are computed from it.
    """

    @property
    def run(self) -> Callable[..., dict[str, Any]]:
        """Do it, and give the result."""

    def tables(self, result: dict[str, Any]) -> list[Table]:
        """The figures that matter."""

    def draw(self, result: dict[str, Any]) -> Any:
        """A Figure. Raises ImportError where matplotlib is not installed."""

    def summary(self, result: dict[str, Any]) -> list[str]:
        """What came out, also where weight normalization does not help, and what can be compared with the paper."""


STUDIES: dict[str, Study] = {"classification": classification}
