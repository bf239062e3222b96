"""`tinygrad-wn eval`: which data it finds, which rows it scores."""

from pathlib import Path

import numpy as np
import pytest
from test_cli import SMALL, history, npz, refused, run

import tinygrad_wn as tg
from tinygrad_wn import train


def test_eval_finds_the_data_of_a_model_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    npz(tmp_path / "mine.npz")
    assert run("train", *SMALL, "--data", "mine.npz")[0] == 0
    (tmp_path / "elsewhere").mkdir()
    _, here, _ = run("eval", "runs/mine/plain.npz", "--data", "mine.npz")
    assert " test 12 rows: " in here
    monkeypatch.chdir(tmp_path / "elsewhere")
    _, there, _ = run("eval", "../runs/mine/plain.npz")
    assert there.split(" rows: ")[1] == here.split(" rows: ")[1]


def test_eval_scores_all_rows_of_other_data(tmp_path: Path) -> None:
    whole, other = npz(tmp_path / "one.npz"), npz(tmp_path / "two.npz", rows=90)
    assert run("train", *SMALL, "--data", whole, "--out", tmp_path)[0] == 0
    code, out, _ = run("eval", tmp_path / "plain.npz", "--data", other)
    rows = tg.data.load(other)
    right = np.mean(tg.load(tmp_path / "plain.npz")(rows.x).numpy().argmax(axis=1) == rows.y)
    assert code == 0
    assert f"{other}, all 90 rows: accuracy {right:.2%}, " in out


def test_tables_are_data_too_and_eval_finds_their_test_rows_again(tmp_path: Path) -> None:
    rows = tg.data.load(npz(tmp_path / "some.npz"))
    lines = [",".join(map(repr, [*map(float, x), int(y)])) for x, y in zip(rows.x, rows.y, strict=True)]
    (tmp_path / "some.csv").write_text("\n".join(["a,b,c,d,e,label", *lines]))
    assert run("train", *SMALL, "--data", tmp_path / "some.csv", "--out", tmp_path)[0] == 0
    assert run("train", *SMALL, "--data", tmp_path / "some.npz", "--out", tmp_path / "same")[0] == 0
    assert history(tmp_path) == history(tmp_path / "same")
    assert ", test 12 rows: " in run("eval", tmp_path / "plain.npz")[1]


def test_eval_switches_dropout_off_and_takes_models_that_python_saved(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    tg.save(tg.nn.Sequential(tg.nn.Dropout(0.9), tg.nn.Linear(64, 10, rng=0)), path)
    assert run("eval", path, "--data", "digits") == run("eval", path, "--data", "digits")
    assert " all 1797 rows: " in run("eval", path, "--data", "digits")[1]
    assert "give --data" in refused("eval", path)


def test_score_does_not_depend_on_where_its_blocks_end(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = tg.nn.Linear(64, 10, rng=0), tg.data.digits()
    monkeypatch.setattr(train, "BLOCK", len(rows.y))
    loss, accuracy = train.score(model, rows)
    monkeypatch.setattr(train, "BLOCK", 7)
    assert train.score(model, rows) == (pytest.approx(loss, rel=1e-6), accuracy)


def test_eval_finds_that_the_data_changed(tmp_path: Path) -> None:
    rows = tg.data.load(npz(tmp_path / "some.npz"))
    assert run("train", *SMALL, "--data", tmp_path / "some.npz", "--out", tmp_path)[0] == 0
    changed = rows.x.copy()
    changed[3, 1] += 1
    for x, y in ((rows.x[1:], rows.y[1:]), (changed, rows.y)):
        np.savez(tmp_path / "some.npz", x=x, y=y)
        assert "the data changed since the training" in refused("eval", tmp_path / "plain.npz")
