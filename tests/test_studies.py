"""Studies: what must hold for a comparison to be fair, statistics, and the command."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from rich.progress import Progress

import tinygrad_wn as tg
from tinygrad_wn import cli
from tinygrad_wn.data import Dataset
from tinygrad_wn.studies import STUDIES, classification, classification_report
from tinygrad_wn.studies.classification import Settings, compare
from tinygrad_wn.studies.intervals import interval, student
from tinygrad_wn.studies.methods import BATCH, FROM_DATA, METHODS, WEIGHT, network
from tinygrad_wn.studies.page import page
from tinygrad_wn.studies.training import Trainer, epoch

pytestmark = pytest.mark.once

TINY = Settings(hidden=(5, 4), batch=32, epochs=2, steps=20, rates=(0.001, 0.1), tuning_runs=2, runs=2, timing=2)
MOONS = tg.data.split(tg.data.moons(300, rng=0))
RESULTS = sorted((Path(__file__).parent.parent / "docs" / "studies").glob("*.json"))
TIMES = ("seconds", "seconds_per_epoch", "relative_time")


def timeless(found: Any) -> Any:
    """A result without times."""
    if isinstance(found, dict):
        return {key: timeless(value) for key, value in found.items() if key not in TIMES}
    return found


class Seen:
    """Batches that each trainer was given, in order, and the rates and seeds that it was started with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: dict[str, list[Any]] = {}
        self.starts: dict[str, list[Any]] = {}
        for name, kept in {"epoch": self.batches, "start": self.starts}.items():
            monkeypatch.setattr(Trainer, name, self.watched(getattr(Trainer, name), kept))

    def watched(self, function: Any, kept: dict[str, list[Any]]) -> Any:
        def watch(trainer: Trainer, *args: Any, **kwargs: Any) -> Any:
            kept.setdefault(trainer.method, []).append(args)
            return function(trainer, *args, **kwargs)

        return watch


def compared(train: Dataset, test: Dataset, seed: int = 0) -> dict[str, Any]:
    return compare("moons", train, test, TINY, seed, Progress(disable=True))


@pytest.fixture(scope="module")
def tiny() -> Iterator[tuple[dict[str, Any], Seen]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classification, "SHORTEST", 0.0)
        seen = Seen(patch)
        yield compared(*MOONS), seen


# The comparison is fair


def test_the_learning_rate_is_chosen_without_the_test_rows(tiny: tuple[dict[str, Any], Seen]) -> None:
    """With other test rows, all is the same but the errors on them; so the same seed gives the same result."""
    train, test = MOONS
    other = compared(train, Dataset(test.x, 1 - test.y, test.classes))
    for method, one in tiny[0]["methods"].items():
        its = other["methods"][method]
        assert (its["tuning"], its["rate"]) == (one["tuning"], one["rate"])
        assert its["curve"]["train_loss"] == one["curve"]["train_loss"]
        assert_allclose(its["errors"], 1 - np.array(one["errors"]), rtol=1e-12)


def test_all_methods_see_the_same_batches_and_get_the_same_budget(tiny: tuple[dict[str, Any], Seen]) -> None:
    seen = tiny[1]
    assert set(seen.batches) == set(seen.starts) == set(METHODS)
    training = TINY.epochs * (len(TINY.rates) * TINY.tuning_runs + TINY.runs)
    normal = seen.batches["normal"][:training]
    for method in METHODS:
        for (xs, ys), (x, y) in zip(seen.batches[method][:training], normal, strict=True):
            assert_array_equal(xs, x)
            assert_array_equal(ys, y)
        tuning, runs = seen.starts[method][:4], seen.starts[method][4:6]
        assert [rate for _, rate in tuning] == [0.001, 0.001, 0.1, 0.1]
        assert {rate for _, rate in runs} == {tiny[0]["methods"][method]["rate"]}
        assert [seed for seed, _ in runs] == [(0, 1, 0, 0), (0, 1, 1, 0)]
        assert not {seed for seed, _ in runs} & {seed for seed, _ in tuning}


def test_batches_hold_training_rows_and_in_tuning_none_for_validation(tiny: tuple[dict[str, Any], Seen]) -> None:
    rows, (train, test) = tiny[0]["rows"], MOONS
    assert rows == {"train": 240, "of them for validation": 48, "test": 60}
    tuning = TINY.epochs * len(TINY.rates) * TINY.tuning_runs
    batches = tiny[1].batches["normal"]
    used = [{x.tobytes() for xs, _ in part for x in xs.reshape(-1, 2)} for part in (batches[:tuning], batches)]
    assert used[0] < used[1] == {x.tobytes() for x in train.x}
    assert len(used[0]) == 192
    assert not used[1] & {x.tobytes() for x in test.x}


