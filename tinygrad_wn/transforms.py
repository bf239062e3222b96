"""Derivatives of functions: grad, value_and_grad, vjp, jvp, jacobian, hessian, hvp. All compose to any order.

A forward-mode derivative needs no rules of its own. A vjp is linear in its cotangent u, so pulling the tangent back
through it, u ↦ Jᵀu, gives J·tangent: two walks back make one walk forward.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import DTypeError, GradientError, ShapeError
from .functions import stack
from .slot import differentiated, slot
from .tensor import Tensor, as_array, wrap
from .walk import leaves_below, recorded, recording

if TYPE_CHECKING:
    from collections.abc import Callable

    Function = Callable[..., Any]
    Argnums = int | tuple[int, ...]


def _leaf(x: Any) -> Tensor:
    """A tensor to differentiate by: one that is recorded already stays in its graph, so that transforms nest.

    Others are copied: writing to them later must not change what a pulled back cotangent is.
    """
    if isinstance(x, Tensor) and x.requires_grad and recording.get():
        return x.reshape(x.shape)
    array = as_array(x) if isinstance(x, Tensor) and slot.over.get() is not None else np.array(as_array(x))
    if array.dtype.kind != "f":
        hint = "give floats, 3.0 for 3; or name other arguments in argnums"
        raise DTypeError("a derivative needs float32 or float64 inputs", {"dtype": array.dtype}, hint=hint)
    return wrap(array, requires_grad=True)


def _numbers(argnums: Argnums | None, count: int) -> tuple[int, ...]:
    if argnums is None:
        return tuple(range(count))
    numbers = argnums if isinstance(argnums, tuple) else (argnums,)
    for n in numbers:
        if not -count <= n < count:
            raise ShapeError("argnums names an argument that is not there", {"argnums": argnums, "arguments": count})
    found = tuple(n % count for n in numbers)
    if len(set(found)) < len(found):
        raise ShapeError("argnums names an argument twice", {"argnums": argnums, "arguments": count})
    return found


def _called(f: Function, args: tuple[Any, ...], numbers: tuple[int, ...], kwargs: Any) -> tuple[Any, list[Tensor]]:
    """f's result and the tensors that stand for the arguments to differentiate by."""
    given = list(args)
    leaves = [_leaf(args[n]) for n in numbers]
    for n, leaf in zip(numbers, leaves, strict=True):
        given[n] = leaf
    token = differentiated.set(True)
    try:
        with recorded(True):
            return f(*given, **kwargs), leaves
    finally:
        differentiated.reset(token)


def _tensors(y: Any, what: str, count: int | None = None) -> tuple[Tensor, ...]:
    found = y if isinstance(y, tuple) else (y,)
    if count not in (None, len(found)):
        raise GradientError(f"{what}: the function must return one tensor", {"returned": f"a tuple of {len(found)}"})
    for one in found:
        if not isinstance(one, Tensor):
            raise GradientError(f"{what}: the function must return tensors", {"returned": type(one).__name__})
    return found


def _is_nested(ys: tuple[Tensor, ...], own: list[Tensor]) -> bool:
    """Whether the result depends on something recorded outside, so that derivatives must be recorded as well."""
    return recording.get() and any(not any(leaf is x for x in own) for y in ys for leaf in leaves_below(y))


def _release(leaves: list[Tensor]) -> None:
    """Nobody differentiates by these any more: results that stay in an outer graph do not depend on them."""
    for leaf in leaves:
        if leaf._node is None:
            leaf.requires_grad = False


def paired(ys: tuple[Tensor, ...], cts: Any, what: str) -> Tensor:
    """Σ ⟨y, ct⟩: a number whose gradients are the pulled back cotangents."""
    if len(ys) != len(cts):
        raise ShapeError(f"{what}: one tensor for each is needed", {"needed": len(ys), "given": len(cts)})
    pairs = []
    for y, given in zip(ys, cts, strict=True):
        ct = given if isinstance(given, Tensor) else wrap(as_array(given, y.dtype))
        if ct.shape != y.shape:
            raise ShapeError(f"{what}: shapes must agree", {"needed": list(y.shape), "given": list(ct.shape)})
        pairs.append((y * ct).sum())
    total = pairs[0]
    for one in pairs[1:]:
        total = total + one
    return total


def value_and_grad(f: Function, argnums: Argnums = 0) -> Function:
    """A function that returns f's value and its gradient by the arguments `argnums` (a tuple for a tuple).

    f must return a tensor with one value, else GradientError.

    >>> tg.value_and_grad(lambda x: (x * x).sum())(tg.tensor([1.0, 2.0]))
    (Tensor(5.), Tensor([2., 4.]))
    """

    @wraps(f)
    def both(*args: Any, **kwargs: Any) -> Any:
        y, leaves = _called(f, args, _numbers(argnums, len(args)), kwargs)
        one, *_ = ys = _tensors(y, "grad", 1)
        nested = _is_nested(ys, leaves)
        found = one.gradient(*leaves, create_graph=nested)
        _release(leaves)
        return (one if nested else one.detach()), (found if isinstance(argnums, tuple) else found[0])

    return both


