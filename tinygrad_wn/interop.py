"""States for and from PyTorch, in all three spellings of weight normalization, and files in the format safetensors.

PyTorch itself is not needed: states are dicts of arrays (or of its tensors, when they come in).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import DTypeError, StateError, TinygradWNError, ValueRangeError, ZeroNormError
from .functions import weight_norm
from .io import checked_state, content, put_in_place
from .nn import Module, WeightNorm
from .nn.module import state_of
from .ops import norm
from .shapes import other_axes
from .tensor import Tensor

if TYPE_CHECKING:
    import os

    from .domains import Array

__all__ = ["load_pytorch_state", "load_safetensors", "pytorch_state", "save_safetensors"]

SPELLINGS = ("parametrizations", "weight_g", "folded")
NEW = re.compile(r"(?:(.*)\.)?parametrizations\.([^.]+)\.original([01])")
OLD = re.compile(r"(.+)_([gv])")


def pytorch_state(model: Module, spelling: str = "parametrizations") -> dict[str, Array]:
    """The state of `model` under the names that the same model has in PyTorch, as new arrays.

    `spelling` says how weight normalization is spelled there: "parametrizations", as
    `torch.nn.utils.parametrizations.weight_norm` does ("0.parametrizations.weight.original0" is g, original1 is v);
    "weight_g", as the older `torch.nn.utils.weight_norm` ("0.weight_g", "0.weight_v"); or "folded", the weight itself.
    Raises ValueRangeError for another spelling; StateError where a WeightNorm keeps several axes, which PyTorch does
    not know, unless it is folded.

    >>> net = tg.nn.weight_norm(tg.nn.Sequential(tg.nn.Linear(3, 2)))
    >>> list(tg.interop.pytorch_state(net, "weight_g"))
    ['0.weight_v', '0.weight_g', '0.bias']
    """
    if spelling not in SPELLINGS:
        raise ValueRangeError(
            "pytorch_state: no such spelling", {"given": repr(spelling), "known": ", ".join(SPELLINGS)}
        )
    weights = _weights("pytorch_state", model)
    found: dict[str, Array] = {}
    for name, array in model.state_dict().items():
        path, _, part = name.rpartition(".")
        if path not in weights:
            found[name] = array
        elif spelling == "folded":
            if part == "v":
                found[path] = weights[path]().numpy().copy()
        else:
            new = _spelled(path, "v" if part == "v" else "g", spelling)
            found[new] = array if part == "v" else _without_axes(path, weights[path])
    return found


def load_pytorch_state(model: Module, state: Mapping[str, Any]) -> None:
    """Overwrite all state of `model` by a state dict of the same model in PyTorch: tensors, or arrays.

    Each spelling of `pytorch_state` is understood, name by name, and every one fits every model: a folded weight
    becomes v, with its norm for g, and v and g become a weight where `model` has no weight normalization. Raises
    StateError, and changes nothing, when something does not fit: the message lists every name that is missing, not in
    the model, given twice, or of another shape or dtype. Raises ZeroNormError for a slice of norm 0, unless the `zero`
    of the layer allows it.

    >>> net, other = (tg.nn.weight_norm(tg.nn.Sequential(tg.nn.Linear(3, 2))) for _ in range(2))
    >>> tg.interop.load_pytorch_state(other, tg.interop.pytorch_state(net, "folded"))
    >>> bool(tg.all(abs(net[0].weight() - other[0].weight()) < 1e-6))
    True
    """
    weights = _weights("load_pytorch_state", model)
    own = state_of(model)
    given, problems = _understood(state, own)
    new: dict[str, Array] = {}
    for path, w in weights.items():
        if path in given and not isinstance(given[path], dict):
            given[path] = _split(path, w, given[path], problems)
        parts = given.pop(path, {})
        for part in ("v", "g"):
            name = f"{path}.{'s' if part == 'g' and w.log_scale else part}"
            like = own[name]
            array = parts.get(part)
            if array is not None and part == "g" and array.ndim == 0:
                array = array.reshape((1,) * w.v.ndim)
            shown = _spelled(path, part, "parametrizations")
            _fit(name, shown, like, array, problems, new)
            if name.endswith(".s") and array is not None:
                if np.all(array > 0):
                    new[name] = np.log(array)
                else:
                    problems[repr(shown)] = "g must be above 0: the model keeps its logarithm"
    for name, like in own.items():
        if name.rpartition(".")[0] not in weights:
            array = given.pop(name, None)
            _fit(name, name, like, _joined(name, array, problems) if isinstance(array, dict) else array, problems, new)
    problems |= {repr(name): "not in the model" for name in given}
    _check_fits(problems)
    model.load_state_dict(new)


def save_safetensors(
    state: Mapping[str, Any], path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a state dict as a file of the format safetensors, which PyTorch and others read without pickle.

    A file that is there is replaced at once when the new one is complete. Needs the extra `[safetensors]`. Raises
    DTypeError for values that are not arrays of numbers, and for what the format cannot hold; ImportError where the
    package is not there; OSError, of its kind, when the file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tg.interop.save_safetensors(tg.nn.Linear(3, 2).state_dict(), f"{folder}/net.safetensors")
    ...     sorted(tg.interop.load_safetensors(f"{folder}/net.safetensors"))
    ['bias', 'weight']
    """
    package = _package()
    if not isinstance(state, Mapping):
        hint = "give model.state_dict()"
        raise DTypeError("save_safetensors: not a state dict", {"given": type(state).__name__}, hint=hint)
    if "__metadata__" in state:
        what = "save_safetensors: the format keeps the name __metadata__ for itself"
        raise DTypeError(what, {"names": ", ".join(state)}, hint="give metadata=..., or another name")
    arrays = {name: np.array(x, x.dtype.newbyteorder("="), order="C") for name, x in checked_state(state).items()}
    try:
        raw = package.save(arrays, metadata=dict(metadata or {}) or None)
    except Exception as error:  # of the package's own kinds
        hint = "names and metadata are strings; values are floats, integers or booleans"
        raise DTypeError("save_safetensors: the format cannot hold this", {"reason": error}, hint=hint) from error
    put_in_place(Path(path), lambda file: file.write(raw))


