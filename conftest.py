"""What every doctest may use without importing it, and a folder for its files; an op that it declares goes with it."""

import contextlib
import tempfile
from collections.abc import Iterator

import numpy as np
import pytest

import tinygrad_wn as tg
from tinygrad_wn.op import OPS

collect_ignore = ["docs/conf.py"]  # needs the extra [docs], and has no examples


@pytest.fixture(autouse=True)
def _world(request: pytest.FixtureRequest, doctest_namespace: dict[str, object]) -> Iterator[None]:
    doctest_namespace["tg"], doctest_namespace["np"] = tg, np
    if not isinstance(request.node, pytest.DoctestItem):
        yield
        return
    before = dict(OPS)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        yield
    OPS.clear()
    OPS.update(before)
