"""A few lines of Python and what they must compute: run with a student's code, and reported in a student's words."""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .report import RIGHT, WRONG, Report, unwritten
from .search import smallest_failure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

    from hypothesis.strategies import SearchStrategy

EXAMPLES = 200
"""Examples that a check draws."""

TOLERANCE = 1e-6
"""How far a number may be off, absolutely or relatively. Examples are so short, and their numbers so moderate, that
rounding in float64 stays a thousand times below, and mistakes stay above."""


@dataclass(frozen=True)
class Example:
    """Lines of code, and expressions to ask for afterwards with the value that each must have."""

    code: tuple[str, ...]
    expected: dict[str, Any]


class WrongError(Exception):
    """An example on which the code is wrong: the lines to show, and what to look at."""

    def __init__(self, lines: tuple[str, ...], advice: str) -> None:
        super().__init__(advice)
        self.lines, self.advice = lines, advice


class UnwrittenError(Exception):
    """A function of the student's that still raises NotImplementedError, by its name."""


def judge(
    title: str,
    proven: str,
    strategy: SearchStrategy[Example],
    names: Mapping[str, Any],
    advice: str = "",
    examples: int = EXAMPLES,
) -> Report:
    """Draw examples, run each with what the student gives names to, and report the smallest that goes wrong.

    `proven` says what a success means, `advice` what to look at where nothing more precise can be said.

    >>> from hypothesis import strategies as st
    >>> from tinygrad_wn.testing.autograder.example import Example, judge
    >>> square = st.integers(1, 9).map(lambda n: Example((f"y = square({n})",), {"y": n * n}))
    >>> judge("square", "n² for n to 9", square, {"square": lambda n: n * n})
    ✓ square: right
      200 examples, drawn at random: n² for n to 9.
    >>> judge("square", "n² for n to 9", square, {"square": lambda n: 2 * n})
    ✗ square: wrong
      The smallest example that goes wrong:
          y = square(1)
          y  # found 2, expected 1
    """
    try:
        found = smallest_failure(strategy, lambda example: run(example, names, advice), WrongError, examples)
    except UnwrittenError as hole:
        return unwritten(title, str(hole))
    if found is None:
        return Report(title, RIGHT, (f"{examples} examples, drawn at random: {proven}.",))
    failure, steady = found
    shown = ["The smallest example that goes wrong:", *(f"    {line}" for line in failure.lines)]
    if not steady:
        shown.append("It goes wrong in some runs only: do two objects share something, such as a list?")
    return Report(title, WRONG, (*shown, *([failure.advice] if failure.advice else [])))


def run(example: Example, names: Mapping[str, Any], advice: str) -> None:
    """Run the lines, then compare what is asked for; raises WrongError, or UnwrittenError where a hole is met."""
    space = {"np": np, **names}
    for number, line in enumerate(example.code, 1):
        try:
            exec(line, space)
        except Exception as error:  # of any kind: the code under test is not ours
            raise failure(error, example.code[:number]) from error
    for expression, right in example.expected.items():
        try:
            found = eval(expression, space)
        except Exception as error:  # as above
            raise failure(error, (*example.code, expression)) from error
        if not agree(found, right):
            shown = f"{expression}  # found {short(found)}, expected {short(right)}"
            hint = look_at(example.code, expression, found, right) or advice
            raise WrongError((*example.code, shown), hint)


def failure(error: Exception, lines: tuple[str, ...]) -> Exception:
    """What to raise where code of the student's raises."""
    frames = [pair for pair in traceback.walk_tb(error.__traceback__) if not _is_numpy(pair[0])]
    last, line = frames[-1]
    place = last.f_code.co_qualname.replace("<locals>.", "")
    if isinstance(error, NotImplementedError):
        return UnwrittenError(place)
    where = "" if place == "<module>" else f" (line {line} of the cell of {place})"
    shown = (*lines[:-1], f"{lines[-1]}  # raises {type(error).__name__}")
    return WrongError(shown, f"{' '.join(str(error).split())}{where}")


def _is_numpy(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith("numpy.")


def agree(found: Any, right: Any) -> bool:
    """Whether both have one shape, and numbers that differ by no more than TOLERANCE."""
    try:
        numbers = np.asarray(found, float)
    except (TypeError, ValueError):
        return False
    right = np.asarray(right, float)
    return numbers.shape == right.shape and np.allclose(numbers, right, rtol=TOLERANCE, atol=TOLERANCE)


def short(x: Any) -> str:
    """A number or nested lists of them with six digits, or else what `repr` says."""
    x = x.tolist() if isinstance(x, np.ndarray | np.generic) else x
    if isinstance(x, list | tuple):
        return f"[{', '.join(map(short, x))}]"
    return f"{x:.6g}" if isinstance(x, float) else repr(x)


def look_at(code: tuple[str, ...], expression: str, found: Any, right: Any) -> str:
    """What the mistake is likely to be, or "" where nothing can be said."""
    name, _, attribute = expression.partition(".")
    line = next((line for line in code if line.startswith(f"{name} = ")), "")
    made_of_numbers = "Value(" in line or "Tensor(" in line
    if attribute == "data":
        if made_of_numbers:
            return f"`{name}` was changed. An op must make a new result, not write into what it was given."
        if not np.all(np.isfinite(np.asarray(found, float))):
            return ""
        return f"The value itself is wrong: look at what `{line}` computes."
    if attribute != "grad":
        return ""
    numbers, right = np.asarray(found), np.asarray(right)
    if numbers.dtype == object:
        return f"No gradient arrived at `{name}`."
    if numbers.shape != right.shape:
        return f"A gradient has the shape of what it belongs to, here {list(right.shape)}: sum over what was stretched."
    if np.allclose(numbers, -right, rtol=TOLERANCE, atol=TOLERANCE):
        return "A sign is wrong."
    uses = len(re.findall(rf"\b{name}\b", " ".join(code))) - 1
    if uses > 1:
        return (
            f"`{name}` is used {uses} times: its gradient is the sum of what comes back from each use. Is each right?"
        )
    if not np.any(numbers):
        return f"Nothing arrived at `{name}`: does the walk begin with the last result, and reach all parents?"
    return ""
