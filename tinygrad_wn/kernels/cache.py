"""Machine code on disk that can only be read by the very code it was made from.

Numba's own files know the text of the file that holds a function, not of others that it calls. Files of kernels carry a
stamp instead: a hash over every file of this folder, the versions of Numba and Python and the width of vectors. It also
covers the machine code, so a file that is cut off or damaged is found out and made anew.

Numba also keeps LLVM's text of a function, with which others that call it are compiled, and reads it each time. Here it
is read when one of them is compiled, so that a first step with all on disk takes a third of the time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import llvmlite
import numba
from llvmlite import binding
from numba.core import caching
from numba.core.codegen import JITCodeLibrary
from numba.core.serialize import dumps

from .vector import VECTOR_BYTES


def _stamp(folder: Path) -> str:
    """A hash over all that decides how kernels of `folder` are compiled; nothing where it has no text to read."""
    made_by = (numba.__version__, llvmlite.__version__, sys.version, VECTOR_BYTES)
    found = hashlib.sha256(repr(made_by).encode())
    files = sorted(folder.glob("*.py"))
    for path in files:
        text = path.read_bytes()
        found.update(f"{path.name} {len(text)}\n".encode() + text)
    return found.hexdigest() if files else ""


CHECK = hashlib.sha256().digest_size
STAMP = _stamp(Path(__file__).parent)


class Files:
    """What Numba's cache keeps its data in: one file for each function, signature and kind of processor."""

    def __init__(self, folder: Path, name: str, stamp: str) -> None:
        self.folder, self.name, self.stamp = folder, name, stamp.encode()

    def _path(self, key: Any) -> Path:
        return self.folder / f"{self.name}.{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.kernel"

    def _check(self, key: Any, data: bytes) -> bytes:
        return hashlib.sha256(self.stamp + repr(key).encode() + data).digest()

    def load(self, key: Any) -> Any:
        """What the very same code saved under `key`, or None."""
        try:
            found = self._path(key).read_bytes()
        except OSError:
            return None
        check, data = found[:CHECK], found[CHECK:]
        return pickle.loads(data) if check == self._check(key, data) else None

    def save(self, key: Any, data: Any) -> None:
        """Write a whole file or none, so that no other process reads half of one; a full disk is no error."""
        path, data = self._path(key), dumps(data)
        aside = path.with_suffix(f".{os.getpid()}")
        try:
            aside.write_bytes(self._check(key, data) + data)
            aside.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                aside.unlink()

    def flush(self) -> None:
        """Forget everything."""
        for path in self.folder.glob(f"{self.name}.*.kernel"):
            path.unlink(missing_ok=True)


class Code(JITCodeLibrary):  # type: ignore[misc]
    """Machine code from disk, and LLVM's text of it, which nobody has asked for yet."""

    _shared_module: Any = None
    text: bytes = b""

    def _get_module_for_linking(self) -> Any:
        if self._shared_module is None:
            self._shared_module, self.text = binding.parse_bitcode(self.text), b""
        return self._shared_module


class Stored(caching.CompileResultCacheImpl):  # type: ignore[misc]
    """How Numba's cache takes a function apart, with the names that are defined in it, and puts it together."""

    def reduce(self, result: Any) -> Any:
        """What is kept of a compiled function."""
        module = result.library._get_module_for_linking()
        names = {x.name for some in (module.functions, module.global_variables) for x in some if not x.is_declaration}
        return names, *super().reduce(result)

    def rebuild(self, target_context: Any, payload: Any) -> Any:
        """The compiled function: Numba reads nothing instead of the text, and is told what is defined in it."""
        names, (name, kind, (code, text)), *rest = payload
        target_context.codegen()._engine._defined_symbols |= names
        result = super().rebuild(target_context, ((name, kind, (code, NOTHING)), *rest))
        library = result.library
        library.__class__, library.text, library._shared_module = Code, text, None
        return result


NOTHING = binding.parse_assembly("").as_bitcode()


def keep_on_disk(compiled: Any) -> None:
    """Let a function that Numba compiles use Files, in the folder that Numba would take.

    Without a folder to write to, without the text of kernels, or with a Numba that is built otherwise, nothing is kept:
    to compile in each process is slow, stale machine code is wrong.
    """
    try:
        cache = caching.FunctionCache(compiled.py_func)
        cache._impl = Stored(compiled.py_func)
        stamp = STAMP + repr(cache._impl.locator.get_source_stamp())
        known = isinstance(cache._cache_file, caching.IndexDataCacheFile) and isinstance(
            compiled._cache, caching.NullCache
        )
        files = Files(Path(cache.cache_path), cache._impl.filename_base, stamp)
    except (AttributeError, TypeError, RuntimeError, OSError):
        return
    if STAMP and known:
        cache._cache_file = files
        compiled._cache = cache
