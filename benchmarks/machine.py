"""What figures depend on, as far as it can be found out."""

import os
import platform
from typing import Any

import numpy as np

import tinygrad_wn as tg
from tinygrad_wn.kernels import vector
from tinygrad_wn.studies.environment import installed, processor

PACKAGES = ("numpy", "numba", "llvmlite", "torch", "jax", "jaxlib", "autograd", "mygrad", "scikit-learn")


def facts() -> dict[str, Any]:
    """Processor, system, versions, BLAS, and the width of the vectors that kernels use."""
    return {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "memory_gigabytes": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "blas": np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"],
        "vector_bytes": vector.VECTOR_BYTES,
        "versions": {"tinygrad_wn": tg.__version__, **{name: x for name in PACKAGES if (x := installed(name))}},
    }
