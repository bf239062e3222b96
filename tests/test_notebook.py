"""The notebook: both files are those of the source, the solution passes every check, and each hole is named."""

import ast
import importlib.util
import re
from functools import partial

import numpy as np
import pytest
from student_mistakes import ALTERNATIVES, MISTAKES, PARTS
from test_project import METADATA, ROOT

from tinygrad_wn.errors import ValueRangeError
from tinygrad_wn.testing import autograder
from tinygrad_wn.testing.autograder import example
from tinygrad_wn.testing.autograder.search import smallest_failure
from tinygrad_wn.testing.conformance import judge

pytestmark = pytest.mark.once

FOLDER = ROOT / "docs" / "notebook"
SPEC = importlib.util.spec_from_file_location("make", FOLDER / "make.py")
make = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(make)
BOOKS = make.notebooks(make.SOURCE.read_text(encoding="utf-8"))
HANDOUT, SOLUTION = BOOKS["handout.ipynb"], BOOKS["solution.ipynb"]


def run(cell, space):
    """Run a cell, and give the value of its last line, as Jupyter does."""
    tree = ast.parse(cell.source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, cell.id, "exec"), space)
    return last and eval(compile(ast.Expression(last.value), cell.id, "eval"), space)


def pairs():
    """Code cells of the handout, with those of the solution."""
    both = zip(HANDOUT.cells, SOLUTION.cells, strict=True)
    return [(hole, whole) for hole, whole in both if hole.cell_type == "code"]


def is_check(text):
    """Whether the text of a cell ends in a check; not the one that shows a mistake."""
    return "autograder.check" in text and "lambda" not in text


@pytest.mark.parametrize("name", BOOKS)
def test_the_notebook_is_what_the_source_gives(name):
    found = (FOLDER / name).read_text(encoding="utf-8")
    assert found == make.nbformat.writes(BOOKS[name]) + "\n", "run python docs/notebook/make.py"


def test_the_handout_has_no_solution_and_the_solution_no_holes():
    holes = [cell for cell, _ in pairs() if "NotImplementedError" in cell.source]
    text, answers = (make.nbformat.writes(book) for book in (HANDOUT, SOLUTION))
    assert len(holes) == 15
    assert text.count(make.ANSWER) == 7
    assert make.ANSWER not in answers
    assert "raise NotImplementedError" not in answers
    assert not re.search("(BEGIN|END) SOLUTION", text + answers)
    for line in ("(1.0, 1.0)", "By Pythagoras", "order.append", "ct @ b.T", "np.frexp(top)[1]\\n"):
        assert line in answers
        assert line not in text


def test_the_checks_of_the_notebook_are_those_that_mistakes_are_tried_on():
    found = [text.splitlines()[-1] for text in (cell.source for cell, _ in pairs()) if is_check(text)]
    assert found == [f"autograder.{check}" for check in PARTS.values()]


def test_the_extra_brings_what_the_checks_import():
    assert any(name.startswith("hypothesis") for name in METADATA["project"]["optional-dependencies"]["notebook"])


def test_every_exercise_is_not_yet_written_in_the_handout_and_right_in_the_solution(monkeypatch):
    monkeypatch.setattr(example, "TOLERANCE", 1e-3 * example.TOLERANCE)  # of which rounding leaves that much
    space, checks, written = {}, 0, []
    for hole, whole in pairs():
        if is_check(hole.source):
            assert written, "a check needs an exercise before it"
            report = run(hole, space)
            assert report.status == "not yet"
            assert re.match(r"[\w.]+ still raises NotImplementedError\.$", report.lines[0])
            for cell in written:
                run(cell, space)
            assert run(whole, space).passed
            written, checks = [], checks + 1
        elif "NotImplementedError" in hole.source:
            run(hole, space)
            written.append(whole)
        else:
            run(whole, space)
    assert checks == 15
    final = space["normalized_history"][-1]
    assert final[1] > 0.9
    for mine, other in zip(space["layers"], space["theirs"], strict=True):
        for p, q in zip(mine, other, strict=True):
            np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=0, atol=1e-12)


