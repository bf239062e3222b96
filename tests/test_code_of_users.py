"""Code of users that a compiled step is made of: on disk, in folders of any name, and of ops that they declare."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_borders import one

import tinygrad_wn as tg

pytestmark = pytest.mark.once

OP = """
import tinygrad_wn as tg
from tinygrad_wn.domains import Array, Real
from tinygrad_wn.kernels.jit import kernel
from tinygrad_wn.op import case, op
from tinygrad_wn.shapes import same

SLOPE = {slope}

@kernel
def slope_of():
    return {other}

@op(cases=[case("(n)")], shape=same, elementwise=True, gradient=False)
def slanted(x: Real) -> Array:
    return x * SLOPE + slope_of()

x = tg.ones(1)
step = tg.jit(lambda x: slanted(x))
assert step(x).item() == step(x).item() == slanted(x).item() == {slope} + {other}
"""


MODULE = """
import numpy as np
import slanted_numbers
import tinygrad_wn as tg
from tinygrad_wn.domains import Array, Real
from tinygrad_wn.op import case, op
from tinygrad_wn.shapes import same

TABLE = np.zeros(2000)
TABLE[1000] = {table!r}

@op(cases=[case("(n)")], shape=same, elementwise=True, gradient=False)
def slanted(x: Real) -> Array:
    return x * slanted_numbers.SLOPE + TABLE[1000]

x = tg.ones(1, "float64")
step = tg.jit(lambda x: slanted(x))
assert step(x).item() == step(x).item() == slanted(x).item() == {slope!r} + {table!r}
"""


def check(folder, **files):
    """Write modules, and run the one that is called slanted_op in a process that shares steps on disk with others."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    done = subprocess.run(
        [sys.executable, str(folder / "slanted_op.py")],
        env=os.environ | {"TINYGRAD_WN_CACHE": str(folder / "cache"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_machine_code_on_disk_knows_other_modules_and_every_number(tmp_path):
    for slope, table in ((1.5, 0.0), (3.0, 0.0), (3.0, 1.0), (3.0, 1.0000000000001)):
        text = MODULE.format(slope=slope, table=table)
        check(tmp_path, slanted_op=text, slanted_numbers=f"SLOPE = {slope!r}")


def test_machine_code_on_disk_knows_what_an_op_finds_in_its_module(tmp_path):
    for slope, other in ((1.5, 0.0), (3.0, 0.0), (3.0, 2.0)):
        check(tmp_path, slanted_op=OP.format(slope=slope, other=other))


def test_a_folder_of_modules_is_code_of_the_user(tmp_path, monkeypatch):
    folder = tmp_path / "settings_of_a_test"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = importlib.import_module(folder.name)
    settings.scale = 1.0
    step = tg.jit(lambda x: x * settings.scale)
    for scale in (1.0, 5.0):
        settings.scale = scale
        assert [step(one()).item() for _ in range(2)] == [scale, scale]


def test_a_machine_without_a_home_folder_compiles(monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(importlib.import_module("tinygrad_wn.kernels.emitted"), "cache_folder", nowhere)
    assert [tg.jit(lambda x: x * 1.0625)(one(2.0)).item() for _ in range(2)] == [2.125, 2.125]


def test_a_folder_beside_the_package_is_not_the_package(tmp_path):
    beside = f"{Path(tg.__file__).parent}_experiments/main.py"
    names = {"tg": tg}
    exec(compile("scale = 1.0\nstep = tg.jit(lambda x: x * scale)", beside, "exec"), names)
    for scale in (1.0, 5.0):
        names["scale"] = scale
        assert [names["step"](one()).item() for _ in range(2)] == [scale, scale]
