"""Means with confidence intervals by Student's t."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

LEVEL = 0.95
"""The share of intervals that hold the true mean, for values that are normal and independent."""


@cache
def student(degrees: int, level: float = LEVEL) -> float:
    """The t that a Student variable of so many degrees of freedom stays within, either side, with this probability.

    With t = √degrees tan θ its density is that of cosᵈ⁻¹θ, which is summed here; right to 6 digits up to level 0.99.

    >>> from tinygrad_wn.studies.intervals import student
    >>> [round(student(degrees), 3) for degrees in (1, 4, 9)]
    [12.706, 2.776, 2.262]
    """
    angle = np.linspace(0, np.pi / 2, 100_001)
    height = np.cos(angle) ** (degrees - 1)
    area = np.concatenate([[0], np.cumsum(height[1:] + height[:-1])])
    return float(np.sqrt(degrees) * np.tan(np.interp(level * area[-1], area, angle)))


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean of at least two values, and half the width of its confidence interval.

    >>> from tinygrad_wn.studies.intervals import interval
    >>> interval([1.0, 2.0, 3.0])
    {'mean': 2.0, 'half_width': 2.4841}
    """
    half = student(len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return {"mean": float(np.mean(values)), "half_width": float(half)}
