"""What is under a path: a folder, or the bytes of a file, or advice."""

from pathlib import Path

from ..errors import StateError


def content(path: Path) -> bytes:
    """All bytes of a file. Raises the OSError of its kind (such as FileNotFoundError), with the facts and a hint."""
    try:
        return path.read_bytes()
    except OSError as error:
        facts = {"file": path.absolute(), "reason": error.strerror}
        hint = "give the path of a readable .npz or .csv file, or of IDX files"
        layout = StateError("load: cannot read the file", facts, hint=hint)
        raise type(error)(error.errno, str(layout)) from None


def is_folder(path: Path) -> bool:
    """Whether there is a folder; a path that no file can have is none."""
    try:
        return path.is_dir()
    except OSError:
        return False
