"""Memory at an address, as NumPy is told about it."""

from __future__ import annotations

from typing import Any

import numpy as np


class Lying:
    """Memory that NumPy can look at."""

    def __init__(self, address: int, shape: tuple[int, ...], steps: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.__array_interface__ = {
            "data": (address, False),
            "shape": shape,
            "strides": steps,
            "typestr": dtype.str,
            "version": 3,
        }
