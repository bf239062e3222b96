"""Arguments and results that are nested in Python containers: taken apart into tensors, and put together again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import CompileError
from ..tensor import Tensor


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
