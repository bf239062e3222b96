"""What every doctest may use without importing it."""

import numpy as np
import pytest

import tinygrad_wn as tg

collect_ignore = ["docs/conf.py"]  # needs the extra [docs], and has no examples


@pytest.fixture(autouse=True)
def _names(doctest_namespace: dict[str, object]) -> None:
    doctest_namespace["tg"], doctest_namespace["np"] = tg, np