def grad(f: Function, argnums: Argnums = 0) -> Function:
    """A function that returns the gradient of f by the arguments `argnums`; grad(grad(f)) is the second derivative.

    f must return a tensor with one value, else GradientError.

    >>> tg.grad(tg.grad(lambda x: x**3))(tg.tensor(2.0))
    Tensor(12.)
    """
    both = value_and_grad(f, argnums)

    @wraps(f)
    def only(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return only


def vjp(f: Function, *primals: Any, argnums: Argnums | None = None) -> tuple[Any, Function]:
    """f's value, and the function that pulls a cotangent of it back to a tuple with one cotangent per argument.

    `argnums` names the arguments, all by default. f returns a tensor or a tuple of tensors; the function takes as many
    cotangents, of the same shapes.

    >>> y, pull = tg.vjp(lambda x: x * x, tg.tensor([1.0, 2.0]))
    >>> pull(tg.tensor([1.0, 10.0]))
    (Tensor([ 2., 40.]),)
    """
    numbers = _numbers(argnums, len(primals))
    y, leaves = _called(f, primals, numbers, {})
    ys = _tensors(y, "vjp")
    nested = _is_nested(ys, leaves)

    def pull(*cotangents: Any) -> tuple[Tensor, ...]:
        recorded_ct = recording.get() and any(isinstance(ct, Tensor) and ct.requires_grad for ct in cotangents)
        with recorded(True):
            total = paired(ys, cotangents, "vjp")
        return total.gradient(*leaves, create_graph=nested or recorded_ct)

    return y if nested else _map(y, Tensor.detach), pull


def _map(y: Any, change: Function) -> Any:
    return tuple(change(one) for one in y) if isinstance(y, tuple) else change(y)


def jvp(f: Function, primals: Any, tangents: Any, argnums: Argnums | None = None) -> tuple[Any, Any]:
    """f's value at `primals`, and its derivative along `tangents` (one for each of `argnums`, all by default).

    >>> tg.jvp(lambda x: x * x, (tg.tensor([1.0, 2.0]),), (tg.tensor([1.0, 10.0]),))
    (Tensor([1., 4.]), Tensor([ 2., 40.]))
    """
    numbers = _numbers(argnums, len(primals))
    y, leaves = _called(f, tuple(primals), numbers, {})
    ys = _tensors(y, "jvp")
    nested = _is_nested(ys, leaves) or any(isinstance(t, Tensor) and t.requires_grad for t in tangents)
    with recorded(True):
        probes = tuple(wrap(np.zeros(one.shape, _float(one)), requires_grad=True) for one in ys)
        pulled = paired(ys, probes, "jvp").gradient(*leaves, create_graph=True)
        along = paired(pulled, tangents, "jvp")
    pushed = along.gradient(*probes, create_graph=nested and recording.get())
    _release([*leaves, *probes])
    y = y if nested else _map(y, Tensor.detach)
    return y, (pushed if isinstance(y, tuple) else pushed[0])


def _float(y: Tensor) -> Any:
    return y.dtype if y.dtype.kind == "f" else np.float32


def jacobian(f: Function, argnums: Argnums = 0) -> Function:
    """A function that returns ∂f/∂x of shape (*f's shape, *x's shape) for each of `argnums`, row by row.

    >>> tg.jacobian(lambda x: x * x)(tg.tensor([1.0, 2.0]))
    Tensor([[2., 0.],
            [0., 4.]])
    """

    @wraps(f)
    def whole(*args: Any, **kwargs: Any) -> Any:
        y, leaves = _called(f, args, _numbers(argnums, len(args)), kwargs)
        one, *_ = ys = _tensors(y, "jacobian", 1)
        nested = _is_nested(ys, leaves)
        rows = []
        for i in range(one.size):
            ct = np.zeros(one.shape, _float(one))
            ct.reshape(-1)[i] = 1
            rows.append(one.gradient(*leaves, cotangent=ct, create_graph=nested))
        _release(leaves)
        found = tuple(_stacked([row[j] for row in rows], one, leaf) for j, leaf in enumerate(leaves))
        return found if isinstance(argnums, tuple) else found[0]

    return whole


def _stacked(rows: list[Tensor], y: Tensor, x: Tensor) -> Tensor:
    if not rows:
        return wrap(np.zeros((*y.shape, *x.shape), x.dtype))
    return stack(rows).reshape(*y.shape, *x.shape)


def hessian(f: Function, argnums: Argnums = 0) -> Function:
    """A function that returns ∂²f/∂x², of shape (*x's shape, *x's shape), for an f with one value.

    For several `argnums`, a tuple of tuples: ∂²f/∂x∂y at the place of x, and in it at that of y.

    >>> tg.hessian(lambda x: (x**3).sum())(tg.tensor([1.0, 2.0]))
    Tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    if not isinstance(argnums, tuple):
        return jacobian(grad(f, argnums), argnums)
    rows = [jacobian(grad(f, n), argnums) for n in argnums]
    return wraps(f)(lambda *args, **kwargs: tuple(row(*args, **kwargs) for row in rows))


def hvp(f: Function, primals: Any, tangents: Any, argnums: Argnums | None = None) -> tuple[Tensor, ...]:
    """Hessian of f at `primals` times `tangents` (one for each of `argnums`, all by default), without the Hessian.

    >>> tg.hvp(lambda x: (x**3).sum(), (tg.tensor([1.0, 2.0]),), (tg.tensor([1.0, 10.0]),))
    (Tensor([  6., 120.]),)
    """
    numbers = _numbers(argnums, len(primals))

    def slope(*args: Any) -> Tensor:
        return paired(grad(f, numbers)(*args), tangents, "hvp")

    found: tuple[Tensor, ...] = grad(slope, numbers)(*primals)
    return found