def test_the_handout_runs_from_top_to_bottom_with_every_hole_open():
    space = {}
    for cell, _ in pairs():
        if "raises-exception" in cell.metadata.get("tags", []):
            with pytest.raises((NotImplementedError, NameError)):
                run(cell, space)
        elif is_check(cell.source):
            assert run(cell, space).status == "not yet"
        else:
            run(cell, space)


def solved(part, right="", wrong=""):
    """What the solution defines up to the check of this part, with one change of text that must be there."""
    whole = ""
    for cell in (cell.source for _, cell in pairs()):
        if f"autograder.{PARTS[part]}" in cell:
            whole += cell.replace(f"autograder.{PARTS[part]}", "")
            break
        whole += "" if is_check(cell) or "print(" in cell else f"{cell}\n\n"
    assert right in whole
    space = {}
    exec(whole.replace(right, wrong, 1), space)
    return space


@pytest.mark.parametrize(("part", "right", "wrong"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_found(part, right, wrong, monkeypatch):
    monkeypatch.setattr(example, "smallest_failure", partial(smallest_failure, shrink=False))
    monkeypatch.setattr(judge, "judge", partial(judge.judge, shrink=False))
    report = eval(f"autograder.{PARTS[part]}", solved(part, right, wrong))
    assert report.status == "wrong", report


@pytest.mark.parametrize(("part", "right", "other"), ALTERNATIVES.values(), ids=ALTERNATIVES)
def test_another_way_to_be_right_passes(part, right, other, monkeypatch):
    monkeypatch.setattr(autograder, "FOR_EACH_OP", 0)
    assert eval(f"autograder.{PARTS[part]}", solved(part, right, other)).passed


def test_the_smallest_example_is_shown_in_words_of_a_student():
    space = solved("value", "parent.grad += node.grad * slope", "parent.grad = node.grad * slope")
    assert repr(autograder.check_value(space["Value"], "+", "*")).splitlines() == [
        "✗ Value with + and *: wrong",
        "  The smallest example that goes wrong:",
        "      a = Value(2.0)",
        "      c = a + a",
        "      c.backward()",
        "      a.grad  # found 1, expected 2",
        "  `a` is used 2 times: its gradient is the sum of what comes back from each use. Is each",
        "  right?",
    ]


def test_an_error_is_shown_with_its_place_in_the_code_of_the_student():
    space = solved("entries", "np.expand_dims(ct, axis)", "np.expand_dims(ct, axis + 5)")
    report = eval(f"autograder.{PARTS['entries']}", space)
    assert report.lines[-2].endswith("  # raises AxisError")
    assert re.search(r"out of bounds .*\(line \d+ of the cell of tensor_sum\.pull\)$", report.lines[-1])


def test_a_class_that_remembers_earlier_examples_is_said_to_share():
    space = solved(
        "slopes", "self.data = float(data)", "self.data = float(data) + (len(seen) == 100)\n        seen.append(0)"
    )
    space["seen"] = []
    report = eval(f"autograder.{PARTS['slopes']}", space)
    assert any("goes wrong in some runs only" in line for line in report.lines)


def test_functions_of_weight_normalization_keep_the_names_that_the_student_gave():
    space = solved("stable", "if np.any(top == 0):", "if False:")
    shown = repr(eval(f"autograder.{PARTS['stable']}", space))
    assert "      w = stable_weight(v, g, axis=0)\n" in shown
    assert "wn." not in shown


def test_ops_and_properties_that_are_not_there_are_refused():
    with pytest.raises(ValueRangeError, match="no such op"):
        autograder.check_value(float, "+", "cosh")
    with pytest.raises(ValueRangeError, match="no such property"):
        autograder.check_weight("speed", weight=np.multiply)
    report = autograder.check_weight("gradient", weight=np.multiply)
    assert (report.status, report.lines) == ("wrong", ("there is no function gradient.",))
