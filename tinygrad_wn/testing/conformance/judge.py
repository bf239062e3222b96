"""Try every property of an implementation with Hypothesis, the same examples in every run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..search import smallest_failure
from .matrix import LACKING, RIGHT, WRONG, Failure, Verdict
from .properties import PROPERTIES, Check
from .trial import FailureError, LackingError

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
    found = smallest_failure(check.trials(impl), check.test, FailureError, examples, shrink=shrink)
    if found is None:
        return None
    failure, steady = found
    return Failure(failure.what if steady else f"not the same in every call: {failure.what}", failure.code)
