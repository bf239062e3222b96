"""Try every property of an implementation with Hypothesis, the same examples in every run of the same code."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis.errors import Flaky

from .matrix import LACKING, RIGHT, WRONG, Failure, Verdict
from .properties import PROPERTIES, Check
from .trial import FailureError, LackingError, Trial

if TYPE_CHECKING:
    from .implementation import Implementation


def judge(impl: Implementation, name: str, examples: int, *, shrink: bool = True) -> Verdict:
    """The verdict on one property, from so many examples for each of its checks."""
    checks = [check for check in PROPERTIES[name] if not impl.lacks(check.needs)]
    if not checks:
        return Verdict(LACKING, reason=f"there is no function {PROPERTIES[name][0].needs}")
    failures, lacking = [], []
    for check in checks:
        try:
            failure = _failure(impl, check, max(round(examples * check.share), 1), shrink=shrink)
        except LackingError as error:
            lacking.append(str(error).splitlines()[0])
        else:
            failures += [failure] if failure else []
    if failures:
        return Verdict(WRONG, tuple(failures))
    return Verdict(LACKING, reason=lacking[0]) if len(lacking) == len(checks) else Verdict(RIGHT)


def _failure(impl: Implementation, check: Check, examples: int, *, shrink: bool) -> Failure | None:
    """The smallest example that fails a check, if there is one."""
    last: list[FailureError] = []

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
    @given(check.trials(impl))
    def test(trial: Trial) -> None:
        try:
            check.test(trial)
        except FailureError as failure:
            last[:] = [failure]
            raise

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            test()
        except FailureError as failure:
            return Failure(failure.what, failure.code)
        except Flaky:
            return Failure(f"not the same in every call: {last[0].what}", last[0].code)
    return None
