"""What the command line refuses and how it says so; its help."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from test_cli import SMALL, background, names, npz, refused, run

import tinygrad_wn as tg
from tinygrad_wn import cli
from tinygrad_wn.cli import main

pytestmark = pytest.mark.once


def test_bad_options_are_refused_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.train, "fit", pytest.fail)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "taken" / "history.jsonl").mkdir(parents=True)
    np.savez(tmp_path / "nan.npz", x=[[0.0], [np.nan]], y=[0, 1])
    np.savez(tmp_path / "one.npz", x=np.eye(9), y=np.zeros(9, int))
    np.savez(tmp_path / "objects.npz", x=np.array([None]), y=[0])
    (tmp_path / "cut.npz").write_bytes(npz(tmp_path / "whole.npz").read_bytes()[:500])
    for options, message in {
        "--layers 3": "unrecognized arguments: --layers 3; hint: tinygrad-wn COMMAND --help",
        "--epoch 3": "unrecognized arguments: --epoch 3",
        "--hidden 0": "argument --hidden: '0' is not a whole number of at least 1",
        "--hidden 8,": "argument --hidden: '' is not",
        "--hidden -1": "argument --hidden: '-1' is not",
        "--hidden 8.5": "argument --hidden: '8.5' is not",
        "--hidden 99999999999999": "Unable to allocate",
        "--batch 0": "argument --batch: '0' is not",
        "--epochs 0": "argument --epochs: '0' is not",
        "--epochs": "argument --epochs: expected one argument",
        "--seed -1": "argument --seed: '-1' is not a whole number of at least 0",
        "--lr nan": "argument --lr: 'nan' is not a finite number above 0",
        "--lr 0": "argument --lr: '0' is not",
        "--lr -0.1": "argument --lr: '-0.1' is not",
        "--lr inf": "argument --lr: 'inf' is not",
        "--lr fast": "argument --lr: 'fast' is not",
        "--momentum 1": "argument --momentum: '1' is not a number of at least 0 and below 1",
        "--momentum -1": "argument --momentum: '-1' is not",
        "--momentum 0.5 --optimizer adam": "--momentum is for --optimizer sgd; optimizer: adam",
        "--optimizer lbfgs": "invalid choice: 'lbfgs'",
        "--norm batch": "invalid choice: 'batch'",
        "--data mnist": "there is no data set 'mnist'",
        "--data missing.npz": "cannot read the file",
        "--data nan.npz": "x must hold finite float32 numbers; data: nan.npz; row: 1; column: 0; value: nan",
        "--data one.npz": "all rows have label 0",
        "--data objects.npz": "not a whole .npz file",
        "--data cut.npz": "not a whole .npz file",
        "--out file": "--out: cannot write there; folder: file; reason: File exists",
        "--out file/below": "--out: cannot write there; folder: file/below; reason: Not a directory",
        "--out /proc/nobody": "--out: cannot write there; folder: /proc/nobody",
        "--out taken": "--out: a folder is where a file has to go; folder: taken/history.jsonl",
    }.items():
        assert message in refused("train", *options.split()), options
    assert not (tmp_path / "runs").exists()


@given(st.sampled_from(["hidden", "lr", "momentum", "epochs", "batch", "seed", "norm", "data", "out"]), st.text())
def test_no_text_given_to_an_option_ends_in_a_traceback(option: str, text: str) -> None:
    refused("train", f"--{option}={text}", "--data=no-such-data", "--out=README.md")


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path: Path) -> None:
    code, _, err = run("train", *SMALL, "--lr", "1e30", "--out", tmp_path)
    assert code == 2
    assert re.fullmatch(r"tinygrad-wn: the loss is no longer finite; network: weight-norm; epoch: 1; .*--lr.*\n", err)
    assert names(tmp_path) == []


def test_a_file_that_cannot_be_written_after_all_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, _: object) -> None:
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "replace", full)
    code, _, err = run("train", *SMALL, "--out", tmp_path)
    assert code == 2
    assert re.fullmatch(
        r"tinygrad-wn: save: cannot write the file; file: \S+; reason: No space left on device; .*\n", err
    )
    assert names(tmp_path) == []


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for argv, text in {
        "--version": f"tinygrad_wn {tg.__version__}\n",
        "--help": "eval",
        "train --help": "(default: 64,32)",
        "eval --help": "MODEL",
    }.items():
        with pytest.raises(SystemExit) as left:
            main(argv.split())
        assert left.value.code == 0
        assert text in capsys.readouterr().out


def test_no_command_gives_the_help_and_2() -> None:
    code, out, err = run()
    assert (code, out) == (2, "")
    assert err.startswith("usage: tinygrad-wn ")
    assert "invalid choice: 'learn'" in refused("learn")


def test_the_package_runs_as_a_module() -> None:
    process = background("eval", "missing.npz")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err.startswith("tinygrad-wn: load: cannot read the file; ")
