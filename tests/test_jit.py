"""Machine code on disk is only ever that of the code that runs, and nothing about files can break a kernel.

A copy of the package, with two kernels that call something of another file, is edited between processes.
"""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core import caching
from parallel_square import serial

import tinygrad_wn as tg
from tinygrad_wn.kernels import cache
from tinygrad_wn.kernels.jit import kernel

pytestmark = pytest.mark.once

PACKAGE = Path(tg.__file__).parent
HELPERS = """
from llvmlite import ir
from numba import types
from .jit import kernel
from .vector import piece

@kernel
def function(x):
    return x + 10

@piece
def llvm_code(_typing, x):
    def build(_context, at, _signature, arguments):
        return at.add(arguments[0], ir.Constant(ir.IntType(64), 10))
    return types.int64(types.int64), build
"""
CALLERS = """
from .helpers import function, llvm_code
from .jit import kernel

@kernel
def calls_function(x):
    return function(x)

@kernel
def calls_llvm_code(x):
    return llvm_code(x)

def show():
    for one in (calls_function, calls_llvm_code):
        print(one(1), "compiled" if one.stats.cache_misses else "loaded", end=" ")
"""
COMPILED, LOADED = "11 compiled 11 compiled", "11 loaded 11 loaded"


class Copy:
    """A package in a folder of its own, run in fresh processes."""

    def __init__(self, folder):
        self.folder, self.kernels = folder, folder / "tinygrad_wn" / "kernels"
        shutil.copytree(PACKAGE, folder / "tinygrad_wn", ignore=shutil.ignore_patterns("__pycache__"))
        (self.kernels / "helpers.py").write_text(HELPERS)
        (self.kernels / "callers.py").write_text(CALLERS)

    def start(self, code="from tinygrad_wn.kernels.callers import show; show()", **environment):
        there = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "XDG_", "TINYGRAD_WN_"))}
        there |= {"PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(self.folder)}
        command = [sys.executable, "-W", "error", "-c", code]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=there | environment, cwd=self.folder, **pipes)

    def run(self, *args, **environment):
        return finished(self.start(*args, **environment))

    def edit(self, name, old, new):
        path = self.kernels / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def files(self):
        return sorted(self.kernels.glob("__pycache__/*calls*"))


def finished(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.strip()


@pytest.fixture
def package(tmp_path):
    return Copy(tmp_path)


def test_an_edit_of_what_a_kernel_calls_is_seen(package):
    assert package.run() == COMPILED
    assert package.run() == LOADED
    package.edit("helpers.py", "x + 10", "x + 90")
    assert package.run() == "91 compiled 11 compiled"
    package.edit("helpers.py", "(64), 10)", "(64), 90)")
    assert package.run() == "91 compiled 91 compiled"
    assert package.run() == "91 loaded 91 loaded"
    package.edit("tiles.py", "import annotations\n", "import annotations\n\n# a comment\n")
    assert package.run() == "91 compiled 91 compiled"


def test_versions_and_the_width_of_vectors_are_part_of_the_stamp(monkeypatch):
    stamps = {cache._stamp(PACKAGE / "kernels"), cache.STAMP}
    for owner, name in ((cache, "VECTOR_BYTES"), (cache.numba, "__version__"), (cache.llvmlite, "__version__")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, "another")
            stamps.add(cache._stamp(PACKAGE / "kernels"))
    assert len(stamps) == 4


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[:40], lambda b: b"", lambda b: b[:500] + b"?" + b[501:]]
)
def test_a_damaged_file_is_made_anew(package, damage):
    assert package.run() == COMPILED
    assert len(package.files()) == 2
    for path in package.files():
        path.write_bytes(damage(path.read_bytes()))
    assert package.run() == COMPILED
    assert package.run() == LOADED


def test_processes_at_once(package):
    for process in [package.start() for _ in range(3)]:
        assert finished(process) in (COMPILED, LOADED, "11 loaded 11 compiled", "11 compiled 11 loaded")
    assert package.run() == LOADED
    assert len(package.files()) == 2


def test_without_a_place_in_the_package_files_go_to_the_home_folder(package):
    (package.kernels / "__pycache__").write_text("this is no folder")
    home = package.folder / "home"
    home.mkdir()
    assert package.run(HOME=str(home)) == COMPILED
    assert package.run(HOME=str(home)) == LOADED
    assert len(list(home.rglob("*calls*"))) == 2


