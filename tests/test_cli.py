"""The command line: what it prints, what it writes, which models it refuses, and that threads do not matter."""

import io
import json
import os
import re
import signal
import statistics
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, strategies as st
from matplotlib.image import imread

import tinygrad_wn as tg
from tinygrad_wn import train
from tinygrad_wn.cli import main
from tinygrad_wn.nn import WeightNorm

pytestmark = pytest.mark.once

SMALL = ["--hidden", "8", "--epochs", "2", "--eager"]
FILES = ["curves.png", "history.jsonl", "plain.npz", "weight-norm.npz"]
ROOT = Path(__file__).parents[1]


def run(*argv: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(one) for one in argv])
    return code, out.getvalue(), err.getvalue()


def refused(*argv: object) -> str:
    """The message of a command that must end in exit code 2, one line on stderr, and nothing on stdout."""
    code, out, err = run(*argv)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"tinygrad-wn: [^\n]+\n", err)
    return err


def history(folder: Path) -> list[dict]:
    """The lines of history.jsonl, without the times: all that must be the same in every run."""
    lines = [
        json.loads(line, parse_constant=pytest.fail) for line in (folder / "history.jsonl").read_text().splitlines()
    ]
    assert all(line.pop("seconds_per_step") > 0 for line in lines)
    return lines


def states(folder: Path) -> dict[str, bytes]:
    """All numbers of the saved models, as bytes."""
    models = {path.name: tg.load(path).state_dict() for path in sorted(folder.glob("*.npz"))}
    return {f"{file} {name}": x.tobytes() for file, state in models.items() for name, x in state.items()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def npz(path: Path, rows: int = 60, features: int = 5, classes: int = 3) -> Path:
    """A data set whose classes can be told apart."""
    rng = np.random.default_rng(0)
    y = np.arange(rows) % classes
    np.savez(path, x=rng.standard_normal((rows, features)) + rng.standard_normal((classes, features))[y], y=y)
    return path


def background(*argv: object, folder: Path = ROOT, **env: str) -> subprocess.Popen:
    """`python -m tinygrad_wn` in a process of its own, with variables of the environment set."""
    command = [sys.executable, "-u", "-m", "tinygrad_wn", *map(str, argv)]
    pipe = subprocess.PIPE
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"} | env
    held = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job passes "ignore" on
    try:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True, encoding="utf-8"
        )
    finally:
        signal.signal(signal.SIGINT, held)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A small run on digits: its folder, and what it printed."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    code, out, err = run("train", *SMALL, "--out", folder)
    assert (code, err) == (0, "")
    return folder, out


def test_the_default_run_reaches_96_percent_with_and_without_weight_normalization(tmp_path: Path) -> None:
    """In a process of its own, as users start it; as it is set up."""
    process = background("train", folder=tmp_path, NUMBA_DISABLE_JIT="0")
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    folder = tmp_path / "runs" / "digits"
    assert names(folder) == FILES
    last = history(folder)[-2:]
    assert [line["network"] for line in last] == ["weight-norm", "plain"]
    assert all(line["test_accuracy"] >= 0.96 for line in last)
    cells = re.search(r"test accuracy *\S (\S+) *\S (\S+)", out)
    assert cells is not None
    assert list(cells.groups()) == [f"{line['test_accuracy']:.2%}" for line in last]


def test_the_history_has_a_line_for_each_epoch_and_network(trained: tuple[Path, str]) -> None:
    lines = history(trained[0])
    assert [(line["epoch"], line["network"]) for line in lines] == [
        (1, "weight-norm"), (1, "plain"), (2, "weight-norm"), (2, "plain")
    ]  # fmt: skip
    assert {*lines[0], "seconds_per_step"} == {field.name for field in fields(train.Record)}
    assert lines[2]["train_loss"] < lines[0]["train_loss"]
    assert [line["mean_norm_v"] is None for line in lines] == [False, True, False, True]


