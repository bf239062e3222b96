"""Look for the smallest example that fails, with Hypothesis: not by chance, the same code finds the same."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis.errors import Flaky

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

E = TypeVar("E", bound=Exception)
T = TypeVar("T")


def smallest_failure(
    strategy: SearchStrategy[T], test: Callable[[T], None], error: type[E], examples: int, *, shrink: bool = True
) -> tuple[E, bool] | None:
    """What `test` raises of this kind for the smallest of the examples drawn, and whether it does so in every call.

    None where no example fails. What `test` raises of another kind is raised. Warnings are silent meanwhile.

    >>> from hypothesis import strategies as st
    >>> from tinygrad_wn.testing.autograder.search import smallest_failure
    >>> def is_short(word):
    ...     if len(word) > 3:
    ...         raise ValueError(word)
    >>> smallest_failure(st.text("a"), is_short, ValueError, 100)
    (ValueError('aaaa'), True)
    """
    last: list[E] = []

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        verbosity=Verbosity.quiet,
    )
    @given(strategy)
    def run(example: T) -> None:
        try:
            test(example)
        except error as failure:
            last[:] = [failure]
            raise

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            run()
        except error as failure:
            return failure, True
        except Flaky:
            return last[0], False
    return None