def test_without_any_place_kernels_are_compiled_in_each_process(package):
    (package.kernels / "__pycache__").write_text("this is no folder")
    for _ in range(2):
        assert package.run(HOME="/dev/null") == COMPILED


def test_numba_can_be_told_where_files_go(package):
    where = package.folder / "elsewhere"
    assert package.run(NUMBA_CACHE_DIR=str(where)) == COMPILED
    assert package.run(NUMBA_CACHE_DIR=str(where)) == LOADED
    assert len(list(where.rglob("*calls*"))) == 2
    assert package.files() == []


def test_a_disk_that_takes_no_more_is_no_error(package):
    code = "import pathlib\ndef full(*_): raise OSError\npathlib.Path.write_bytes = full\n"
    assert package.run(code + "from tinygrad_wn.kernels.callers import show; show()") == COMPILED
    assert package.files() == []


def test_without_text_nothing_is_kept(monkeypatch, tmp_path):
    assert cache._stamp(tmp_path) == ""
    monkeypatch.setattr(cache, "STAMP", "")
    assert isinstance(kernel(shutil.copyfile)._cache, caching.NullCache)


def test_with_a_numba_that_is_built_otherwise_nothing_is_kept(monkeypatch):
    class Other(caching.FunctionCache):
        def __init__(self, function):
            super().__init__(function)
            self._file = self.__dict__.pop("_cache_file")

    monkeypatch.setattr(caching, "FunctionCache", Other)
    assert isinstance(kernel(shutil.copyfile)._cache, caching.NullCache)
    monkeypatch.delattr(caching, "FunctionCache")
    assert isinstance(kernel(shutil.copyfile)._cache, caching.NullCache)


def test_files_can_be_forgotten(tmp_path):
    files, other = cache.Files(tmp_path, "name", "stamp"), cache.Files(tmp_path, "other", "stamp")
    for one in (files, other):
        one.save("key", 1)
    assert cache.Files(tmp_path, "name", "another stamp").load("key") is None
    files.flush()
    assert (files.load("key"), other.load("key")) == (None, 1)


def test_functions_of_users_keep_the_cache_of_numba():
    assert type(numba.njit(cache=True)(finished)._cache._cache_file) is caching.IndexDataCacheFile
    assert isinstance(numba.njit(finished)._cache, caching.NullCache)


def test_without_machine_code_every_op_runs_its_definition(package):
    code = """
import numpy as np, tinygrad_wn as tg
from tinygrad_wn.kernels import kernels_are_on
from tinygrad_wn.op import OPS
def fail(*_, **__): raise AssertionError
for op in OPS.values():
    op.kernel = op.kernel and fail
layer = tg.nn.weight_norm(tg.nn.Linear(3, 2))
step = tg.optim.SGD(layer.parameters(), 0.1, momentum=0.9)
with tg.kernels(True):
    before = layer(tg.ones((4, 3))).sum()
    before.backward()
    step.step()
    print(kernels_are_on(), (layer(tg.ones((4, 3))).sum() < before).item())
"""
    assert package.run(code, NUMBA_DISABLE_JIT="1") == "False True"


def test_kernels_are_on_by_default_and_can_be_turned_off_for_a_process(package):
    code = "from tinygrad_wn.kernels import kernels_are_on; print(kernels_are_on())"
    assert package.run(code) == "True"
    assert package.run(code, TINYGRAD_WN_KERNELS="0") == "False"


def test_only_one_file_asks_numba_to_compile():
    compiling = {"njit", "jit", "vectorize", "guvectorize", "cfunc", "generated_jit", "stencil"}
    found = {
        path.name
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr in compiling)
        or (
            isinstance(node, ast.ImportFrom)
            and {n.name for n in node.names} & compiling
            and node.module not in ("jit", "compiled")
        )
    }
    assert found - {"adapters.py"} == {"jit.py"}  # adapters ask JAX for its own compiler


def test_a_kernel_refuses_wrong_arrays_before_it_touches_them():
    y, who = np.zeros(3), np.zeros(1)
    constant = y.copy()
    constant.flags.writeable = False
    for to, x in (
        (y, y.astype("f")),
        (y, np.zeros((3, 1))),
        (y, np.zeros(6)[::2]),
        (y, y.astype(">f8")),
        (constant, y),
    ):
        with pytest.raises(TypeError, match="No matching definition"):
            serial[8](to, x, who)
