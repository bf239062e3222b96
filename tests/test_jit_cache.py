"""Machine code of steps on disk: shared, damaged, missing, forbidden; and memory of steps that run for long."""

import os
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_wn as tg
from tinygrad_wn import cli, nn, optim
from tinygrad_wn.kernels.address import address_of
from tinygrad_wn.kernels.atomic import WORDS
from tinygrad_wn.kernels.emitted import cache_folder, clear_cache, load
from tinygrad_wn.kernels.team import SYNC, callers

pytestmark = pytest.mark.once

STEP = """
    import sys, time
    import tinygrad_wn as tg
    start = time.perf_counter()
    w = tg.tensor([[1.0, 2.0], [3.0, 5.0]], requires_grad=True)
    step = tg.jit(lambda x: tg.tanh(x @ w).sum())
    first = step(tg.ones((3, 2)))
    assert abs(step(tg.ones((3, 2))).item() - first.item()) < 1e-6
    print(first.item())
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYGRAD_WN_CACHE", str(tmp_path / "steps"))


def start(**environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(STEP)]
    return subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finished(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    return out


def files() -> list[Path]:
    return sorted(path for path in cache_folder().rglob("*") if path.is_file())


def test_processes_share_what_one_of_them_compiled() -> None:
    outputs = {finished(process) for process in [start() for _ in range(3)]}
    assert len(outputs) == 1
    held = {path: path.stat().st_mtime_ns for path in files() if path.suffix in (".py", ".kernel")}
    assert {path.suffix for path in held} == {".py", ".kernel"}
    assert finished(start()) in outputs
    assert {path: path.stat().st_mtime_ns for path in held} == held


@pytest.mark.parametrize("harm", [b"", b"raise SystemExit", b"\xff\xfe", None], ids=["empty", "other", "bytes", "cut"])
def test_files_that_were_harmed_are_made_anew(harm: bytes | None) -> None:
    expected = finished(start())
    for path in files():
        path.write_bytes(path.read_bytes()[:-7] if harm is None else harm)
    assert finished(start()) == expected


def test_a_process_that_is_killed_leaves_a_cache_that_works() -> None:
    """Killed when the module is there and its machine code is not yet, or in the middle of it."""
    killed = start()
    while killed.poll() is None and not list(cache_folder().glob("step_*.py")):
        pass
    killed.kill()
    killed.communicate()
    assert finished(start())


@pytest.mark.parametrize("place", ["a file stands there", "nobody may write"])
def test_without_a_folder_to_write_to_steps_compile_all_the_same(place: str, tmp_path: Path) -> None:
    folder = tmp_path / "taken"
    folder.write_text("not a folder")
    named = folder / "steps" if place == "a file stands there" else Path("/proc/steps")
    assert finished(start(TINYGRAD_WN_CACHE=str(named)))


def test_a_folder_is_made_and_cleared() -> None:
    assert clear_cache() == 0
    step = tg.jit(lambda x: x * 1.375)
    step(tg.ones(3))
    assert len(list(cache_folder().glob("step_*.py"))) == 1
    (cache_folder() / "step_left_by_one_that_was_killed.1.2.tmp").write_text("def")
    assert clear_cache() == 1
    assert [path for path in files() if path.name.startswith("step_")] == []
    assert step(tg.ones(3)).numpy().tolist() == [1.375] * 3


def test_the_text_of_a_step_does_not_depend_on_where_objects_lie() -> None:
    """Else the machine code on disk would not be found again. A step with Adam counts for each parameter."""
    texts, kept = set(), []
    for _ in range(3):
        weights = [tg.tensor(np.ones(k), requires_grad=True) for k in range(1, 7)]
        rule = optim.Adam(weights, lr=0.1)

        @tg.jit
        def step(x: Any, weights: Any = weights, rule: Any = rule) -> Any:
            rule.zero_grad()
            loss = sum((w.sum() for w in weights), x)
            loss.backward()
            rule.step()
            return loss

        step(tg.ones(()))
        texts.add(step.source)
        kept.append(step)
    assert len(texts) == 1


def test_text_alone_decides_which_machine_code_runs() -> None:
    """Two texts that differ in a number are two modules, whatever was loaded before."""
    text = "def part_0(given, results, table, part, parts):\n    return {}\n"
    meeting, table = np.zeros(WORDS, np.int64), np.zeros(SYNC + 2, np.int64)
    table[SYNC] = address_of(meeting)
    run, *_ = callers()
    found = [run(load(text.format(n), ["part_0"])[0], 0, 0, address_of(table), 0) for n in (3, 4, 3)]
    assert found == [3, 4, 3]


def small() -> tuple[Any, Any]:
    model = nn.weight_norm(nn.Sequential(nn.Linear(4, 8, rng=0), nn.ReLU(), nn.Linear(8, 3, rng=1)))
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    @tg.jit
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = nn.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step, (tg.randn(16, 4, rng=2), tg.tensor(np.arange(16) % 3))


def test_steps_leave_nothing_behind_but_the_loss() -> None:
    step, batch = small()
    for _ in range(3):
        step(*batch)
    tracemalloc.start()
    try:
        for _ in range(50):
            step(*batch)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for _ in range(500):
            step(*batch)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 1000
    assert peak - before < 4000  # a loss, a tensor around it, and a tuple of arguments


def test_compiled_steps_are_counted_and_removed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TINYGRAD_WN_CACHE", str(tmp_path / "steps"))
    assert cli.main(["cache"]) == 0
    assert capsys.readouterr().out == f"0 compiled steps (0.0 MB) in {tmp_path / 'steps'}\n"
    tg.jit(lambda x: 3.25 * x)(tg.ones(3))
    assert cli.main(["cache"]) == 0
    assert capsys.readouterr().out.startswith("1 compiled steps")
    assert cli.main(["cache", "--clear"]) == 0
    assert list((tmp_path / "steps").glob("**/step_*")) == []
