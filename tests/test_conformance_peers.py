"""What the conformance suite finds in other libraries; `.ci/peers` installs them."""

import json
import re

import numpy as np
import pytest
from test_project import ROOT

from tinygrad_wn.cli import main
from tinygrad_wn.testing import adapter, check_weight_norm
from tinygrad_wn.testing.conformance.properties import PROPERTIES


@pytest.fixture(scope="module")
def torch_column():
    return check_weight_norm(adapter("torch"))


@pytest.mark.peers("torch")
def test_pytorch_is_found_wrong_where_it_was_measured_to_be(torch_column):
    statuses = {name: torch_column["torch", name].status for name in PROPERTIES}
    wrong = {"second order", "scale", "zero slice", "near-parallel", "axis meaning"}
    assert {name for name, status in statuses.items() if status == "wrong"} == wrong
    assert {name for name, status in statuses.items() if status == "lacking"} == {"jvp"}


@pytest.mark.peers("torch")
def test_the_faults_of_pytorch_are_those_that_are_known(torch_column):
    failures = {name: torch_column["torch", name].failures for name in PROPERTIES}
    assert "by_v" in failures["second order"][0].what
    exponents = [int(k) for one in failures["scale"] for k in re.findall(r"np\.ldexp\(.*, (-?\d+)\)", one.code)]
    assert len(exponents) == 4
    assert max(exponents) <= 64  # 2⁶⁴ = 1.8e19
    assert -76 <= min(exponents) < 0  # 2⁻⁷⁶ = 1.3e-23
    assert "w is NaN" in failures["zero slice"][0].what
    assert float(re.findall(r"relative error of (\S+)", failures["near-parallel"][0].what)[0]) > 1e-3
    assert [re.findall(r"axis=(\S+)$", one.what) for one in failures["axis meaning"]] == [["-1"]]


@pytest.mark.peers("torch")
@pytest.mark.parametrize(("scale", "right"), [(1e19, [3.0, 4.0]), (1e-23, [3.0, 4.0])])
def test_the_faults_of_pytorch_at_the_scales_that_were_measured(scale, right):
    v, g = np.array([[3.0, 4.0]], np.float32) * np.float32(scale), np.array([[5.0]], np.float32)
    assert not np.allclose(adapter("torch").weight(v, g, axis=0), [right])
    np.testing.assert_allclose(adapter("ours").weight(v, g, axis=0), [right], rtol=1e-6)


@pytest.mark.peers("jax")
def test_the_formula_in_jax_breaks_as_it_does_on_paper():
    matrix = check_weight_norm(adapter("jax"), examples=30)
    wrong = {name for name in PROPERTIES if matrix["jax", name].status == "wrong"}
    lacking = {name for name in PROPERTIES if matrix["jax", name].status == "lacking"}
    assert (wrong, lacking) == ({"scale", "zero slice", "near-parallel"}, {"fold", "copy", "state"})


@pytest.mark.peers("torch", "jax", "equinox")
def test_the_kept_matrix_is_what_the_command_finds(tmp_path):
    assert main(["check", "ours", "torch", "equinox", "jax", "--json", str(tmp_path / "matrix.json")]) == 1
    found, kept = (statuses(path) for path in (tmp_path / "matrix.json", ROOT / "docs" / "conformance.json"))
    assert found == kept


def statuses(path):
    verdicts = json.loads(path.read_text(encoding="utf-8"))["verdicts"]
    return {library: {name: one["status"] for name, one in column.items()} for library, column in verdicts.items()}
