"""What every doctest may use without importing it."""

import numpy as np
import pytest

import tinygrad_wn as tg


@pytest.fixture(autouse=True)
def _names(doctest_namespace: dict[str, object]) -> None:
    doctest_namespace["tg"], doctest_namespace["np"] = tg, np
