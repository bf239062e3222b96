"""What a run leaves behind that a signal ends, in training or while it writes."""

import signal
from contextlib import suppress
from pathlib import Path

import pytest
from test_cli import FILES, SMALL, background, history, names, run

pytestmark = pytest.mark.once


def test_a_signal_leaves_the_files_of_the_last_run_whole(tmp_path: Path) -> None:
    assert run("train", *SMALL, "--out", tmp_path)[0] == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for number in (signal.SIGINT, signal.SIGKILL):
        process = background("train", "--epochs", 3000, "--batch", 1000, "--hidden", 8, "--out", tmp_path)
        assert process.stdout is not None
        while not process.stdout.readline().startswith("epoch 300/3000"):
            assert process.poll() is None
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        if number == signal.SIGINT:
            assert (process.returncode, err) == (130, "tinygrad-wn: interrupted\n")
        assert "wrote" not in out
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_was_trained_before_ctrl_c_is_written_where_there_was_no_run(tmp_path: Path) -> None:
    process = background("train", "--epochs", 3000, "--batch", 1000, "--hidden", 8, "--out", tmp_path)
    assert process.stdout is not None
    while not process.stdout.readline().startswith("epoch 300/3000"):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "tinygrad-wn: interrupted\n")
    assert "wrote weight-norm.npz, plain.npz, history.jsonl" in out
    epochs = [one["epoch"] for one in history(tmp_path)]
    assert 300 <= epochs[-1] < 3000
    assert run("eval", tmp_path / "plain.npz")[0] == 0


@pytest.mark.parametrize("swallowed", [RuntimeError("no compiled object"), KeyboardInterrupt()])
def test_an_error_after_ctrl_c_is_ctrl_c(
    swallowed: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(*_: object) -> None:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise swallowed

    monkeypatch.setattr("tinygrad_wn.train.fit", fit)
    before = signal.getsignal(signal.SIGINT)
    code, _, err = run("train", *SMALL, "--out", tmp_path)
    assert (code, err) == (130, "tinygrad-wn: interrupted\n")
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.setattr("signal.raise_signal", lambda _: None)
    if not isinstance(swallowed, KeyboardInterrupt):
        with pytest.raises(RuntimeError, match="no compiled object"):
            run("train", *SMALL, "--out", tmp_path)


@pytest.mark.parametrize("interrupted", ["io.put_in_place", "Path.replace", "plots.curves", "io.save"])
def test_an_interruption_while_writing_leaves_no_half_written_file(
    interrupted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("train", *SMALL, "--out", tmp_path)[0] == 0
    before = (tmp_path / "history.jsonl").read_bytes()

    def interrupt(*args: object) -> None:
        if isinstance(args[0], Path) and args[0].suffix == ".tmp":
            args[0].write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(f"tinygrad_wn.cli.{interrupted}", interrupt)
    code, _, err = run("train", *SMALL, "--seed", 1, "--out", tmp_path)
    monkeypatch.undo()
    assert (code, err) == (130, "tinygrad-wn: interrupted\n")
    assert names(tmp_path) == FILES
    assert ((tmp_path / "history.jsonl").read_bytes() == before) == (interrupted != "plots.curves")
    assert all(run("eval", tmp_path / file)[0] == 0 for file in FILES[2:])
