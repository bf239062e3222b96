"""How batch normalization is written: loops over each unit, with sums in float64, as in the definitions."""

from __future__ import annotations

import numpy as np

from ..shapes import other_axes
from .calls import Call, View
from .sweep import Sweep, known, with_axes
from .writer import Writer, rule

WIDE = np.dtype(np.float64)


def _mean(at: Sweep, x: str) -> str:
    return at.fold(WIDE, "0.0", f"{at.to.use('loss', 'plus')}({{0}}, {x})", f"{{0}} / {at.count}")


@rule("center")
def center(to: Writer, call: Call) -> bool:
    """x - mean(x)."""
    (x,) = call.operands
    if not known(x, *call.results) or not isinstance(x, View):
        return False
    at = Sweep(to, x.shape, other_axes(call.params["axis"], len(x.shape)), [x], call.results)
    wide = at.x(0, WIDE)
    at.store(f"{wide} - {_mean(at, wide)}", each=True)
    return at.end()


@rule("standardize", "standardize_pullback")
def standardize(to: Writer, call: Call) -> bool:
    """x̂ = (x - mean(x)) / √(var(x) + eps), or (ct - μ[ct] - x̂ μ[ct x̂]) / √(var(x) + eps)."""
    *cts, x = call.operands
    if not known(*call.operands, *call.results) or not isinstance(x, View):
        return False
    given = [one for one in (x, *cts) if isinstance(one, View)]
    at = Sweep(to, x.shape, other_axes(call.params["axis"], len(x.shape)), given, call.results)
    away = f"({at.x(0, WIDE)} - {_mean(at, at.x(0, WIDE))})"
    square = f"{to.use('loss', 'plus')}({{0}}, {away} ** 2)"
    finish = f"1 / {to.use('reduce', 'root')}({{0}} / {at.count} + {float(call.params['eps'])!r})"
    rate = at.fold(WIDE, "0.0", square, finish)
    if not cts:
        at.store(f"{away} * {rate}", each=True)
        return at.end()
    ct = at.x(1, WIDE)
    middle, along = _mean(at, ct), _mean(at, f"{ct} * ({away} * {rate})")
    at.store(f"{rate} * ({ct} - {middle} - {away} * {rate} * {along})", each=True)
    return at.end()


@rule("running_update")
def running_update(to: Writer, call: Call) -> bool:
    """r ← (1 - momentum) r + momentum (that of the batch), and count ← count + 1."""
    count, x, *running = (one for one in call.operands if one is not None)
    if not known(count, x, *running, *call.results) or not isinstance(x, View):
        return False
    axis, momentum = call.params["axis"], call.params["momentum"]
    rest = other_axes(axis, len(x.shape))
    olds, news = (
        [with_axes(one, rest) for one in them if isinstance(one, View)] for them in (running, call.results[1:])
    )
    number = f"number{len(to.lines)}"
    to.add(f"{number} = {to.number(count)} + 1")
    at = Sweep(to, x.shape, rest, [x, *olds], news)
    share = f"(1 / {number})" if momentum is None else repr(float(momentum))
    wide, found = at.x(0, WIDE), [_mean(at, at.x(0, WIDE))]
    if len(olds) > 1:
        square = f"{to.use('loss', 'plus')}({{0}}, ({wide} - {found[0]}) ** 2)"
        found.append(at.fold(WIDE, "0.0", square, f"{{0}} / {float(at.count - 1)!r}"))
    for k, one in enumerate(found):
        at.store(f"(1 - {share}) * {at.x(1 + k, WIDE, first=True)} + {share} * {one}", k)
    at.end()
    to.add(f"{to.view(call.results[0], 'writes')}[()] = {number}")
    return True
