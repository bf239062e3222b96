"""What one run of the benchmarks is asked to do, and what went wrong on the way."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .workloads import Workload


@dataclass
class Plan:
    """The options of the command line, understood. `errors` fills up while suites run."""

    workloads: list[Workload]
    contenders: list[str]
    threads: list[int]
    norms: list[bool]
    rounds: int
    quick: bool
    say: Callable[[str], None] = lambda _: None
    errors: dict[str, str] = field(default_factory=dict)


Suite = Callable[[Plan], Any]
