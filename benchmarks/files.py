"""Files that are whole or not there."""

import uuid
from pathlib import Path
from tempfile import TemporaryFile


def write_whole(path: Path, content: bytes) -> None:
    """Write to a new file beside `path`, and put it in the place of `path` when it is whole."""
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_place(path: Path) -> None:
    """Raise OSError now rather than after an hour when nothing can be written to `path`."""
    if path.is_dir():
        raise IsADirectoryError(21, "is a folder", str(path))
    with TemporaryFile(dir=path.parent):
        pass
