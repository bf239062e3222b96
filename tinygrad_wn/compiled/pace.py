"""Whether a step runs with helpers or alone: where another program wants the cores, waiting for helpers takes longer.

Two threads meet several times in a step. If the system takes a core away in between, for a thousandth of a second or
for good, the other thread waits, and the step is 2 to 20 times as long as alone.
"""

from __future__ import annotations

import math

FEW = 8
"""Runs of a trial."""
FIRST, OFTEN = 32, 256
"""Runs before the first trial of running alone, and at least from one to the next, where helpers were worth it."""
REST, LONGEST = 64, 4096
"""Runs alone before helpers are tried again, at first, and at most: twice as many each time that they were not."""
SUSPECT = 1.3
"""How many times the shortest run the mean may be before running alone is tried before `LONGEST` runs are over."""
MOST = 8
"""How many times the shortest run one counts for at most: after a break, helpers have to be woken."""
MEMORY = 32
"""Runs, about, that the mean is one of."""

TOGETHER, TRY_ALONE, ALONE, TRY_TOGETHER = range(4)


class Pace:
    """What a step does next, from how long its runs took: helped, until alone was faster in a trial."""

    def __init__(self) -> None:
        self.state, self.left, self.rest = TOGETHER, FIRST, REST
        self.least, self.mean, self.alone, self.total = math.inf, 0.0, 0.0, 0.0

    @property
    def helped(self) -> bool:
        """Whether the next run is to be with helpers."""
        return self.state in (TOGETHER, TRY_TOGETHER)

    def ran(self, seconds: float) -> None:
        """Tell how long a run took."""
        self.left -= 1
        if self.state == TOGETHER:
            self.least = min(self.least, seconds)
            self.mean += (min(seconds, MOST * self.least) - self.mean) / MEMORY if self.mean else seconds
            due = not self.alone or self.mean > SUSPECT * self.least or self.left < -LONGEST
            if self.left <= 0 and due:
                self._begin(TRY_ALONE, FEW)
            return
        if self.state == TRY_TOGETHER and self.left == FEW:
            return  # in which helpers are woken
        self.total += seconds
        lost = self.state == TRY_TOGETHER and self.total > FEW * self.alone
        if self.left > 0 and not lost:
            return
        if self.state == TRY_ALONE:
            self.alone = self.total / FEW
            self._begin(*(ALONE, self.rest) if self.alone < self.mean else (TOGETHER, OFTEN))
        elif self.state == ALONE:
            self.alone = self.total / self.rest
            self._begin(TRY_TOGETHER, FEW + 1)
        elif self.total / FEW < self.alone:
            self.mean, self.rest = self.total / FEW, REST
            self._begin(TOGETHER, OFTEN)
        else:
            self.rest = min(2 * self.rest, LONGEST)
            self._begin(ALONE, self.rest)

    def _begin(self, state: int, runs: int) -> None:
        self.state, self.left, self.total = state, runs, 0.0
