"""Hypothesis profiles, and a guard against tests that leak global state.

`HYPOTHESIS_PROFILE` names a profile: `dev` (the default), `ci` (the same examples in every run; the default where
CI=true) or `night` (many more examples).
"""

import os
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import settings

import tinygrad_wn as tg
from tinygrad_wn.kernels import kernels_are_on
from tinygrad_wn.op import OPS
from tinygrad_wn.slot import slot
from tinygrad_wn.testing.conformance.adapters import INSTALL
from tinygrad_wn.walk import recording

settings.register_profile("dev", max_examples=20, deadline=None)
settings.register_profile("ci", max_examples=20, deadline=None, derandomize=True, print_blob=True)
settings.register_profile("night", max_examples=1000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") == "true" else "dev"))


def state() -> dict[str, object]:
    """All that one test could change for the next."""
    return {
        "interpreter": slot.over.get(),
        "eager interpreter": slot.eager,
        "recording": recording.get(),
        "kernels are on": kernels_are_on(),
        "ops": tuple(OPS.items()),
        "number of threads": tg.get_num_threads(),
        "NumPy's errors": np.geterr(),
        "NumPy's printing": np.get_printoptions(),
    }


@pytest.fixture(autouse=True)
def _no_leaks() -> Iterator[None]:
    """Fail a test that leaves an interpreter, the recording flag, a switch of kernels or NumPy's settings changed."""
    before = state()
    yield
    after = state()
    leaked = [name for name in before if before[name] != after[name]]
    assert not leaked, f"the test leaks {', '.join(leaked)}"


@pytest.fixture(scope="module")
def many_steps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder that goes with the tests, for the many steps that they compile, unless one was named."""
    with pytest.MonkeyPatch.context() as patch:
        if "TINYGRAD_WN_CACHE" not in os.environ:
            patch.setenv("TINYGRAD_WN_CACHE", str(tmp_path_factory.mktemp("steps")))
        yield


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests without what they are about: peers, a browser, kernels where kernels are off."""
    browser = bool(find_spec("selenium") and shutil.which("chromium") and shutil.which("chromedriver"))
    without = [
        item
        for item in items
        if not all(is_there(library) for mark in item.iter_markers("peers") for library in mark.args)
        or (item.get_closest_marker("once") and not kernels_are_on())
        or (item.get_closest_marker("browser") and not browser)
    ]
    if without:
        config.hook.pytest_deselected(items=without)
        items[:] = [item for item in items if item not in without]


def is_there(library: str) -> bool:
    """Whether a peer is installed; as "torch==2.13.0" where its adapter says so, a local build of it included."""
    _, _, wanted = INSTALL[library].partition("==")
    return find_spec(library) is not None and wanted in ("", version(library).partition("+")[0])
