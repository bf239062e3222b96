"""Pages: each block of code is run by something, commands exist, figures are those of the files."""

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import test_jit_ops
import test_op_gradients
import test_ops
from every_op import every_kernel, every_op, every_smooth_op
from test_project import PAGES, README, ROOT, blocks, identity

import tinygrad_wn as tg
from benchmarks import chart, command, page
from tinygrad_wn import cli
from tinygrad_wn.op import OPS

pytestmark = pytest.mark.once

DOCS = [path for path in PAGES if path.is_relative_to(ROOT / "docs")]
FENCE = re.compile(r"^( *)```(\S*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
BY_SPHINX = {
    "{toctree}",
    "{include}",
    "{public}",
    "{help}",
    "{figure}",
    "{image}",
    "{note}",
    "{tip}",
    "{warning}",
    "{raw}",
    "{code-cell}",  # and by test_notebook.py
}
COMMAND = re.compile(r"(?:\.venv/bin/)?(?:python -m (benchmarks|tinygrad_wn)(?= |$)|(tinygrad-wn)(?= ))(.*)")
PYTORCH = ROOT / "docs" / "how-to" / "pytorch.md"


def fences(path):
    return [(kind, text) for _, kind, text in FENCE.findall(path.read_text(encoding="utf-8"))]


def shell_blocks():
    """Blocks of a shell on pages; those that are in the README as well are run by CI."""
    found = [(path, text) for path in DOCS for kind, text in fences(path) if kind == "bash"]
    return [(path, text) for path, text in found if text not in blocks(README, "bash")]


def without_prompts(text):
    return ">>> " not in text


@pytest.mark.parametrize("path", PAGES, ids=identity)
def test_each_block_of_a_page_is_of_a_kind_that_something_runs(path):
    for kind, text in fences(path):
        if kind == "python":  # by doctest; what has no prompts is for PyTorch
            assert not without_prompts(text) or path == PYTORCH, text
        else:
            assert kind in BY_SPHINX | {"bash", "text"}, f"nothing runs a block of {kind!r}: {text}"
        assert kind != "text" or ">>> " not in text


@pytest.mark.parametrize(
    "text", [README, (ROOT / "docs" / "start.md").read_text(encoding="utf-8")], ids=["README", "start"]
)
def test_a_first_network_takes_15_lines(text):
    assert "15 lines" in text
    assert len(re.findall(r"^(?:>>>|\.\.\.) ", blocks(text, "python")[0], re.MULTILINE)) <= 15


@pytest.mark.parametrize(("path", "text"), shell_blocks(), ids=lambda x: x.stem if isinstance(x, Path) else "")
def test_shell_blocks_of_a_page_run(path, text, tmp_path):
    beside = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    script = text.replace("tinygrad-wn", f"{sys.executable} -m tinygrad_wn")
    done = subprocess.run(
        ["bash", "-euc", script], cwd=tmp_path, env=os.environ | beside, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", PAGES, ids=identity)
def test_commands_that_a_page_names_have_these_options(path):
    text = path.read_text(encoding="utf-8")
    lines = [line for kind, block in fences(path) if kind in ("text", "bash") for line in block.splitlines()]
    for line in [*lines, *re.findall(r"`([^`]+)`", FENCE.sub("", text))]:
        if found := COMMAND.fullmatch(line.strip()):
            module, _, rest = found.groups()
            parser = command._parser() if module == "benchmarks" else cli._parser()
            options = shlex.split(rest.replace("…", ""), comments=True)
            if options[-1:] not in (["--help"], ["bench"]):
                parser.parse_args(options)


@pytest.mark.peers("torch")
def test_pytorch_reads_what_the_page_on_pytorch_writes(tmp_path, monkeypatch):
    net = tg.nn.weight_norm(tg.nn.Sequential(tg.nn.Linear(3, 8, rng=0), tg.nn.ReLU(), tg.nn.Linear(8, 2, rng=1)))
    monkeypatch.chdir(tmp_path)
    tg.interop.save_safetensors(tg.interop.pytorch_state(net), "net.safetensors")
    (code,) = [text for kind, text in fences(PYTORCH) if kind == "python" and without_prompts(text)]
    names = {}
    exec(code, names)
    found = names["model"](names["torch"].ones(1, 3)).detach().numpy()
    np.testing.assert_allclose(found, net(np.ones((1, 3), "float32")).detach().numpy(), rtol=1e-5)


@pytest.fixture
def silu(tmp_path, monkeypatch):
    """The op that the page on kernels declares, from a file as the page on ops says; gone afterwards."""
    monkeypatch.setenv("TINYGRAD_WN_CACHE", str(tmp_path))
    page_on_kernels = (ROOT / "docs" / "how-to" / "write-a-kernel.md").read_text(encoding="utf-8")
    code = "".join(blocks(page_on_kernels, "python")[:2])
    (tmp_path / "silu.py").write_text("\n".join(re.findall(r"^(?:>>>|\.\.\.) ?(.*)$", code, re.MULTILINE)))
    before = dict(OPS)
    yield runpy.run_path(str(tmp_path / "silu.py"))["silu"]
    OPS.clear()
    OPS.update(before)


def each_test_of(module, *kinds):
    """Tests that run for every op of a kind; an example in a docstring is a matter of ops in files."""
    marks = [kind.mark for kind in kinds]
    return [
        pytest.param(one, id=name)
        for name, one in vars(module).items()
        if any(mark in marks for mark in getattr(one, "pytestmark", ())) and "docstring" not in name
    ]


@pytest.mark.parametrize(
    "test",
    [
        *each_test_of(test_ops, every_op, every_kernel),
        *each_test_of(test_op_gradients, every_op, every_smooth_op),
        *each_test_of(test_jit_ops, every_op, every_smooth_op),
    ],
)
def test_the_op_of_the_page_passes_what_every_op_must_pass(silu, test):
    test(op=silu)


def test_pages_say_what_the_files_of_figures_say(tmp_path):
    for kept in (page.BENCHMARKS, page.MATRIX):
        names = {kept, "README.md", "docs/benchmarks.md", "docs/conformance.md", "docs/benchmarks.svg"}
        (tmp_path / "docs").mkdir(exist_ok=True)
        for name in names:
            (tmp_path / name).write_bytes((ROOT / name).read_bytes())
        page.publish(tmp_path / kept, tmp_path)
        for name in names - {"docs/benchmarks.svg"}:  # which differs with the version of matplotlib
            assert (tmp_path / name).read_bytes() == (ROOT / name).read_bytes(), name


def test_the_chart_is_drawn_from_the_file_of_figures():
    results = json.loads((ROOT / page.BENCHMARKS).read_text(encoding="utf-8"))
    assert chart.identity(results) in (ROOT / "docs" / "benchmarks.svg").read_text(encoding="utf-8")