def test_the_best_rate_is_that_of_the_lowest_error_then_the_lowest_loss(tiny: tuple[dict[str, Any], Seen]) -> None:
    for one in tiny[0]["methods"].values():
        best = min(one["tuning"], key=lambda its: (its["error"], its["loss"]))
        assert one["rate"] == best["rate"]
    assert {one["rate"] for one in tiny[0]["methods"].values()} == {0.1}  # 0.001 takes far more steps


def test_intervals_and_paired_differences_are_those_of_the_errors(tiny: tuple[dict[str, Any], Seen]) -> None:
    methods = tiny[0]["methods"]
    for one in methods.values():
        assert one["error"] == interval(one["errors"])
        assert one["difference"] == interval(np.subtract(one["errors"], methods["normal"]["errors"]).tolist())
        assert one["curve"]["error"][-1] == pytest.approx(np.mean(one["errors"]))
        assert len(one["curve"]["error"]) == tiny[0]["epochs"] == TINY.epochs
    assert methods["normal"]["relative_time"]["median"] == 1


def test_large_data_gets_fewer_epochs() -> None:
    """20 steps are 4 epochs of 160 rows in batches of 32; at least one is done, and no more than `epochs`."""
    assert [classification._epochs(tg.data.moons(n, rng=0), replace(TINY, epochs=9)) for n in (64, 160, 3200)] == [
        9,
        4,
        1,
    ]


