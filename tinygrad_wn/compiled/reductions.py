"""How ops that reduce are written: loops over each slice, with sums of floats in float64, rounded once.

Formulas as in the definitions, term for term.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..shapes import axes_of, other_axes
from .calls import Call, View
from .sweep import Sweep, copy, known, with_axes
from .writer import Writer, rule

WIDE = np.dtype(np.float64)


def _sweep(to: Writer, call: Call, axes: tuple[int, ...], inputs: int = 1) -> Sweep:
    """Loops over the shape of the first operand; results have what the axes leave."""
    shape = call.operands[0].shape if isinstance(call.operands[0], View) else ()
    results = [y if len(y.shape) == len(shape) else with_axes(y, axes) for y in call.results]
    return Sweep(to, shape, axes, [x for x in call.operands[:inputs] if isinstance(x, View)], results)


def _axes(call: Call) -> tuple[int, ...]:
    x = call.operands[0]
    return axes_of(call.params["axis"], len(x.shape)) if isinstance(x, View) else ()


def _total(at: Sweep, dtype: np.dtype[Any], x: str | None = None) -> str:
    """Σ x over the reduced places: floats in float64, others in the dtype of NumPy's sum."""
    if dtype.kind == "f":
        return at.fold(WIDE, "0.0", f"{at.to.use('loss', 'plus')}({{0}}, {x or at.x(0)})")
    kind = at.to.type_of(dtype)
    return at.fold(dtype, f"{kind}(0)", f"{kind}({{0}} + {x or at.x(0, dtype)})")


