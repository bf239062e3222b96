"""Kernels called by their address: an emitted step links to their machine code and does not compile it anew."""

from __future__ import annotations

import hashlib
from typing import Any

from llvmlite import binding
from numba import types
from numba.core import cgutils

from .layouts import AnyLayout
from .vector import piece


def linked(kernel: Any, arguments: str, size: int) -> Any:
    """What calls a kernel for arguments as `AnyLayout` names them, and floats of `size` bytes; what it raises is kept.

    Machine code that was kept on disk finds the kernel by a name, so this comes before such code is loaded.
    """
    kinds = AnyLayout(kernel, arguments).types(size)
    kernel.compile(kinds)
    found = kernel.overloads[kinds]
    native, result = found.fndesc, found.signature.return_type
    path = f"{kernel.py_func.__module__}.{kernel.py_func.__name__}({kinds})"
    name = f"{kernel.py_func.__name__}_{hashlib.sha256(path.encode()).hexdigest()[:16]}"
    binding.add_symbol(name, found.library.get_pointer_to_function(native.llvm_func_name))

    def call(_typing: Any, *given: Any) -> Any:
        def build(context: Any, at: Any, signature: Any, values: Any) -> Any:
            parts = cgutils.unpack_tuple(at, values[0])
            convention = context.call_conv
            function = cgutils.get_or_insert_function(at.module, convention.get_function_type(result, kinds), name)
            cast = [context.cast(at, x, have, want) for x, have, want in zip(parts, given, kinds, strict=True)]
            status, found = convention.call_function(at, function, result, kinds, cast)
            with cgutils.if_unlikely(at, status.is_error):
                convention.return_status_propagate(at, status)
            return found

        return result(types.StarArgTuple(given)), build

    return piece(call)