def test_times_are_those_of_the_fastest_epochs_in_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that each epoch moves by what it takes, and every second one by ten times as much."""
    now = [0.0]
    monkeypatch.setattr(classification, "perf_counter", lambda: now[0])

    class Clocked:
        def __init__(self, seconds: float) -> None:
            self.seconds, self.epochs = seconds, 0

        def start(self, seed: object, lr: float) -> None: ...

        def epoch(self, xs: object, ys: object) -> None:
            self.epochs += 1
            now[0] += self.seconds * (10 if self.epochs % 2 else 1)

    trainers: dict[str, Any] = {"normal": Clocked(0.25), "slow": Clocked(0.5)}
    bar = Progress(disable=True)
    found = classification._times(trainers, MOONS[0], TINY, 0, bar, bar.add_task(""))
    assert found["slow"] == {"seconds_per_epoch": 0.5, "relative_time": {"median": 2.0, "quartiles": [2.0, 2.0]}}
    assert trainers["slow"].epochs == 1 + 3 * TINY.timing


# Methods


@pytest.mark.parametrize("seed", [0, (1, 2)])
def test_all_methods_start_from_the_same_directions(seed: Any) -> None:
    x = MOONS[0].x[:50]
    rows = {}
    for method in METHODS:
        linear = [layer for layer in network(method, (2, 5, 4, 2), seed, x) if isinstance(layer, tg.nn.Linear)]
        weights = [layer.weight.v if method in WEIGHT else layer.weight for layer in linear]
        rows[method] = [w.numpy() / np.linalg.norm(w.numpy(), axis=1, keepdims=True) for w in weights]
        assert [layer.bias is None for layer in linear] == [method in BATCH] * 2 + [False]
    for method in METHODS:
        for one, normal in zip(rows[method], rows["normal"], strict=True):
            assert_allclose(one, normal, rtol=1e-5)


def test_weight_norm_starts_as_the_function_that_normal_with_data_init_is() -> None:
    x = MOONS[0].x[:50]
    first, second = (network(method, (2, 5, 4, 2), 3, x)(x).detach().numpy() for method in METHODS[1:3])
    assert_allclose(first, second, rtol=1e-4, atol=1e-5)
    assert_allclose(first.mean(axis=0), 0, atol=1e-5)
    assert_allclose(first.std(axis=0), 1, rtol=1e-4)
    assert METHODS[1] in FROM_DATA


def test_a_trainer_that_starts_again_is_as_a_new_one() -> None:
    """Also its running means, and what the optimizer remembers."""
    train = MOONS[0]
    x, method = train.x[:32], "weight norm + mean-only"
    used = Trainer(method, (2, 5, 4, 2), x)
    used.start((9, 9), 0.1)
    used.epoch(*epoch(train, 32, 9))
    used.start((1, 2), 0.05)
    new = Trainer(method, (2, 5, 4, 2), x)
    new.start((1, 2), 0.05)
    for number in range(2):
        assert_array_equal(used.epoch(*epoch(train, 32, number)), new.epoch(*epoch(train, 32, number)))
    assert used.score(train) == new.score(train)
    eager = network(method, (2, 5, 4, 2), (1, 2), x)
    rule = tg.optim.Adam(eager.parameters(), 0.05)
    new.start((1, 2), 0.05)
    losses = []
    for xs, ys in zip(*epoch(train, 32, 0), strict=True):
        rule.zero_grad()
        loss = tg.cross_entropy(eager(xs), ys)
        loss.backward()
        rule.step()
        losses.append(loss.item())
    assert_allclose(new.epoch(*epoch(train, 32, 0)), losses, rtol=1e-4)


@pytest.mark.parametrize("method", ["normal", "weight norm"])
def test_training_that_diverges_is_an_error_of_one_and_the_next_run_is_as_ever(method: str) -> None:
    train, test = MOONS
    trainer = Trainer(method, (2, 5, 4, 2), train.x[:32])
    before = classification._train(trainer, train, (0,), 0.05, TINY, test)
    lost = classification._train(trainer, train, (0,), 1e30, TINY, test)
    assert lost[-1].tolist() == [math.inf, 1.0, math.inf]
    assert_array_equal(classification._train(trainer, train, (0,), 0.05, TINY, test), before)


def test_an_epoch_is_rows_of_the_data_with_their_labels_each_at_most_once() -> None:
    rows = Dataset(np.arange(10)[:, None], np.arange(10))
    xs, ys = epoch(rows, 3, 0)
    assert (xs.shape, ys.shape) == ((3, 3, 1), (3, 3))
    assert_array_equal(xs[:, :, 0], ys)
    assert len(np.unique(ys)) == 9
    assert (epoch(rows, 3, 1)[1] != ys).any()


# Statistics


@given(st.floats(0.01, 0.99))
def test_student_t_is_as_where_it_has_a_closed_form(level: float) -> None:
    assert student(1, level) == pytest.approx(math.tan(math.pi * level / 2), rel=1e-5)
    assert student(2, level) == pytest.approx(level * math.sqrt(2 / (1 - level**2)), rel=1e-5)
    assert student(100_000, level) == pytest.approx(NormalDist().inv_cdf((1 + level) / 2), rel=1e-3)


def test_intervals_hold_the_mean_as_often_as_they_say() -> None:
    """Of 4 000 intervals, 95 % do: within four standard errors of that share."""
    found = np.random.default_rng(0).normal(3, 2, (4000, 5))
    held = np.mean([abs(one["mean"] - 3) <= one["half_width"] for one in map(interval, found.tolist())])
    assert abs(held - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 4000)


# What is said of a result


@given(st.floats(-0.1, 0.1), st.floats(0.001, 0.1), st.floats(0.5, 3))
@settings(max_examples=50)
def test_the_verdict_follows_the_interval(mean: float, half: float, ratio: float) -> None:
    its = {
        "difference": {"mean": mean, "half_width": half},
        "relative_time": {"median": ratio, "quartiles": [0.5, ratio]},
    }
    text = classification_report._verdict("weight norm", its)
    assert ("no difference to normal is shown" in text) == (mean - half <= 0 <= mean + half)
    assert ("lower error than normal" in text) == (mean + half < 0)
    assert ("higher error than normal" in text) == (mean - half > 0)
    assert f"takes {ratio:.2f} times as long (quartiles 0.50 and {ratio:.2f})" in text


def test_tables_sentences_and_pictures_show_the_result(tiny: tuple[dict[str, Any], Seen]) -> None:
    result = {"settings": {"runs": 2, "rates": [0.001, 0.1]}, "data": {"moons": tiny[0]}}
    (table,) = STUDIES["classification"].tables(result)
    assert [*table.columns[0].cells] == list(METHODS)
    assert [*table.columns[1].cells] == ["0.1"] * 6
    errors = [100 * one["error"]["mean"] for one in tiny[0]["methods"].values()]
    assert [str(cell).split(" ±")[0] for cell in table.columns[2].cells] == [f"{one:.2f}" for one in errors]
    sentences = " ".join(STUDIES["classification"].summary(result))
    for method in METHODS[1:]:
        assert f"moons: {method}: " in sentences
    assert "at the edge of the rates that were tried: normal" in sentences
    assert "8.43 %" in sentences
    figure = STUDIES["classification"].draw(result)
    assert figure.axes[0].get_title() == "moons: test error by epoch"
    assert_allclose(figure.axes[0].lines[2].get_ydata() / 100, tiny[0]["methods"]["weight norm"]["curve"]["error"])
    seconds = tiny[0]["methods"]["weight norm"]["seconds_per_epoch"]
    assert_allclose(figure.axes[1].lines[2].get_xdata(), seconds * np.arange(1, 3))


# The command


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    code = cli.main(["study", *map(str, argv)])
    return code, *capsys.readouterr()


def test_a_study_writes_json_and_a_picture_and_is_the_same_for_the_same_seed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tiny: tuple[dict[str, Any], Seen],
) -> None:
    monkeypatch.setattr(classification, "QUICK", TINY)
    monkeypatch.setattr(classification, "SHORTEST", 0.0)
    np.savez(
        tmp_path / "moons.npz",
        x=np.concatenate([part.x for part in MOONS]),
        y=np.concatenate([part.y for part in MOONS]),
    )
    monkeypatch.setattr(classification, "train_test", lambda _: MOONS)
    monkeypatch.setattr(classification, "_scaled", lambda *parts: parts)
    code, out, err = run(capsys, "classification", "--quick", "--data", "moons", "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert "moons: tuning\nmoons: training\nmoons: timing\n" in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"classification.{kind}" for kind in ("json", "md", "png")
    ]
    result = json.loads((tmp_path / "out" / "classification.json").read_text(), parse_constant=pytest.fail)
    assert (result["study"], result["quick"], result["seed"]) == ("classification", True, 0)
    assert result["command"] == "tinygrad-wn study classification --quick --data moons"
    shown = (tmp_path / "out" / "classification.md").read_text(encoding="utf-8")
    assert shown == page(STUDIES["classification"], result)
    assert "By `tinygrad-wn study classification --quick --data moons` in " in shown
    assert "\n\nmoons: 240 rows to train on, 60 to test, 2-5-4-2, 2 epochs:\n\n| method |" in shown
    assert "| weight norm | 0.1 |" in shown
    assert result["environment"]["versions"]["numpy"] == np.__version__
    assert timeless(result["data"]["moons"]) == json.loads(json.dumps(timeless(tiny[0])))


def test_help_lists_the_studies_with_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["study", "--help"])
    out = " ".join(capsys.readouterr().out.split())
    for name, study in STUDIES.items():
        assert f"{name} {(study.__doc__ or '').splitlines()[0].rstrip('.')}" in out


def test_what_is_wrong_with_a_command_is_said_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(classification, "compare", pytest.fail)
    (tmp_path / "file").touch()
    out = ["--out", tmp_path / "out"]
    for argv, text in {
        ("nothing",): "invalid choice: 'nothing'",
        (): "NAME",
        ("classification", "--data", "nothing", *out): "there is no data set 'nothing'",
        ("classification", "--data", tmp_path / "none.csv", *out): "cannot read the file",
        ("classification", "--seed", "-1", *out): "not a whole number",
        ("classification", "--out", tmp_path / "file"): "cannot write there",
    }.items():
        code, shown, err = run(capsys, *argv)
        assert (code, shown, err.count("\n")) == (2, "", 1)
        assert text in err


def test_rows_are_divided_by_the_largest_number_of_those_for_training() -> None:
    train, test = (Dataset(np.array(x), np.array([0, 1])) for x in ([[2.0], [-4.0]], [[1.0], [8.0]]))
    for part, wanted in zip(classification._scaled(train, test), ([[0.5], [-1.0]], [[0.25], [2.0]]), strict=True):
        assert_array_equal(part.x, wanted)


@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parent.parent / "docs" / "studies").glob("*.json")), ids=lambda p: p.stem
)
def test_pages_of_studies_hold_what_their_results_say(file: Path) -> None:
    result = json.loads(file.read_text(encoding="utf-8"))
    assert (result["study"], result["quick"]) == (file.stem, False)
    assert file.with_suffix(".md").read_text(encoding="utf-8") == page(STUDIES[file.stem], result)
    assert file.with_suffix(".png").stat().st_size > 10_000
