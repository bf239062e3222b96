"""What doctests may use, a folder for their files, and ops that go with it; lines of Numba are not counted."""

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numba.core import compiler

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


@pytest.fixture(autouse=True, scope="session")
def _uncounted() -> Iterator[None]:
    """Count no lines while Numba compiles, which would double its time: none of them is asked for (`omit`)."""
    compile_extra = compiler.compile_extra

    def uncounted(*given: Any, **more: Any) -> Any:
        tracer = sys.gettrace()
        sys.settrace(None)
        try:
            return compile_extra(*given, **more)
        finally:
            sys.settrace(tracer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "compile_extra", uncounted)
        yield
