"""Emitted steps: text becomes a module on disk, and its functions machine code that is kept beside it.

A module is written once, under a name that is a hash of its text and of all kernels, and put into place by renaming, so
that processes may share the folder. `TINYGRAD_WN_CACHE` names it. Where it cannot be written, a folder for this process
alone takes its place.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from numba.core.errors import NumbaError

from ..errors import CompileError
from .cache import STAMP
from .entry import native
from .jit import kernel
from .layouts import compiling


def cache_folder() -> Path:
    """Where emitted steps are kept: `TINYGRAD_WN_CACHE`, else a folder among the user's caches."""
    named = os.environ.get("TINYGRAD_WN_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(named) if named else Path(base) / "tinygrad_wn"


def clear_cache() -> int:
    """Remove all emitted steps from disk, and say how many there were."""
    modules = list(cache_folder().glob("step_*.py"))
    left = cache_folder().glob("step_*.tmp")
    for path in [*modules, *left, *(cache_folder() / "__pycache__").glob("step_*")]:
        path.unlink(missing_ok=True)
    return len(modules)


def load(text: str, names: list[str]) -> list[int]:
    """Addresses of the functions of an emitted module, each from five integers to a status."""
    name = "step_" + hashlib.sha256((STAMP + text).encode()).hexdigest()[:24]
    with compiling:
        module = sys.modules.get(name) or _imported(name, text)
        try:
            return [native(kernel(getattr(module, one)), 5) for one in names]
        except NumbaError as error:
            lines = [*filter(None, map(str.strip, str(error).splitlines())), ""]
            facts = {"file": module.__file__, "numba": lines[min(1, len(lines) - 1)]}
            hint = "Numba must know the definition of an elementwise op; NumPy runs one without elementwise=True"
            raise CompileError("tg.jit: Numba cannot compile the step", facts, hint=hint) from error


def _imported(name: str, text: str) -> Any:
    try:
        path = _written(cache_folder(), name, text)
    except (OSError, RuntimeError):  # the latter where nobody knows a home folder
        aside = tempfile.mkdtemp(prefix="tinygrad_wn_")
        atexit.register(shutil.rmtree, aside, ignore_errors=True)
        path = _written(Path(aside), name, text)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _written(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.py"
    try:
        if path.read_text(encoding="utf-8") == text:
            return path
    except (OSError, UnicodeDecodeError):
        folder.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.tmp")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
    return path
