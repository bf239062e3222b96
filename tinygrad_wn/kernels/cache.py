"""Machine code on disk that can only be read by the very code it was made from.

Numba's own files know the text of the file that holds a function, not of others that it calls. Files of kernels carry a
stamp instead: a hash over every file of this folder, the versions of Numba and Python and the width of vectors. It also
covers the machine code, so a file that is cut off or damaged is found out and made anew.
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
from numba.core import caching
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


def keep_on_disk(compiled: Any) -> None:
    """Let a function that Numba compiles use Files, in the folder that Numba would take.

    Without a folder to write to, without the text of kernels, or with a Numba that is built otherwise, nothing is kept:
    to compile in each process is slow, stale machine code is wrong.
    """
    try:
        cache = caching.FunctionCache(compiled.py_func)
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
