"""How stages are written that threads share: each works on the rows or columns of its part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..kernels.panels import BY_COLUMN, BY_ROW, NOT_SCALED, PADDED, STRETCHED
from ..kernels.vector import VECTOR_BYTES
from .calls import View
from .lower import SMALL, UPDATES, is_turned, turned
from .notes import add_noted, row_of
from .rules import update_numbers
from .writer import Writer, shared

if TYPE_CHECKING:
    from .plan import Stage

NEVER = "-inf"
"""No number is below it."""


def _product(
    to: Writer,
    c: str,
    a: str,
    b: str,
    dtype: Any,
    *,
    bias: str = "",
    scales: str = "",
    scaling: int = NOT_SCALED,
    floor: str = NEVER,
    gate: str = "",
    name: str = "multiply_cut",
) -> None:
    to.kinds[floor] = "real"
    to.types.update({"inf"} if floor == NEVER else ())
    rest = [bias or to.nothing(dtype), scales or to.nothing(dtype, "writes"), str(scaling), floor]
    rest.append(gate or to.nothing(dtype, "reads"))
    to.add(to.linked_call("matmul", name, [c, a, b, *rest], dtype))


def _name(c: View, *, scaled: bool, apart: bool = False) -> str:
    """The kernel for a product: the one for any shape only for few columns, whole and unscaled."""
    return "product" if scaled or apart or c.shape[1] >= VECTOR_BYTES // c.dtype.itemsize else "multiply_cut"


@shared("linear")
def linear(to: Writer, stage: Stage) -> None:
    """y ← x·weightᵀ + bias, and relu if that follows."""
    x, weight, bias, *factors = stage.calls[0].given
    y = stage.calls[-1].results[0]
    floor = NEVER if len(stage.calls) == 1 else "0.0"
    if weight.size > SMALL:
        row = "" if bias is None else to.part(bias, "reads_c", 0)
        into, panels = to.part(y, "writes", 1), to.part(turned(weight), "reads", 1)
        _product(to, into, to.view(x, "reads"), panels, y.dtype, bias=row, floor=floor, name="product")
        return
    row = "" if bias is None else to.view(bias, "reads_c")
    scaling = STRETCHED if factors else PADDED if is_turned(weight) else NOT_SCALED
    scales = to.view(factors[0], "writes") if factors else ""
    into, columns = to.part(y, "writes", 0), to.view(turned(weight), "reads")
    left, name = to.part(x, "reads", 0), _name(y, scaled=scaling != NOT_SCALED)
    _product(to, into, left, columns, y.dtype, bias=row, scales=scales, scaling=scaling, floor=floor, name=name)


@shared("weight_norm_linear")
def weight_norm_linear(to: Writer, stage: Stage) -> None:
    """The same without w: rows of v are measured, and scaled on their way into the product."""
    x, v, g, bias = stage.calls[0].given
    y, (_, lengths, scales) = stage.calls[-1].results[0], stage.calls[0].results
    into = [to.part(lengths, "writes", 1), to.part(scales, "writes", 1)]
    to.fails(
        stage.calls[0],
        to.linked_call("linear", "prepare_rows", [*into, to.part(v, "reads", 0), to.part(g, "reads", 0)], y.dtype),
    )
    _product(
        to,
        to.part(y, "writes", 1),
        to.view(x, "reads"),
        to.part(turned(v), "reads", 1),
        y.dtype,
        bias="" if bias is None else to.part(bias, "reads_c", 0),
        scales=into[1],
        scaling=BY_COLUMN,
        floor=NEVER if len(stage.calls) == 1 else "0.0",
        name="product",
    )


@shared("linear_pullback", "weight_norm_linear_pullback")
def pullback(to: Writer, stage: Stage) -> None:
    """The cotangents of a batch, cut where a relu was shut; or those of a weight and of a bias."""
    first = stage.calls[0]
    ct, x, weight, *scales = first.given
    scales = scales[1:]
    if not first.params["wanted"][0]:
        _slopes(to, ct, x, list(first.results))
        return
    dx = stage.calls[-1].results[0]
    gates = stage.calls[1].given[1:] if len(stage.calls) > 1 else ()
    if weight.size <= SMALL and scales:
        shut = to.part(gates[0], "reads", 0) if gates else to.nothing(dx.dtype, "reads")
        rest = [to.part(ct, "reads", 0), to.view(weight, "reads"), to.view(scales[-1], "writes"), shut]
        rest.append(str(2 * weight.shape[0] <= ct.shape[0]))
        to.add(to.linked_call("linear", "cotangents", [to.part(dx, "writes", 0), *rest], dx.dtype))
        return
    axis = 0 if weight.size <= SMALL else 1
    into = to.part(dx, "writes", axis)
    left = to.view(ct, "reads") if axis else to.part(ct, "reads", 0)
    panels = to.part(weight, "reads", 1) if axis else to.view(weight, "reads")
    _product(
        to,
        into,
        left,
        panels,
        dx.dtype,
        scales=to.view(scales[-1], "writes") if scales else "",
        scaling=BY_ROW if scales else NOT_SCALED,
        gate=to.part(gates[0], "reads", axis) if gates else "",
        name=_name(dx, scaled=bool(scales), apart=axis == 1),
    )


def _slopes(to: Writer, ct: View, x: View, results: list[View]) -> None:
    for y in results:
        if len(y.shape) == 2:
            into, left = to.part(y, "writes", 0), to.part(turned(ct), "reads", 0)
            _product(to, into, left, to.view(x, "reads"), y.dtype, name=_name(y, scaled=False))
        else:
            into, columns = to.flat_part(y, "writes_c"), to.part(ct, "reads", 1)
            to.add(to.linked_call("rows", "sum_of_rows", [into, columns], y.dtype))


@shared("weight_norm")
def weight_norm(to: Writer, stage: Stage) -> None:
    """v as columns, its lengths, and the factors that make w of it."""
    (v, g), (columns, lengths, factors) = stage.calls[0].given, stage.calls[0].results
    arguments = [to.part(x, "writes", 1) for x in (turned(columns), lengths, factors)]
    arguments += [to.part(v, "reads", 0), to.part(g, "reads", 0)]
    to.fails(stage.calls[0], to.linked_call("turned", "measure_turned", arguments, v.dtype))


@shared("weight_norm_pullback")
def weight_norm_pullback(to: Writer, stage: Stage) -> None:
    """∇v and ∇g, with lengths that are known; or new values of v in the place of ∇v, in one pass, and notes of them."""
    (dw, v, g, lengths), (dv, dg) = stage.calls[0].given, stage.calls[0].results
    kept, slope = to.part(lengths, "writes", 1), to.part(dg, "writes", 0)
    if len(stage.calls) == 1:
        arguments = [to.part(dv, "writes", 0), slope, kept, *(to.part(x, "reads", 0) for x in (dw, v, g))]
        to.add(to.linked_call("equation_3", "pull_back_kept", arguments, v.dtype))
        return
    arrays = to.group([to.part(x, "writes", 0) for x in (*stage.calls[1].results, dw)], v.dtype)
    arguments = [slope, kept, to.part(g, "reads", 0), arrays, update_numbers(to, stage.calls[1])]
    plain = to.linked_call("steps", "pull_back_and_update", arguments, v.dtype)
    if len(stage.calls) == 2:
        to.add(plain)
        return
    notes = stage.calls[2]
    arguments = [to.part(notes.given[0], "writes", 2), row_of(to, notes), *arguments]
    add_noted(to, notes, to.linked_call("noted", "pull_back_and_update_noted", arguments, v.dtype), plain)


@shared("stop_gradient")
def turn(to: Writer, stage: Stage) -> None:
    """A weight with its columns side by side."""
    (x,), (y,) = stage.calls[0].given, stage.calls[0].results
    to.add(to.linked_call("panels", "turn", [to.part(turned(y), "writes", 1), to.part(x, "reads", 0)], x.dtype))


@shared("cross_entropy")
def cross_entropy(to: Writer, stage: Stage) -> None:
    """The loss of each row and its gradient."""
    loss, slope = stage.calls
    ct, logits, target, _ = slope.given
    one = View(ct.memory, ct.start, (1,), (ct.dtype.itemsize,), ct.dtype)
    parts = repr(float(logits.shape[0])) if slope.params["reduction"] == "mean" else "1.0"
    to.kinds[parts] = "real"
    arguments = [to.part(loss.results[0], "writes_c", 0), to.part(slope.results[0], "writes", 0)]
    arguments += [to.view(one, "reads_c"), to.part(logits, "reads", 0), to.part(target, "reads_c", 0), parts]
    to.fails(slope, to.linked_call("loss_rows", "losses_and_slopes", arguments, logits.dtype))


@shared(*UPDATES)
def update(to: Writer, stage: Stage) -> None:
    """New values of a parameter and its state, in the place of the old ones."""
    call = stage.calls[0]
    arrays = [x for x in call.given[UPDATES[call.op.name][0] :] if isinstance(x, View)]
    hows = ["writes_c"] * (len(arrays) - 1) + ["reads_c"]
    dtype = arrays[0].dtype
    rows = to.group([to.flat_part(x, how) for x, how in zip(arrays, hows, strict=True)], dtype)
    plain = to.linked_call("rules", "update", [rows, update_numbers(to, call)], dtype)
    if len(stage.calls) == 1:
        to.add(plain)
        return
    notes = stage.calls[1]
    own = [to.part(notes.given[0], "writes", 2), row_of(to, notes), str(notes.given[3].shape[1])]
    add_noted(to, notes, to.linked_call("noted", "update_noted", [*own, rows, update_numbers(to, call)], dtype), plain)
