"""Products of any arrays; and calls whose arrays are first brought into the dtype and order that a kernel takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import rules
from .calls import Call, Operand, View
from .lower import UPDATES
from .sweep import Sweep, copy, known, with_axes
from .writer import RULES, Writer, rule

if TYPE_CHECKING:
    from collections.abc import Callable


@rule("matmul")
def matmul(to: Writer, call: Call) -> bool:
    """c ← a·b for vectors, matrices and stacks of them."""
    (a, b), (c,) = call.operands, call.results
    if not known(a, b, c) or not isinstance(a, View) or not isinstance(b, View):
        return False
    if len(b.shape) == 1:
        b, c = with_axes(b, (1,)), with_axes(c, (len(c.shape),))
    if len(a.shape) == 1:
        a, c = with_axes(a, (0,)), with_axes(c, (len(c.shape) - 1,))
    stack = c.shape[:-2]
    if not rules.alike(a, b, c):
        return _sums(to, a, b, c)
    if not stack:
        rules.product(to, c, a, b)
        return True
    names = [to.view(_stacked(x, stack), how) for x, how in ((c, "writes"), (a, "reads"), (b, "reads"))]
    depth, place = to.depth, ", ".join(f"i{axis}" for axis in range(len(stack)))
    for axis, size in enumerate(stack):
        to.add(f"for i{axis} in range({size}):")
        to.depth += 1
    matrices = [f"{name}[{place}]" for name in names]
    none = [to.nothing(c.dtype), to.nothing(c.dtype, "writes"), "0"]
    to.add(f"{to.use('matmul', 'multiply')}({', '.join([*matrices, *none])})")
    to.depth = depth
    return True


def _stacked(x: View, stack: tuple[int, ...]) -> View:
    """Matrices with all axes of the stack before them."""
    more = len(stack) - len(x.shape) + 2
    steps = [0 if n == 1 else step for n, step in zip(x.shape[:-2], x.steps[:-2], strict=True)]
    return View(x.memory, x.start, (*stack, *x.shape[-2:]), (*[0] * more, *steps, *x.steps[-2:]), x.dtype)


def _sums(to: Writer, a: View, b: View, c: View) -> bool:
    """c ← a·b number by number, where a kernel does not know the dtypes."""
    turned = View(b.memory, b.start, (*b.shape[:-2], *b.shape[:-3:-1]), (*b.steps[:-2], *b.steps[:-3:-1]), b.dtype)
    inputs = [with_axes(a, (len(a.shape) - 1,)), with_axes(turned, (len(b.shape) - 2,))]
    at = Sweep(to, (*c.shape, a.shape[-1]), (len(c.shape),), inputs, [with_axes(c, (len(c.shape),))])
    if c.dtype.kind == "b":
        at.store(at.fold(c.dtype, "False", f"{{0}} | ({at.x(0)} & {at.x(1)})"))
        return at.end()
    dtype = np.dtype(np.float64) if c.dtype.kind == "f" else c.dtype
    kind = to.type_of(dtype)
    at.store(at.fold(dtype, f"{kind}(0)", f"{kind}({{0}} + {at.x(0, dtype)} * {at.x(1, dtype)})"))
    return at.end()


def _brought(to: Writer, x: Operand, dtype: np.dtype[np.generic]) -> Operand:
    """The numbers of an operand side by side and in this dtype."""
    if not isinstance(x, View) or (x.dtype == dtype and x.whole):
        return x
    made = to.aside(x.shape, dtype)
    copy(to, made, x)
    return made


def _brought_to(write: Callable[[Writer, Call], bool]) -> Callable[[Writer, Call], bool]:
    """The rule, and where it has no words, the rule for arrays in the dtype of the results."""

    def bring(to: Writer, call: Call) -> bool:
        if write(to, call):
            return True
        views = [x for x in call.operands if isinstance(x, View)]
        dtype, last = call.results[0].dtype, len(call.op.input_names) - 1
        if call.writes or not known(*views, *call.results) or dtype.kind != "f":
            return False
        if any(y.dtype != dtype for y in call.results):
            return False
        kinds = [call.op.domains[call.op.input_names[min(i, last)]].kind for i in range(len(call.operands))]
        operands = [
            _brought(to, x, np.dtype(np.int64) if kind == "integer" else dtype)
            for x, kind in zip(call.operands, kinds, strict=True)
        ]
        results = [y if y.whole else to.aside(y.shape, dtype) for y in call.results]
        if not write(to, Call(call.op, tuple(operands), call.params, tuple(results), False, call.line)):
            return False
        for y, made in zip(call.results, results, strict=True):
            if y is not made:
                copy(to, y, made)
        return True

    return bring


def _both(to: Writer, call: Call) -> bool:
    """Cotangents of v and g are made together, also where only one of them is wanted."""
    wanted, (_, _, v, g) = call.params["wanted"], call.operands
    if not isinstance(v, View) or not isinstance(g, View) or wanted[1] == wanted[2]:
        return rules.linear_pullback(to, call)
    at = int(wanted[0]) + int(wanted[1])
    other = g if wanted[1] else v
    results = (*call.results[:at], to.aside(other.shape, other.dtype), *call.results[at:])
    params = {"wanted": (wanted[0], True, True, wanted[3])}
    return rules.linear_pullback(to, Call(call.op, call.operands, params, results, call.writes, call.line))


def _updated(to: Writer, call: Call) -> bool:
    """The rule for arrays that are overwritten, for results that begin as copies of what they follow from."""
    scalars, each = UPDATES[call.op.name]
    if call.writes or not all(y.whole for y in call.results):
        return rules.update(to, call)
    results, operands = iter(call.results), list(call.operands)
    for i, x in enumerate(call.operands[scalars:]):
        if i % (each + 1) != each and isinstance(x, View):
            operands[scalars + i] = y = next(results)
            copy(to, y, x)
    return rules.update(to, Call(call.op, tuple(operands), call.params, call.results, True, call.line))


RULES |= {name: _brought_to(RULES[name]) for name in ("linear", "linear_pullback", "weight_norm_linear", "dropout")}
RULES |= {name: _brought_to(RULES[name]) for name in ("cross_entropy", "cross_entropy_pullback")}
RULES |= {"weight_norm_linear_pullback": _brought_to(_both)}
RULES |= {name: _brought_to(_updated) for name in UPDATES}
