"""What figures depend on, as far as it can be found out."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_wn as tg
from tinygrad_wn.kernels import vector

PACKAGES = ("numpy", "numba", "llvmlite", "torch", "jax", "jaxlib", "autograd", "mygrad", "scikit-learn")


def facts() -> dict[str, Any]:
    """Processor, system, versions, BLAS, and the width of the vectors that kernels use."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gigabytes": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "blas": np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"],
        "vector_bytes": vector.VECTOR_BYTES,
        "versions": {"tinygrad_wn": tg.__version__, **{name: x for name in PACKAGES if (x := _version(name))}},
    }


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
