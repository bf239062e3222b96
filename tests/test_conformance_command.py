"""`tinygrad-wn check`: what it prints, what it writes, its exit codes, and what it refuses."""

import io
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console
from test_cli import refused, run
from test_project import ROOT

from tinygrad_wn.testing import Implementation, adapter, conformance
from tinygrad_wn.testing.conformance import command
from tinygrad_wn.testing.conformance.properties import PROPERTIES

pytestmark = pytest.mark.once

MINE = """
import numpy as np
from tinygrad_wn.testing import Implementation

def weight(v, g, axis):
    rest = tuple(i for i in range(v.ndim) if axis is None or i != axis % v.ndim)
    return g * v / np.sqrt(np.sum(v * v, axis=rest, keepdims=True))

wn = Implementation("mine", weight, version="2.0")
"""


@pytest.fixture(autouse=True)
def _few_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "check_weight_norm", partial(conformance.check_weight_norm, examples=10))


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, the current one, with a module `mine`."""
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    return tmp_path


def test_this_package_passes_and_is_the_default() -> None:
    code, out, err = run("check")
    assert (code, err) == (0, "")
    rows = [[cell.strip() for cell in line.split("│")[1:3]] for line in out.splitlines() if line.startswith("│")]
    assert rows == [[name, "✓"] for name in PROPERTIES]
    assert out.startswith(f"ours {adapter('ours').version}, numpy ")


def test_a_failing_library_is_shown_with_code_in_full_and_gives_exit_code_1(mine: Path) -> None:
    code, out, err = run("check", "ours", "mine:wn", "--json", "matrix.json")
    assert (code, err) == (1, "")
    assert "\x1b" not in out
    assert "mine 2.0" in out
    assert '    from mine import wn as wn\n    v = np.array([[0.0, 0.0]], "float32")\n' in out
    assert "mine, jvp: lacking, there is no function jvp" in out
    found = json.loads((mine / "matrix.json").read_text(encoding="utf-8"))
    assert set(found["verdicts"]) == {"ours", "mine"}
    assert found["verdicts"]["mine"]["zero slice"]["status"] == "wrong"
    assert sys.path[0] != ""


def test_what_is_missing_or_misspelt_is_one_line_and_exit_code_2(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "one of ours, torch, equinox, jax" in refused("check", "theirs")
    assert "No module named 'absent'" in refused("check", "absent:wn")
    assert "has no attribute 'other'" in refused("check", "mine:other")
    assert "not an Implementation; given: mine:weight; is: function" in refused("check", "mine:weight")
    assert "--json: cannot write there" in refused("check", "--json", mine / "absent" / "matrix.json")
    monkeypatch.setattr(conformance.adapters, "find_spec", lambda name: None)
    assert "equinox is not installed; hint: pip install 'equinox>=0.13'" in refused("check", "ours", "equinox")
    monkeypatch.setattr(conformance, "find_spec", lambda name: None)
    assert "hypothesis is not installed; hint: pip install 'tinygrad_wn[test]'" in refused("check")


def test_an_output_without_the_marks_gets_words(mine: Path) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert command.check(["mine:wn"], None, Console(file=out, soft_wrap=True)) == 1
    out.seek(0)
    assert {"ok", "WRONG", "-"} <= set(out.read().replace("|", " ").split())


def test_lines_to_paste_that_an_implementation_brings_along_are_kept(mine: Path) -> None:
    (mine / "theirs.py").write_text(f"{MINE}wn = Implementation('theirs', weight, setup='import theirs as wn')\n")
    assert command.load("theirs:wn").setup == "import theirs as wn"
    assert isinstance(command.load("mine:wn"), Implementation)


def test_the_package_for_tests_imports_neither_hypothesis_nor_another_library() -> None:
    script = "import sys, tinygrad_wn.testing, tinygrad_wn.cli; print({'hypothesis', 'torch', 'jax'} & {*sys.modules})"
    found = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
