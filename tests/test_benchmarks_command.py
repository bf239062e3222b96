"""The command of the benchmarks: figures and machine, charts and pages, whole files, options."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from benchmarks import chart, files, page, peers
from benchmarks.command import main
from benchmarks.peers import OURS, PEERS
from benchmarks.tables import tables
from tinygrad_wn import cli

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Exit code, JSON and PNG of a command that measures moons, in processes as a user starts it."""
    folder = tmp_path_factory.mktemp("measured")
    options = ["steps", "--workload", "moons", "--contender", f"{OURS},numpy", "--threads", "1", "--rounds", "2"]
    code = main([*options, "--json", str(folder / "figures.json"), "--plot", str(folder / "chart.png")])
    assert sorted(path.name for path in folder.iterdir()) == ["chart.png", "figures.json"]
    return code, json.loads((folder / "figures.json").read_text(encoding="utf-8")), folder / "chart.png"


def test_a_peer_that_is_not_installed_is_named_and_skipped(monkeypatch, capsys):
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    assert main(["memory", "--contender", "torch,sklearn", "--workload", "moons"]) == 0
    out = capsys.readouterr().out
    assert "torch is skipped: torch is not installed" in out
    assert "sklearn is skipped: sklearn is not installed" in out


def test_torch_compile_needs_a_compiler(monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda name: "there")
    monkeypatch.setattr(peers.shutil, "which", lambda name: None)
    assert PEERS["torch.compile"].lacks() == "there is no C++ compiler"
    assert PEERS["torch"].lacks() is None


def test_a_command_writes_figures_and_the_machine(measured):
    code, results, _ = measured
    assert code == 0
    assert results["errors"] == results["skipped"] == {}
    assert results["machine"]["versions"]["numpy"] == np.__version__
    assert results["machine"]["cores"] >= 1
    assert results["machine"]["vector_bytes"] in {16, 32, 64}
    rows = results["suites"]["steps"]
    assert len(rows) == 4
    assert {"workload", "contender", "threads", "normalized", "microseconds", "ratio", "cores"} <= rows[0].keys()


def test_a_chart_is_a_picture(measured):
    assert imread(measured[2]).shape[1] > 1000