def test_the_last_line_of_the_history_is_what_the_saved_model_gives(trained: tuple[Path, str]) -> None:
    _, test = tg.data.split(tg.data.digits())
    for line in history(trained[0])[-2:]:
        model = tg.load(trained[0] / f"{line['network']}.npz")
        logits = model(test.x).numpy().astype(np.float64)
        chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        assert np.isclose(-np.log(chances[np.arange(len(test.y)), test.y]).mean(), line["test_loss"], rtol=1e-5)
        assert (logits.argmax(axis=1) == test.y).mean() == line["test_accuracy"]
        weights = [layer.weight for layer in (model[0], model[2])]
        parts = [[w.v, w()] if isinstance(w, WeightNorm) else [w, w] for w in weights]
        norms = np.concatenate([[np.linalg.norm(x.numpy(), axis=1) for x in both] for both in parts], axis=1)
        of_v, of_w = norms.mean(axis=1)
        assert np.isclose(of_w, line["mean_norm_w"], rtol=1e-6)
        assert line["mean_norm_v"] is None or np.isclose(of_v, line["mean_norm_v"], rtol=1e-6)


def test_the_table_shows_the_last_epoch_and_calls_norms_by_their_name(trained: tuple[Path, str]) -> None:
    normalized, plain = history(trained[0])[-2:]
    expected = {
        "test accuracy": [f"{normalized['test_accuracy']:.2%}", f"{plain['test_accuracy']:.2%}"],
        "final train loss": [f"{normalized['train_loss']:.4f}", f"{plain['train_loss']:.4f}"],
        "final test loss": [f"{normalized['test_loss']:.4f}", f"{plain['test_loss']:.4f}"],
        "mean |v| of a row": [f"{normalized['mean_norm_v']:.3f}", "(has no v)"],
        "mean |w| of a row": [f"{normalized['mean_norm_w']:.3f}", f"{plain['mean_norm_w']:.3f}"],
    }
    rows = {
        cells[1].strip(): [x.strip() for x in cells[2:4]]
        for line in trained[1].splitlines()
        if len(cells := line.split("│")) > 3
    }
    lines = [json.loads(line) for line in (trained[0] / "history.jsonl").read_text().splitlines()]
    seconds = [[line["seconds_per_step"] for line in lines[place::2]] for place in (0, 1)]
    for cell, own in zip(rows.pop("median time per step"), seconds, strict=True):
        number, unit = cell.split()
        assert float(number) == pytest.approx(statistics.median(own) * {"µs": 1e6, "ms": 1e3}[unit], abs=0.051)
    assert rows == expected


def test_without_a_terminal_there_are_plain_lines_and_no_control_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    _, out, _ = run("train", *SMALL, "--epochs", 25, "--data", "moons", "--out", tmp_path)
    assert "\x1b" not in out
    assert "\r" not in out
    epochs = re.findall(r"^epoch (\d+)/25  weight-norm: loss .*  plain: loss .*%$", out, re.MULTILINE)
    assert list(map(int, epochs)) == [*range(3, 25, 3), 25]


def test_in_a_terminal_a_bar_for_each_network_runs_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with redirect_stdout(Terminal()) as screen:
        assert main(["train", *SMALL, "--out", str(tmp_path)]) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert text != screen.getvalue()
    assert f"{'plain':11} {'━' * 16} compiling 0:00:" in text
    for line in history(tmp_path)[-2:]:
        shown = f"epoch 2/2 loss {line['train_loss']:.4f} accuracy {line['test_accuracy']:.2%} 0:00:"
        assert f"{line['network']:11} {'━' * 16} {shown}" in text
    assert max(map(len, re.split(r"[\r\n]+", text.split("wrote ")[0]))) < 80


