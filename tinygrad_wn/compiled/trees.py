"""Arguments and results that are nested in Python containers: taken apart into tensors, and put together again."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

import numpy as np

from ..errors import CompileError
from ..tensor import Tensor

PLAIN = bool | int | float | complex | str | bytes | np.generic | np.dtype | Enum | None
"""Results that are what they are, beside tensors and arrays."""


def apart(tree: Any, leaves: list[Any]) -> Any:
    """Append the tensors and arrays of `tree` to `leaves`, and give its structure, which can be compared and hashed.

    Other values are part of the structure. Raises CompileError for one that cannot be hashed.
    """
    if isinstance(tree, Tensor | np.ndarray | np.generic):
        leaves.append(tree)
        return "array"
    if isinstance(tree, dict):
        return dict, tuple((key, apart(value, leaves)) for key, value in tree.items())
    if isinstance(tree, list | tuple):
        return type(tree), tuple([apart(value, leaves) for value in tree])
    try:
        hash(tree)
    except TypeError:
        facts = {"given": repr(tree)}
        raise CompileError(
            "tg.jit: an argument can be neither an array nor hashed", facts, hint="give arrays"
        ) from None
    return "value", type(tree), tree, str(tree) if isinstance(tree, float | complex) else ""  # -0.0 is not 0.0


def check_result(tree: Any) -> None:
    """Raise CompileError for a result, or one in it, that may hold what is computed anew in each run."""
    if isinstance(tree, dict | list | tuple):
        for one in tree.values() if isinstance(tree, dict) else tree:
            check_result(one)
    elif not isinstance(tree, Tensor | np.ndarray | PLAIN):
        facts = {"given": type(tree).__name__}
        hint = "return tensors, arrays, numbers and texts, in lists, tuples and dicts"
        raise CompileError("tg.jit: a compiled step cannot return this", facts, hint=hint)


def together(structure: Any, leaves: Iterator[Any]) -> Any:
    """Undo `apart`."""
    if structure == "array":
        return next(leaves)
    kind, *rest = structure
    if kind == "value":
        return rest[1]
    if kind is dict:
        return {key: together(value, leaves) for key, value in rest[0]}
    values = [together(value, leaves) for value in rest[0]]
    return kind(*values) if hasattr(kind, "_fields") else kind(values)