def _summed(x: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of NumPy's sum."""
    return np.sum(np.empty(0, x)).dtype


@rule("sum")
def sum(to: Writer, call: Call) -> bool:
    """Σ x."""
    if not known(*call.operands, *call.results):
        return False
    at = _sweep(to, call, _axes(call))
    at.store(_total(at, call.results[0].dtype))
    return at.end()


@rule("sum_to")
def sum_to(to: Writer, call: Call) -> bool:
    """Σ x over the axes that a broadcast to x's shape repeats."""
    (x,), (y,) = call.operands, call.results
    if not known(x, y) or not isinstance(x, View):
        return False
    more = len(x.shape) - len(y.shape)
    full = (1,) * more + y.shape
    axes = tuple(i for i, (n, m) in enumerate(zip(x.shape, full, strict=True)) if i < more or n != m)
    at = Sweep(to, x.shape, axes, [x], [with_axes(y, range(more))])
    at.store(_total(at, y.dtype))
    return at.end()


@rule("mean")
def mean(to: Writer, call: Call) -> bool:
    """Σ x / n."""
    x = call.operands[0]
    if not known(x, *call.results) or not isinstance(x, View):
        return False
    at = _sweep(to, call, _axes(call))
    at.store(f"{_total(at, _summed(x.dtype))} / {at.count}")
    return at.end()


@rule("var")
def var(to: Writer, call: Call) -> bool:
    """Σ(x - mean)² / (n - correction)."""
    if not known(call.operands[0], *call.results):
        return False
    at, plus = _sweep(to, call, _axes(call)), to.use("loss", "plus")
    middle = at.fold(WIDE, "0.0", f"{plus}({{0}}, {at.x(0, WIDE)})", f"{{0}} / {at.count}")
    squares = at.fold(WIDE, "0.0", f"{plus}({{0}}, ({at.x(0, WIDE)} - {middle}) ** 2)")
    at.store(f"{squares} / {at.count - call.params['correction']!r}")
    return at.end()


@rule("max", "min")
def extreme(to: Writer, call: Call) -> bool:
    """The largest or smallest number of each slice."""
    if not known(call.operands[0], *call.results):
        return False
    at = _sweep(to, call, _axes(call))
    at.store(_top(at, call.results[0].dtype, smallest=call.op.name == "min"))
    return at.end()


def _top(at: Sweep, dtype: np.dtype[Any], *, smallest: bool = False, size: bool = False) -> str:
    """The largest number of each slice, or the smallest, or the largest `size` where there is one; NaN wins."""
    first, x = at.x(0, dtype, first=True), at.x(0, dtype)
    if size:
        first, x = f"{at.to.type_of(dtype)}(0)", f"abs({x})"
    if at.views[0].dtype != dtype or dtype.kind != "f":
        return at.fold(dtype, first, f"{at.to.use('reduce', 'smaller' if smallest else 'larger')}({{0}}, {x})")
    rank = at.to.use("reduce", "rank_below" if smallest else "rank_above")
    best = at.fold(f"i{dtype.itemsize}", f"{rank}({first})", f"{'min' if smallest else 'max'}({{0}}, {rank}({x}))")
    return f"{at.to.use('loss', 'ranked')}({at.inputs[0]}, {best})"


@rule("prod")
def prod(to: Writer, call: Call) -> bool:
    """Π x."""
    if not known(call.operands[0], *call.results):
        return False
    at, dtype = _sweep(to, call, _axes(call)), call.results[0].dtype
    dtype = WIDE if dtype.kind == "f" else dtype
    kind = to.type_of(dtype)
    at.store(at.fold(dtype, f"{kind}(1)", f"{kind}({{0}} * {at.x(0, dtype)})"))
    return at.end()


@rule("argmax")
def argmax(to: Writer, call: Call) -> bool:
    """The first place of the largest number of each slice, or of NaN."""
    x = call.operands[0]
    if not known(x, *call.results) or not isinstance(x, View):
        return False
    at = _sweep(to, call, _axes(call))
    top = _top(at, x.dtype)
    here = f"{to.use('reduce', 'earlier')}({{0}}, int64({at.index()}), {at.count}, {at.x(0)}, {top})"
    at.store(at.fold(np.int64, f"int64({at.count})", here))
    return at.end()


@rule("all", "any")
def holds(to: Writer, call: Call) -> bool:
    """Whether all numbers of a slice, or some, are not 0."""
    if not known(call.operands[0], *call.results):
        return False
    at, every = _sweep(to, call, _axes(call)), call.op.name == "all"
    at.store(at.fold(np.bool_, str(every), f"{{0}} {'&' if every else '|'} ({at.x(0)} != 0)"))
    return at.end()


@rule("logsumexp", "softmax", "log_softmax")
def soft(to: Writer, call: Call) -> bool:
    """log Σ exp(x), exp(x) / Σ exp(x), and its logarithm, each with the largest x taken away before."""
    if not known(call.operands[0], *call.results):
        return False
    at, dtype = _sweep(to, call, _axes(call)), call.results[0].dtype
    exp, log, plus = to.use("exponential", "exp"), to.use("exponential", "log"), to.use("loss", "plus")
    top = _top(at, dtype)
    if call.op.name == "logsumexp":
        top = f"{to.type_of(dtype)}({to.use('reduce', 'finite_or_zero')}({top}))"
    power = f"{exp}({at.x(0, dtype)} - {top})"
    if call.op.name == "softmax":
        at.store(power, each=True)
        total = at.fold(WIDE, "0.0", f"{plus}({{0}}, {at.y()})")
        at.store(f"{at.y()} / {total}", each=True)
        return at.end()
    total = at.fold(WIDE, "0.0", f"{plus}({{0}}, {power})", f"{log}({{0}})")
    if call.op.name == "logsumexp":
        at.store(f"{top} + {total}")
    else:
        at.store(f"({at.x(0, dtype)} - {top}) - {total}", each=True)
    return at.end()


@rule("mse")
def mse(to: Writer, call: Call) -> bool:
    """(x - target)², or their sum or mean."""
    x, target = call.operands
    if not known(x, target, *call.results) or not isinstance(x, View) or not isinstance(target, View):
        return False
    reduction = call.params["reduction"]
    at = _sweep(to, call, () if reduction == "none" else tuple(range(len(x.shape))), inputs=2)
    dtype = np.result_type(x.dtype, target.dtype)
    if dtype.kind == "f" and reduction != "none":
        square = f"({at.x(0, WIDE)} - {at.x(1, WIDE)}) ** 2"
    else:
        away = f"{to.type_of(dtype)}({at.x(0, dtype)} - {at.x(1, dtype)})"
        square = f"{to.type_of(dtype)}({away} * {away})"
    if reduction == "none":
        at.store(square)
        return at.end()
    summed = _summed(dtype)
    total = _total(at, summed, square if summed.kind == "f" else f"{to.type_of(summed)}({square})")
    at.store(f"{total} / {x.size}" if reduction == "mean" else total)
    return at.end()


def _measured(at: Sweep, v: View) -> tuple[str, str]:
    """A power of two that brings the numbers of each slice of input 0 near 1, and Σ of the squares after that."""
    plus, scale = at.to.use("loss", "plus"), "1.0"
    if v.dtype != np.float32:
        top = _top(at, WIDE, size=True)
        scale = f"{at.to.use('measure', 'power_for')}({top})"
    return scale, at.fold(WIDE, "0.0", f"{plus}({{0}}, ({at.x(0, WIDE)} * {scale}) ** 2)")


@rule("vector_norm")
def vector_norm(to: Writer, call: Call) -> bool:
    """√Σx²."""
    x = call.operands[0]
    if not known(x, *call.results) or not isinstance(x, View):
        return False
    at = _sweep(to, call, _axes(call))
    scale, squares = _measured(at, x)
    at.store(f"{to.use('reduce', 'root')}({squares}) / {scale}")
    return at.end()


@rule("finite")
def finite(to: Writer, call: Call) -> bool:
    """x, unless a number of it is NaN or infinite."""
    (x,), (y,) = call.operands, call.results
    if not known(x, y) or not isinstance(x, View) or x.dtype.kind != "f":
        return False
    at = Sweep(to, x.shape, range(len(x.shape)), [x], [])
    at.fails(call, at.fold(np.dtype(bool), "False", f"{{0}} | {to.use('reduce', 'boundless')}({at.x()})"))
    at.end()
    copy(to, y, x)
    return True


@rule("exponent")
def exponent(to: Writer, call: Call) -> bool:
    """e with max|v| = m·2ᵉ."""
    x = call.operands[0]
    if not known(x, *call.results) or not isinstance(x, View) or x.dtype.kind != "f":
        return False
    at = _sweep(to, call, _axes(call))
    top = _top(at, x.dtype, size=True)
    at.fails(call, f"{top} == 0")
    at.store(f"{to.use('reduce', 'exponent_of')}({top})")
    return at.end()


def _level(at: Sweep, k: int) -> str:
    """A power of two that brings input k to 1 and below, slice by slice; products of float32 need none."""
    if at.views[k].dtype == np.float32:
        return "1.0"
    top = at.fold(WIDE, "0.0", f"{at.to.use('reduce', 'larger')}({{0}}, abs({at.x(k, WIDE)}))")
    return f"{at.to.use('measure', 'power_for')}({top})"


@rule("weight_norm")
def weight_norm(to: Writer, call: Call) -> bool:
    """w = g v / ‖v‖."""
    v = call.operands[0]
    if not known(*call.operands, *call.results) or not isinstance(v, View):
        return False
    at = _sweep(to, call, other_axes(call.params["axis"], len(v.shape)), inputs=2)
    scale, squares = _measured(at, v)
    at.fails(call, f"{squares} == 0")
    length = f"{to.use('reduce', 'root')}({squares})"
    at.store(f"{at.x(1, WIDE)} / {length} * ({at.x(0, WIDE)} * {scale})", each=True)
    return at.end()


@rule("weight_norm_pullback")
def weight_norm_pullback(to: Writer, call: Call) -> bool:
    """∇v = (g/‖v‖)(∇w - ∇g u) and ∇g = ∇w·u, with u = v/‖v‖."""
    ct, v, g = call.operands
    if not known(*call.operands, *call.results) or not isinstance(v, View):
        return False
    turned = Call(call.op, (v, ct, g), call.params, call.results, call.writes, call.line)
    at, plus = _sweep(to, turned, other_axes(call.params["axis"], len(v.shape)), inputs=3), to.use("loss", "plus")
    scale, squares = _measured(at, v)
    at.fails(call, f"{squares} == 0")
    length = f"{to.use('reduce', 'root')}({squares})"
    unit = f"{at.x(0, WIDE)} * {scale} / {length}"
    along = at.fold(WIDE, "0.0", f"{plus}({{0}}, {at.x(1, WIDE)} * ({unit}))")
    times = to.use("measure", "times")
    across = f"({at.x(1, WIDE)} - {along} * ({unit})) / {length}"
    at.store(f"{times}({across}, {at.x(2, WIDE)}, {scale})", each=True)
    at.store(along, 1)
    return at.end()


@rule("weight_norm_second")
def weight_norm_second(to: Writer, call: Call) -> bool:
    """Cotangents of ∇w, v and g in `weight_norm_pullback`."""
    a, b, ct, v, g = call.operands
    if not known(*call.operands, *call.results) or not isinstance(v, View):
        return False
    turned = Call(call.op, (v, a, ct, g, b), call.params, call.results, call.writes, call.line)
    at, plus = _sweep(to, turned, other_axes(call.params["axis"], len(v.shape)), inputs=5), to.use("loss", "plus")
    scale, squares = _measured(at, v)
    at.fails(call, f"{squares} == 0")
    length = at.fold(WIDE, f"{to.use('reduce', 'root')}({squares})", "{0}")
    unit = f"({at.x(0, WIDE)} * {scale} / {length})"
    by_a, by_ct = (_level(at, k) for k in (1, 2))
    levels = f"{at.x(1, WIDE)} * {by_a}", f"{at.x(2, WIDE)} * {by_ct}"
    along_a, along_ct = along = [at.fold(WIDE, "0.0", f"{plus}({{0}}, {x} * {unit})") for x in levels]
    across_a, across_ct = (f"(({x} - {y} * {unit}) / {length})" for x, y in zip(levels, along, strict=True))
    both = at.fold(WIDE, "0.0", f"{plus}({{0}}, {across_a} * {across_ct})")
    bent = f"({both} * {unit} + {along_a} / {length} * {across_ct} + {along_ct} / {length} * {across_a})"
    g_x, b_x, shifted, power = at.x(3, WIDE), at.x(4, WIDE), to.use("measure", "shifted"), to.use("measure", "power_of")
    of_a, of_ct = (f"{power}({scale}) - {power}({by})" for by in (by_a, by_ct))
    at.store(f"{shifted}({g_x} * {across_a}, {of_a}) + {b_x} * {unit}", 0, each=True)
    at.store(f"{shifted}({b_x} * {across_ct}, {of_ct}) - {shifted}({g_x} * {bent}, {of_a} + {of_ct})", 1, each=True)
    at.store(f"{shifted}({length} * {both}, {of_a} + {of_ct} - {power}({scale}))", 2)
    return at.end()
