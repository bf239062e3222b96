"""How calls of ops with kernels are written: the kernels' inner functions, which take arrays in any layout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..kernels.panels import NOT_SCALED
from .calls import Call, Operand, View
from .lower import UPDATES, turned
from .writer import Writer, rule


def matrix(x: Any) -> View | None:
    """A view with all axes but the last as one, where memory allows it."""
    if not isinstance(x, View) or x.dtype.char not in "fd" or not x.shape:
        return None
    if len(x.shape) == 2:
        return x
    rows = math.prod(x.shape[:-1])
    if len(x.shape) == 1:
        return View(x.memory, x.start, (1, *x.shape), (x.shape[0] * x.steps[0], *x.steps), x.dtype)
    if not x.whole:
        return None
    return View(x.memory, x.start, (rows, x.shape[-1]), (x.shape[-1] * x.dtype.itemsize, x.dtype.itemsize), x.dtype)


def vector(x: View) -> View | None:
    """All numbers of a view in one row, where they lie side by side."""
    return View(x.memory, x.start, (x.size,), (x.dtype.itemsize,), x.dtype) if x.whole else None


def alike(*operands: Operand) -> bool:
    """Whether all are arrays of one float dtype; what is None does not count."""
    views = [x for x in operands if x is not None]
    dtypes = {x.dtype if isinstance(x, View) else None for x in views}
    return len(dtypes) == 1 and getattr(next(iter(dtypes)), "kind", "") == "f"


def side_by_side(x: View | None) -> bool:
    """Whether the rows of a matrix are contiguous."""
    return x is not None and (x.steps[1] == x.dtype.itemsize or x.shape[1] == 1)


@rule("linear")
def linear(to: Writer, call: Call) -> bool:
    """y ← x·weightᵀ + bias."""
    x, weight, bias = call.operands
    a, b, c = matrix(x), matrix(weight), matrix(call.results[0])
    row = vector(bias) if isinstance(bias, View) else None
    if not alike(x, weight, bias) or a is None or b is None or c is None or (bias is not None and row is None):
        return False
    product(to, c, a, turned(b), "" if row is None else to.view(row, "reads_c"))
    return True


def product(to: Writer, c: View, a: View, b: View, bias: str = "") -> None:
    arguments = [to.view(c, "writes"), to.view(a, "reads"), to.view(b, "reads")]
    arguments += [bias or to.nothing(c.dtype), to.nothing(c.dtype, "writes"), str(NOT_SCALED)]
    to.add(to.linked_call("matmul", "multiply", arguments, c.dtype))


@rule("weight_norm_linear")
def weight_norm_linear(to: Writer, call: Call) -> bool:
    """y ← x·wᵀ + bias without w."""
    x, v, g, bias = call.operands
    a, b, c, each = matrix(x), matrix(v), matrix(call.results[0]), matrix(g)
    row = vector(bias) if isinstance(bias, View) else None
    if not alike(x, v, g, bias) or a is None or c is None or each is None or b is None or not side_by_side(b):
        return False
    if bias is not None and row is None:
        return False
    shift = to.nothing(c.dtype) if row is None else to.view(row, "reads_c")
    arguments = [to.view(c, "writes"), *(to.view(one, "reads") for one in (a, b, each)), shift]
    to.fails(call, to.linked_call("linear", "_normalized_layer", arguments, c.dtype))
    return True


@rule("linear_pullback", "weight_norm_linear_pullback")
def linear_pullback(to: Writer, call: Call) -> bool:
    """The cotangents that are wanted."""
    normalized = call.op.name != "linear_pullback"
    ct, x, v = (matrix(one) for one in call.operands[:3])
    wanted = call.params["wanted"]
    given = iter(call.results)
    results = [next(given) if one else None for one in wanted]
    into = [None if one is None else matrix(one) for one in results[:-1]]
    into.append(None if results[-1] is None else vector(results[-1]))
    if not alike(*call.operands) or ct is None or x is None or v is None or not side_by_side(v):
        return False
    if normalized and wanted[1:3] != (True, True) and any(wanted[1:3]):
        return False
    if any(one is None for one, asked in zip(into, wanted, strict=True) if asked):
        return False
    none = to.nothing(ct.dtype, "writes")
    sums = to.nothing(ct.dtype, "writes_c") if into[-1] is None else to.view(into[-1], "writes_c")
    arguments = [none if one is None else to.view(one, "writes") for one in into[:-1]] + [sums]
    if normalized:
        arguments += [to.view(one, "reads") for one in (ct, x, v, call.operands[3]) if isinstance(one, View)]
        arguments.append(to.nothing(ct.dtype))
        to.fails(call, to.linked_call("linear", "_normalized_back", arguments, ct.dtype))
    else:
        arguments += [to.view(one, "reads") for one in (ct, x, v)]
        arguments += [to.nothing(ct.dtype), to.nothing(ct.dtype, "writes")]
        to.add(to.linked_call("linear", "_layer_back", arguments, ct.dtype))
    return True


@rule("cross_entropy", "cross_entropy_pullback")
def cross_entropy(to: Writer, call: Call) -> bool:
    """The loss, or the cotangent of the logits."""
    *ct, logits, target, weight = call.operands
    x = matrix(logits)
    if x is None or not x.whole or not isinstance(target, View) or target.dtype != np.int64 or not target.whole:
        return False
    if not alike(*ct, logits, weight, call.results[0]) or (isinstance(weight, View) and not weight.whole):
        return False
    share = [vector(one) for one in ct if isinstance(one, View)]
    classes, into = vector(target), vector(call.results[0])
    if None in share or classes is None or into is None:
        return False
    arguments = [to.view(into, "writes_c"), *(to.view(one, "reads_c") for one in share if one is not None)]
    arguments += [to.view(x, "reads_c"), to.view(classes, "reads_c")]
    arguments.append(to.view(weight, "reads_c") if isinstance(weight, View) else to.nothing(x.dtype))
    reduction = call.params["reduction"]
    flags = [str(reduction == "mean")] if ct else [str(reduction == "none"), str(reduction == "mean")]
    name = "_pull_back" if ct else "_cross_entropy"
    to.fails(call, to.linked_call("loss", name, arguments + flags, x.dtype))
    return True


@rule("dropout")
def dropout(to: Writer, call: Call) -> bool:
    """Which entries stay is a hash of the key, as it is in this step, and of their places."""
    x, key = call.operands
    y = call.results[0]
    if not isinstance(x, View) or not x.whole or not alike(x, y):
        return False
    values, into = vector(x), vector(y)
    if values is None or into is None:
        return False
    arguments = [to.view(into, "writes_c"), to.view(values, "reads_c"), f"int64({to.number(key)})"]
    arguments.append(repr(float(call.params["p"])))
    to.kinds[arguments[-1]] = "real"
    to.add(to.linked_call("random", "drop", arguments, x.dtype))
    return True


@rule(*UPDATES)
def update(to: Writer, call: Call) -> bool:
    """New parameters and states in the place of the old ones, parameter by parameter."""
    scalars, each = UPDATES[call.op.name]
    arrays = call.operands[scalars:]
    if not call.writes or not alike(*arrays, *call.results) or not all(x.whole for x in call.results):
        return False
    rows = [arrays[i : i + each + 1] for i in range(0, len(arrays), each + 1)]
    if any(not isinstance(x, View) or not x.whole for x in arrays):
        return False
    if [x for row in rows for x in row[:-1]] != list(call.results):
        return False
    numbers, dtype = update_numbers(to, call), call.results[0].dtype
    for row in rows:
        views = [vector(x) for x in row if isinstance(x, View)]
        made = [to.view(x, "writes_c") for x in views[:-1] if x is not None]
        made += [to.view(x, "reads_c") for x in views[-1:] if x is not None]
        to.add(to.linked_call("rules", "update", [to.group(made, dtype), numbers], dtype))
    return True


def update_numbers(to: Writer, call: Call) -> str:
    """The tuple of numbers that an update takes; those that change nothing are left out."""
    options, name = call.params, call.op.name
    decay = float(options["weight_decay"])
    numbers = [f"float({to.number(x)})" for x in call.operands[: UPDATES[name][0]]]
    if name == "adam_update":
        decays = (f"{numbers[0]} * {decay!r}", "0.0") if options["decoupled"] else ("0.0", repr(decay))
        given = [*numbers, *(repr(float(options[one])) for one in ("beta1", "beta2", "eps"))]
        text = f"{to.use('rules', 'adam_numbers')}({', '.join(given)})"
        to.kinds[text] = f"({' + '.join(['real'] * 8)})"
        if not decay:
            return text
        to.kinds[whole := f"(*{text}, {', '.join(decays)})"] = f"({' + '.join(['real'] * 10)})"
        return whole
    more = []
    if name == "momentum_update":
        numbers.append(repr(float(options["momentum"])))
        more = [float(options["nesterov"])]
    if decay or any(more):
        numbers += map(repr, [*more, decay])
    to.kinds.update(dict.fromkeys(numbers, "real"))
    return to.group(numbers, np.dtype(np.float64))
