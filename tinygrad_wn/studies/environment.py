"""Where a result comes from: versions and the machine."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..kernels.threads import get_num_threads

PACKAGES = ("tinygrad_wn", "numpy", "numba", "mlxtend")


def environment() -> dict[str, Any]:
    """Processor, cores, threads of kernels, system, and versions of Python and of the packages that matter.

    >>> from tinygrad_wn.studies.environment import environment
    >>> list(environment())
    ['cpu', 'cores', 'threads', 'system', 'python', 'versions']
    """
    return {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := installed(name))},
    }


def processor() -> str:
    """The name of the processor."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def installed(name: str) -> str | None:
    """The version of a package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