def test_networks_trained_together_are_those_trained_alone(trained: tuple[Path, str], tmp_path: Path) -> None:
    for norm, file in (("weight", "weight-norm.npz"), ("none", "plain.npz")):
        assert run("train", *SMALL, "--norm", norm, "--out", tmp_path / norm)[0] == 0
        assert names(tmp_path / norm) == sorted(["curves.png", "history.jsonl", file])
    alone = history(tmp_path / "weight"), history(tmp_path / "none")
    assert [line for pair in zip(*alone, strict=True) for line in pair] == history(trained[0])
    assert states(tmp_path / "weight") | states(tmp_path / "none") == states(trained[0])


@given(st.lists(st.integers(1, 9), max_size=3), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**40))
def test_both_networks_start_from_the_same_weights(hidden: list[int], features: int, classes: int, seed: int) -> None:
    plan = train.Plan(
        networks=("weight-norm", "plain"),
        hidden=tuple(hidden),
        optimizer="sgd",
        lr=0.1,
        momentum=0.0,
        epochs=1,
        batch=1,
        seed=seed,
    )
    normalized, plain = train.networks(plan, features, classes).values()
    sizes = [features, *hidden, classes]
    assert [layer.weight.shape for layer in plain[::2]] == list(zip(sizes[1:], sizes[:-1], strict=True))
    for one, other in zip(normalized[::2], plain[::2], strict=True):
        np.testing.assert_array_max_ulp(one.weight().numpy(), other.weight.numpy(), 1)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(trained: tuple[Path, str], tmp_path: Path) -> None:
    for seed in (0, 1):
        assert run("train", *SMALL, "--seed", seed, "--out", tmp_path / str(seed))[0] == 0
    assert history(tmp_path / "0") == history(trained[0]) != history(tmp_path / "1")
    assert states(tmp_path / "0") == states(trained[0]) != states(tmp_path / "1")


def test_the_number_of_threads_changes_no_bit(tmp_path: Path) -> None:
    """Sums over 600 products are long enough for OpenBLAS to part them otherwise when it has more threads."""
    data = npz(tmp_path / "wide.npz", rows=200, features=600)
    for count in ("1", "2"):
        threads = {f"{name}_NUM_THREADS": count for name in ("OPENBLAS", "OMP", "MKL", "NUMBA")}
        sizes = ["--hidden", 128, "--batch", 64, "--epochs", 2]
        process = background("train", "--data", data, *sizes, "--out", tmp_path / count, **threads)
        _, err = process.communicate(timeout=300)
        assert (process.returncode, err) == (0, "")
    assert states(tmp_path / "1") == states(tmp_path / "2")
    assert history(tmp_path / "1") == history(tmp_path / "2")