def load_safetensors(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Read a file of the format safetensors: arrays by name, for `load_state_dict` or `load_pytorch_state`.

    Needs the extra `[safetensors]`. Raises StateError when the file is damaged or of another kind, ImportError where
    the package is not there, and OSError, of its kind, when the file cannot be opened.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tg.interop.save_safetensors({"x": np.ones(2)}, f"{folder}/x.safetensors")
    ...     tg.interop.load_safetensors(f"{folder}/x.safetensors")
    {'x': array([1., 1.])}
    """
    package = _package()
    raw = content(Path(path), "give the path of a file in the format safetensors")
    try:
        found: dict[str, Array] = {name: np.array(array) for name, array in package.load(raw).items()}
    except Exception as error:  # of the package's own kinds
        facts = {"file": Path(path).absolute(), "bytes": len(raw), "reason": f"{type(error).__name__}: {error}"}
        raise StateError("load_safetensors: not a whole file of this format", facts, hint="copy it anew") from error
    return found


def _package() -> Any:
    try:
        return import_module("safetensors.numpy")
    except ImportError:
        what = "safetensors is not installed: pip install 'tinygrad_wn[safetensors]'"
        raise ImportError(what) from None


def _weights(name: str, model: object) -> dict[str, WeightNorm]:
    """Every WeightNorm of a model by the name of what it stands for."""
    if not isinstance(model, Module):
        raise DTypeError(f"{name}: not a module", {"given": repr(model)}, hint="give the model first")
    if isinstance(model, WeightNorm):
        raise DTypeError(f"{name}: a weight that is in no layer", {"given": repr(model)}, hint="give its layer")
    return {path: part for path, part in model.named_modules() if isinstance(part, WeightNorm)}


def _spelled(path: str, part: str, spelling: str) -> str:
    if spelling == "weight_g":
        return f"{path}_{part}"
    layer, _, parameter = path.rpartition(".")
    return f"{layer}{'.' if layer else ''}parametrizations.{parameter}.original{'gv'.index(part)}"


def _without_axes(path: str, w: WeightNorm) -> Array:
    """g as PyTorch has it: a number where it is one for the whole of v."""
    g = w.g.numpy().copy()
    kept = w.v.ndim - len(other_axes(w.axis, w.v.ndim))
    if kept > 1:
        facts = {"layer": path, "axis": w.axis}
        raise StateError("pytorch_state: PyTorch has one axis, or none", facts, hint='take the spelling "folded"')
    return g if kept else g.reshape(())


def _understood(state: Mapping[str, Any], own: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, object]]:
    """What is given by our names: an array, or {"v": array, "g": array}; and what is given twice."""
    if not isinstance(state, Mapping):
        hint = "give model.state_dict(), or what tg.interop.load_safetensors(file) gives"
        raise DTypeError("load_pytorch_state: not a state dict", {"given": repr(state)}, hint=hint)
    given: dict[str, Any] = {}
    problems: dict[str, object] = {}
    for name, value in state.items():
        array = _array(value)
        path, part = _named(name, own)
        place = given if not part else given.setdefault(path, {})
        if not isinstance(place, dict) or (part or path) in place:
            problems[repr(name)] = f"{path!r} is given twice, in two spellings"
        else:
            place[part or path] = array
    return given, problems


def _named(name: str, own: Mapping[str, Tensor]) -> tuple[str, str]:
    """What a name of PyTorch stands for: a path, and "v" or "g" where it is one of them."""
    if name not in own and (new := NEW.fullmatch(name)):
        return f"{new[1]}.{new[2]}" if new[1] else new[2], "gv"[int(new[3])]
    if name not in own and (old := OLD.fullmatch(name)):
        return old[1], old[2]
    return name, ""


def _array(value: Any) -> Array:
    if isinstance(value, Tensor):
        return value.numpy()
    return np.asarray(value.detach() if hasattr(value, "detach") else value)


def _check_fits(problems: dict[str, object]) -> None:
    zero = {name: one for name, one in problems.items() if isinstance(one, ZeroNormError)}
    if zero and len(zero) == len(problems):
        raise next(iter(zero.values()))
    if problems:
        problems |= {name: str(one).splitlines()[0] for name, one in zero.items()}
        hint = "make the model as the one that was saved; array.astype(...) gives another dtype"
        raise StateError("load_pytorch_state: the state does not fit the model", problems, hint=hint)


def _fit(
    name: str, shown: str, like: Tensor, array: Array | None, problems: dict[str, object], new: dict[str, Array]
) -> None:
    if array is None:
        problems.setdefault(repr(shown), "missing in the state")
        return
    model, given = (f"{x.dtype} {list(x.shape)}" for x in (like, array))
    if model != given:
        problems[repr(shown)] = f"model {model}, state {given}"
    new[name] = array


def _split(path: str, w: WeightNorm, weight: Array, problems: dict[str, object]) -> dict[str, Array]:
    """v and g of a weight."""
    if weight.shape != w.v.shape or weight.dtype != w.v.dtype:
        model, given = (f"{x.dtype} {list(x.shape)}" for x in (w.v, weight))
        problems[repr(path)] = f"model {model}, state {given}"
        return {"v": w.v.numpy(), "g": w.g.numpy()}
    g = norm.vector_norm(weight, axis=other_axes(w.axis, weight.ndim), keepdims=True).numpy()
    try:
        weight_norm(weight, g, w.axis, zero=w.zero)
    except ZeroNormError as error:
        error.locate([(f"{path}.v", weight)])
        problems[repr(path)] = error
    return {"v": weight, "g": g}


def _joined(name: str, parts: dict[str, Array], problems: dict[str, object]) -> Array | None:
    """The weight of v and g; g has size 1 on the axes that share it."""
    missing = [part for part in ("v", "g") if part not in parts]
    if missing:
        problems[repr(_spelled(name, missing[0], "parametrizations"))] = "missing in the state"
        return next(iter(parts.values())) if "v" in parts else None
    v, g = parts["v"], parts["g"]
    axis = tuple(i for i, n in enumerate(g.shape) if n != 1)
    try:
        return norm.weight_norm(v, g if g.ndim else g.reshape((1,) * v.ndim), axis=axis).numpy()
    except TinygradWNError as error:
        problems[repr(name)] = str(error).splitlines()[0]
        return None