def test_a_chart_shows_growth_beside_the_steps(measured):
    rows = [
        {**row, "axis": axis, "value": value}
        for axis in ("batch", "width", "depth")
        for value in (1, 2, 4)
        for row in measured[1]["suites"]["steps"]
    ]
    both = {**measured[1], "suites": {**measured[1]["suites"], "growth": rows}}
    alone = {**measured[1], "suites": {"growth": rows}}
    assert chart.draw(both)[:8] == chart.draw(alone)[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(chart.draw(both)) > len(chart.draw(alone))


def test_a_table_shows_every_figure(measured):
    best, table = tables("steps", measured[1]["suites"]["steps"])
    (row,) = best.rows
    assert len(row) == len(best.headings) == 3
    assert float(row[2].split()[0]) > 0
    assert [row[:2] for row in table.rows] == [[OURS, "1"], ["numpy", "1"]]
    assert all(len(row) == len(table.headings) for row in table.rows)


MARKS = {
    "README.md": [("chart", page.BENCHMARKS), ("matrix", page.MATRIX)],
    "docs/benchmarks.md": [("figures", page.BENCHMARKS)],
    "docs/conformance.md": [("matrix", page.MATRIX), ("examples", page.MATRIX)],
}
MATRIX = {
    "versions": {"ours": "1.0", "torch": "2.0"},
    "verdicts": {
        "ours": {"values": {"status": "right", "reason": "", "failures": []}},
        "torch": {"values": {"status": "wrong", "reason": "", "failures": [{"what": "w is NaN", "code": "print(w)"}]}},
    },
}


@pytest.fixture
def pages(tmp_path):
    """A folder with pages that hold nothing but marks around old figures."""
    (tmp_path / "docs").mkdir()
    for name, marks in MARKS.items():
        old = "".join(
            f"<!-- {mark}: python -m benchmarks --docs {kept} -->\nold {mark}\n<!-- end of {mark} -->\n\n"
            for mark, kept in marks
        )
        (tmp_path / name).write_text(f"# Title\n\n{old}more\n", encoding="utf-8")
    return tmp_path


def texts(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*.*"))}


def test_figures_go_between_the_marks_of_pages_and_nothing_else_changes(measured, pages):
    source = pages / "figures.json"
    source.write_text(json.dumps(measured[1]), encoding="utf-8")
    page.publish(source, pages)
    once = texts(pages)
    figures, readme = once["benchmarks.md"].decode(), once["README.md"].decode()
    assert figures.startswith("# Title\n\n<!-- figures: ")
    assert figures.endswith("<!-- end of figures -->\n\nmore\n")
    assert "| numpy | 1 |" in figures
    assert "old figures" not in figures
    assert "old chart" not in readme
    assert "old matrix" in readme
    assert measured[1]["machine"]["cpu"] in readme
    assert chart.identity(measured[1]).encode() in once["benchmarks.svg"]
    assert once["benchmarks.json"] == source.read_bytes()
    page.publish(source, pages)
    assert texts(pages) == once


def test_a_matrix_goes_between_the_marks_of_pages_and_nothing_else_changes(pages):
    source = pages / "matrix.json"
    source.write_text(json.dumps(MATRIX), encoding="utf-8")
    page.publish(source, pages)
    found = texts(pages)
    readme, conformance = found["README.md"].decode(), found["conformance.md"].decode()
    assert "| values | ✓ | ✗ |" in readme
    assert "old chart" in readme
    assert "| values | ✓ | ✗ |\n\nWith ours 1.0, torch 2.0." in conformance
    assert "```text\ntorch, values: w is NaN\n    print(w)\n```" in conformance
    assert b"old figures" in found["benchmarks.md"]
    assert "benchmarks.svg" not in found
    assert found["conformance.json"] == source.read_bytes()


@pytest.mark.parametrize("content", ["{}", "[]", "not JSON", '{"machine": 1}', '{"verdicts": {}}', '{"verdicts": 1}'])
def test_pages_stay_as_they_are_when_the_figures_are_none(content, pages):
    source = pages / "figures.json"
    source.write_text(content, encoding="utf-8")
    before = texts(pages)
    with pytest.raises(page.PageError, match="not a file that"):
        page.publish(source, pages)
    assert texts(pages) == before


def test_a_page_without_marks_is_refused_and_no_page_changes(measured, pages):
    source = pages / "figures.json"
    source.write_text(json.dumps(measured[1]), encoding="utf-8")
    (pages / "README.md").write_text("no marks\n", encoding="utf-8")
    before = texts(pages)
    with pytest.raises(page.PageError, match=r"README\.md: lacks the marks"):
        page.publish(source, pages)
    assert texts(pages) == before


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["speed"], "'speed' is not one of steps"),
        (["--workload", "moon"], "'moon' is not one of moons"),
        (["--contender", "torch,"], "'' is not one of"),
        (["--threads", "0"], "at least 1"),
        (["--threads", "1000000"], "this machine has"),
        (["--rounds", "0"], "at least 1"),
        (["--rounds", "many"], "at least 1"),
        (["--norm", "batch"], "invalid choice"),
        (["--json", "no/such/folder/figures.json"], "No such file"),
        (["--json", "."], "is a folder"),
        (["--plot", "no/such/folder/chart.png"], "No such file"),
        (["--docs", "no-such.json"], "No such file"),
    ],
)
def test_bad_options_end_in_one_line(options, what, capsys):
    assert main(options) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("benchmarks: ")
    assert what in err
    assert err.count("\n") == 1


def test_a_chart_needs_matplotlib(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(chart, "find_spec", lambda name: None)
    assert main(["--plot", str(tmp_path / "chart.png")]) == 2
    assert "matplotlib" in capsys.readouterr().err


def test_a_failed_contender_makes_the_exit_code_1(monkeypatch, capsys):
    def failing(plan):
        plan.errors["numpy"] = "start: loss is off"
        return []

    monkeypatch.setitem(main.__globals__["SUITES"], "steps", failing)
    assert main(["steps", "--contender", "numpy"]) == 1
    assert "FAILED numpy: start: loss is off" in capsys.readouterr().out


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "figures.json"
    files.write_whole(path, b"old")

    def fails(self, target):
        raise OSError("disk on fire")

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OSError, match="disk on fire"):
        files.write_whole(path, b"new")
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("figures.json", b"old")]


def test_the_command_line_of_the_package_hands_over(capsys):
    assert cli.main(["bench", "--rounds", "0"]) == 2
    assert capsys.readouterr().err.startswith("benchmarks: argument --rounds")


def test_the_command_line_of_an_installed_package_asks_for_a_clone(monkeypatch, capsys):
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    assert cli.main(["bench"]) == 2
    err = capsys.readouterr().err
    assert "clone" in err
    assert err.count("\n") == 1