def test_openblas_gets_its_threads_back(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = [7]
    library = SimpleNamespace(openblas_get_num_threads=lambda: counts[-1], openblas_set_num_threads=counts.append)
    monkeypatch.setattr("tinygrad_wn.train.ctypes.CDLL", lambda _: library)

    def stop() -> None:
        with train.one_blas_thread():
            assert counts == [7, 1]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert counts == [7, 1, 7]


def test_eval_gives_what_train_printed(trained: tuple[Path, str]) -> None:
    for line in history(trained[0])[-2:]:
        model = trained[0] / f"{line['network']}.npz"
        expected = f"test 359 rows: accuracy {line['test_accuracy']:.2%}, loss {line['test_loss']:.4f}\n"
        assert run("eval", model) == (0, f"{model} on digits, {expected}", "")
        assert run("eval", model, "--data", "digits") == run("eval", model)


def test_each_option_reaches_the_training(trained: tuple[Path, str], tmp_path: Path) -> None:
    seen = [states(trained[0])]
    for number, options in enumerate(
        [
            ["--optimizer", "adam"],
            ["--optimizer", "adamw"],
            ["--optimizer", "adamw", "--lr", "0.01"],
            ["--lr", "0.01"],
            ["--momentum", "0"],
            ["--batch", "100"],
            ["--hidden", "8,7"],
            ["--epochs", "1"],
        ]
    ):
        assert run("train", *SMALL, *options, "--out", tmp_path / str(number))[0] == 0
        seen.append(states(tmp_path / str(number)))
    assert all(one != other for i, one in enumerate(seen) for other in seen[:i])
    plan = tg.io.load_metadata(tmp_path / "4" / "plain.npz")["plan"]
    assert plan == {
        "networks": ["weight-norm", "plain"],
        "hidden": [8],
        "optimizer": "sgd",
        "lr": 0.05,
        "momentum": 0.0,
        "epochs": 2,
        "batch": 32,
        "seed": 0,
        "compiled": False,
    }


def test_curves_show_a_colour_for_each_network(trained: tuple[Path, str], tmp_path: Path) -> None:
    assert run("train", *SMALL, "--norm", "none", "--out", tmp_path)[0] == 0
    blue, orange = np.array([31, 119, 180]) / 255, np.array([255, 127, 14]) / 255

    def pixels(folder: Path, colour: np.ndarray) -> int:
        return int(np.sum(np.all(np.abs(imread(folder / "curves.png")[..., :3] - colour) < 0.01, axis=-1)))

    assert min(pixels(trained[0], blue), pixels(trained[0], orange), pixels(tmp_path, blue)) > 300
    assert pixels(tmp_path, orange) == 0


def test_without_matplotlib_everything_else_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, out, err = run("train", *SMALL, "--out", tmp_path)
    assert (code, err) == (0, "")
    assert "matplotlib is not installed" in out
    assert names(tmp_path) == FILES[1:]


def test_models_are_read_without_pickle(trained: tuple[Path, str]) -> None:
    with np.load(trained[0] / "weight-norm.npz", allow_pickle=False) as archive:
        assert all(archive[name].dtype != object for name in archive.files)


def test_bad_models_are_refused(trained: tuple[Path, str], tmp_path: Path) -> None:
    tg.save({"w": np.ones(2)}, tmp_path / "state.npz")
    tg.save(tg.nn.Sequential(), tmp_path / "empty.npz", {"data": "digits"})
    tg.save(tg.nn.Linear(64, 10), tmp_path / "half.npz", {"data": "digits"})
    tg.save(tg.nn.Linear(64, 3), tmp_path / "few.npz", {"data": "digits", "split": {"test": 0.2, "seed": 0}})
    for model, options, message in [
        ("missing.npz", [], "cannot read the file"),
        (".", [], "cannot read the file"),
        (npz(tmp_path / "foreign.npz"), [], "not a file by tg.save"),
        ("state.npz", [], "holds arrays, not a model"),
        ("empty.npz", ["--data", "moons"], "the model and the data do not fit together"),
        ("half.npz", [], "does not say which rows are for the test"),
        ("few.npz", [], "target names a class that logits do not have"),
        (trained[0] / "plain.npz", ["--data", "moons"], "features of the model: 64; features of the data: 2"),
        (trained[0] / "plain.npz", ["--data", "missing.npz"], "cannot read the file"),
    ]:
        assert message in refused("eval", tmp_path / model, *options)


@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_model_is_refused(share: float, trained: tuple[Path, str]) -> None:
    raw = (trained[0] / "plain.npz").read_bytes()
    cut = trained[0].parent / "cut.npz"
    cut.write_bytes(raw[: int(share * len(raw))])
    assert "not a whole file by tg.save" in refused("eval", cut)


def test_the_eager_run_learns_what_the_compiled_one_does(tmp_path: Path) -> None:
    for name, more in {"compiled": [], "eager": ["--eager"]}.items():
        options = ["--data", "moons", "--hidden", "4", "--epochs", "2", "--out", tmp_path / name]
        assert run("train", *options, *more)[0] == 0
    one, other = (tg.load(tmp_path / name / "weight-norm.npz").state_dict() for name in ("compiled", "eager"))
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], rtol=1e-5, atol=1e-6)
