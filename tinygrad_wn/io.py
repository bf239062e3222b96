"""Save and load models and state dicts: `.npz` files of plain arrays with a JSON description; nothing is pickled.

NumPy alone reads such a file too: `np.load(path)["state/0.weight"]` is an array, `np.load(path)["header"]` the
description.
"""

from __future__ import annotations

import io
import json
import os
import uuid
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from .errors import DTypeError, StateError, TinygradWNError
from .nn import (
    GELU,
    BatchNorm1d,
    Dropout,
    LeakyReLU,
    Linear,
    MeanOnlyBatchNorm1d,
    Module,
    ReLU,
    Sequential,
    Sigmoid,
    Tanh,
    WeightNorm,
)
from .ops.norm import g_shape
from .tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from .domains import Array

FORMAT, VERSION = "tinygrad_wn", 1
KINDS = (Linear, ReLU, LeakyReLU, Tanh, Sigmoid, GELU, Dropout, BatchNorm1d, MeanOnlyBatchNorm1d)
LAYERS: dict[str, type[Module]] = {kind.__name__: kind for kind in KINDS}


def save(
    obj: Module | Mapping[str, Any], path: str | os.PathLike[str], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write a model made of the layers of `tg.nn`, or a state dict, for `tg.load` to read.

    The path is taken as it is. A file that is there is replaced at once when the new one is complete, never in part.
    `metadata`, what JSON can hold, is kept for `tg.load_metadata`. The generator of a Dropout is not kept.

    Raises StateError for a model of other modules, or of layers that share a tensor: save its state_dict() instead;
    DTypeError for values that are not arrays of numbers, and for metadata that JSON cannot hold; OSError, of its kind
    (such as FileNotFoundError for a folder that is not there), when the file cannot be written.

    >>> import tempfile
    >>> net = tg.nn.Sequential(tg.nn.Linear(3, 2), tg.nn.ReLU())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tg.save(net, f"{folder}/net.npz", {"seed": 0})
    ...     tg.load(f"{folder}/net.npz"), tg.load_metadata(f"{folder}/net.npz")
    (Sequential(
      (0): Linear(in_features=3, out_features=2, bias=True)
      (1): ReLU()
    ), {'seed': 0})
    """
    header: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    if isinstance(obj, Module):
        state = obj.state_dict()
        header |= {"model": _describe(obj, []), "training": obj.training}
        try:
            again = _build(header["model"], [])
            again.load_state_dict(state)
        except TinygradWNError as error:
            raise _not_ours("save: layers share a tensor, or were changed by hand", {"reason": error}) from None
        header["frozen"] = sorted(dict(again.named_parameters()).keys() - dict(obj.named_parameters()).keys())
    else:
        state = checked_state(obj)
    try:
        text = json.dumps(header | {"metadata": dict(metadata or {})}, allow_nan=False)
    except (TypeError, ValueError) as error:
        hint = "give a dict of numbers, strings, lists and dicts"
        raise DTypeError("save: metadata is not what JSON can hold", {"reason": error}, hint=hint) from None
    members = {"header": np.array(text)} | {f"state/{name}": array for name, array in state.items()}

    def write(file: IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in members.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)

    put_in_place(Path(path), write)


def load(path: str | os.PathLike[str]) -> Any:
    """Read what `tg.save` wrote: a new model of the same state, bit for bit, in the same mode; or a dict of arrays.

    Raises StateError when the file is damaged or of another kind, and OSError, of its kind (such as FileNotFoundError),
    when it cannot be opened.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tg.save({"w": np.ones(2)}, f"{folder}/state.npz")
    ...     tg.load(f"{folder}/state.npz")
    {'w': array([1., 1.])}
    """
    header, state = _read(Path(path))
    if "model" not in header:
        return state
    try:
        model = _build(header["model"], [])
        model.load_state_dict(state)
        parameters = dict(model.named_parameters())
        for name in header["frozen"]:
            parameters[name].requires_grad = False
        return model.train(header["training"])
    except Exception as error:  # a header that `save` did not write can be wrong in any way
        facts = {"file": Path(path).absolute(), "reason": f"{type(error).__name__}: {error}"}
        raise StateError("load: the description does not fit the state", facts, hint="save the model again") from error


def load_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Metadata of a file that `tg.save` wrote, as JSON gives it back (tuples are lists); errors as in `tg.load`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tg.save({}, f"{folder}/state.npz", {"sizes": (64, 32)})
    ...     tg.load_metadata(f"{folder}/state.npz")
    {'sizes': [64, 32]}
    """
    found: dict[str, Any] = _read(Path(path))[0]["metadata"]
    return found


def _describe(module: Module, seen: list[Module]) -> dict[str, Any]:
    """Class names and options, as JSON can hold them; a module that is met again is given by its number."""
    for number, one in enumerate(seen):
        if one is module:
            return {"again": number}
    kind = type(module).__name__
    made: dict[str, Any] = {"layer": kind}
    if type(module) is Sequential:
        made["layers"] = [_describe(layer, seen) for layer in module]
    elif type(module) is LAYERS.get(kind):
        made["options"] = module.options()
        normalized = {name: x for name, x in vars(module).items() if isinstance(x, WeightNorm)}
        made["weight_norm"] = {name: x.options() if len(x.options()) > 1 else x.axis for name, x in normalized.items()}
    else:
        raise _not_ours(f"save: {kind} is not a layer of tinygrad_wn.nn", {})
    seen.append(module)
    return made


def _build(description: dict[str, Any], made: list[Module]) -> Module:
    """The module that `_describe` describes; its state is to be overwritten."""
    if "again" in description:
        return made[description["again"]]
    module: Module
    if description["layer"] == "Sequential":
        module = Sequential(*(_build(layer, made) for layer in description["layers"]))
    else:
        kind = LAYERS[description["layer"]]
        # a seed of its own, so that loading draws nothing from the package's generator
        module = kind(**description["options"], **({"rng": 0} if kind is Linear else {}))
        for name, form in description["weight_norm"].items():
            options = form if isinstance(form, dict) else {"axis": form}
            axis, v = options["axis"], getattr(module, name)
            options["axis"] = kept = tuple(axis) if isinstance(axis, list) else axis
            setattr(module, name, WeightNorm(v, np.ones(g_shape(v.shape, kept), v.dtype), **options))
    made.append(module)
    return module


def _not_ours(what: str, facts: dict[str, object]) -> StateError:
    hint = "tg.save(model.state_dict(), path); then make the model and model.load_state_dict(tg.load(path))"
    return StateError(what, facts, hint=hint)


def checked_state(state: object) -> dict[str, Array]:
    """The arrays of a state dict."""
    if not isinstance(state, Mapping):
        hint = "tg.save(x.state_dict(), path)" if hasattr(state, "state_dict") else 'tg.save({"x": x}, path)'
        raise DTypeError("save: not a model or a state dict", {"given": repr(state)}, hint=hint)
    arrays: dict[str, Array] = {}
    for name, value in state.items():
        if not isinstance(name, str) or not name.isprintable():
            raise DTypeError("save: names must be printable strings", {"name": repr(name)})
        array = value.numpy() if isinstance(value, Tensor) else value
        if not isinstance(array, np.ndarray | np.generic) or array.dtype.kind not in "biufc":
            hint = "np.asarray(value), or give numbers and texts as metadata={...}"
            raise DTypeError("save: values must be arrays of numbers", {"name": name, "value": repr(value)}, hint=hint)
        arrays[name] = np.asarray(array)
    return arrays


def put_in_place(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a new file beside `path`, see it safely on disk, then put it in the place of `path`."""
    path = path.resolve()
    temporary = path.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        with temporary.open("xb") as file:
            try:
                write(file)
                file.flush()
                os.fsync(file.fileno())
                temporary.replace(path)
            except BaseException:
                temporary.unlink()
                raise
    except OSError as error:
        raise _advised(error, "save: cannot write the file", path, "give a path in a folder that is there") from None


def content(path: Path, hint: str = "give the path of a file by tg.save") -> bytes:
    """The bytes of a file, or an OSError with the facts."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise _advised(error, "load: cannot read the file", path, hint) from None


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """Header and state of a file that `save` wrote."""
    raw = content(path)
    facts: dict[str, object] = {"file": path.absolute(), "bytes": len(raw)}
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            names = archive.namelist()
            ours = "header.npy" in names
            arrays = {name.removesuffix(".npy"): _array(archive.read(name)) for name in names if ours}
        header = dict(json.loads(str(arrays.pop("header")))) if ours else {}
    except Exception as error:  # damaged bytes make zipfile, NumPy and json raise a dozen unrelated kinds
        facts["reason"] = f"{type(error).__name__}: {error}"
        raise StateError("load: not a whole file by tg.save", facts, hint="save it again, or copy it anew") from error
    if not ours:
        facts["holds"] = ", ".join(names) or "nothing"
        raise StateError("load: not a file by tg.save", facts, hint="tg.data.load reads data, np.load any .npz")
    if (header.get("format"), header.get("version")) != (FORMAT, VERSION):
        facts |= {key: header.get(key) for key in ("format", "version")}
        raise StateError("load: a file in another format", facts, hint=f"this is a reader of {FORMAT} {VERSION}")
    return header, {name.removeprefix("state/"): array for name, array in arrays.items()}


def _array(raw: bytes) -> Array:
    found: Array = np.lib.format.read_array(io.BytesIO(raw), allow_pickle=False)
    return found


def _advised(error: OSError, what: str, path: Path, hint: str) -> OSError:
    """The same kind of error, with the facts and a hint."""
    layout = StateError(what, {"file": path.absolute(), "reason": error.strerror}, hint=hint)
    return type(error)(error.errno, str(layout))
