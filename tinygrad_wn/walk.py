"""The walk back through a recorded graph: newest node first, each once, cotangents summed on the way."""

from __future__ import annotations

import heapq
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias

from .errors import GradientError
from .op import OPS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .tensor import Node, Tensor

    Key: TypeAlias = tuple[int, int]


class Written:
    """Arrays that a compiled step writes to, by the counts of their tensors, and when it did so last.

    A step only notes the number; whoever walks back has it put in the place of all counts before, by `settle`.
    """

    __slots__ = ("serial", "waits", "writes")

    def __init__(self, writes: list[list[int]]) -> None:
        self.writes, self.serial, self.waits = writes, 0, False


unsettled: list[Written] = []


def settle() -> None:
    """Let the counts of tensors say when steps wrote to them."""
    while unsettled:
        one = unsettled.pop()
        one.waits = False
        for count in one.writes:
            count[0] = max(count[0], one.serial)


recording: ContextVar[bool] = ContextVar("recording", default=True)


@contextmanager
def recorded(on: bool) -> Iterator[None]:
    """Record op calls, or not, for this thread or task."""
    token = recording.set(on)
    try:
        yield
    finally:
        recording.reset(token)


def no_grad() -> Any:
    """Compute without recording inside a `with` block or a decorated function, for this thread or task only.

    >>> x = tg.tensor(2.0, requires_grad=True)
    >>> with tg.no_grad():
    ...     y = x * x
    >>> y.requires_grad
    False
    """
    return recorded(False)


def key_of(tensor: Tensor) -> Key:
    """What a tensor is known by during a walk: a leaf by itself, a result by its node."""
    return (-id(tensor), 0) if tensor._node is None else (tensor._node.serial, tensor._index)


def walk(
    result: Tensor, cotangent: Tensor, targets: tuple[Tensor, ...] | None, create_graph: bool
) -> dict[Key, tuple[Tensor, Tensor]]:
    """Cotangents of all leaves, or of `targets` alone, as (tensor, cotangent) by key."""
    settle()
    found: dict[Key, tuple[Tensor, Tensor]] = {}
    wanted = None if targets is None else {key_of(t) for t in targets}
    useful = None if wanted is None else _useful(result, wanted)
    pending: dict[int, list[Tensor | None]] = {}
    heap: list[tuple[int, Node]] = []

    def give(x: Tensor, ct: Tensor) -> None:
        node = x._node
        if node is None or wanted is not None:
            key = key_of(x)
            if wanted is None or key in wanted:
                found[key] = (x, found[key][1] + ct) if key in found else (x, ct)
            if node is None or (useful is not None and node.serial not in useful):
                return
        serial = node.serial
        held = pending.get(serial)
        if held is None:
            held = pending[serial] = [None] * node.outputs
            heapq.heappush(heap, (-serial, node))
        one = held[x._index]
        held[x._index] = ct if one is None else one + ct

    with recorded(create_graph):
        give(result, cotangent)
        while heap:
            serial, node = heapq.heappop(heap)
            asked = [getattr(x, "_wants", False) for x in node.inputs]
            if wanted is not None and useful is not None:
                asked = [wants and _leads(x, wanted, useful) for x, wants in zip(node.inputs, asked, strict=True)]
            for x, ct, wants in zip(node.inputs, node.pull(pending.pop(-serial), asked), asked, strict=True):
                if wants and ct is not None:
                    one, like = ct if hasattr(ct, "_data") else _made(ct, node), x._data
                    fits = one._data.shape == like.shape and one._data.dtype is like.dtype
                    give(x, one if fits else _fit(one, x))
    return found


def _made(ct: Any, node: Node) -> Tensor:
    """The cotangent that a vjp gave as a function."""
    if not callable(ct):
        what = f"{node.op.name}: its vjp must give tensors, None, or functions that give tensors"
        raise GradientError(what, {"given": type(ct).__name__}, hint="write it in tg functions, not in NumPy's")
    made: Tensor = ct()
    return made


def _leads(x: Tensor, wanted: set[Key], useful: set[int]) -> bool:
    """Whether this input is a target, or was computed from one."""
    return key_of(x) in wanted or (x._node is not None and x._node.serial in useful)


def _fit(ct: Tensor, x: Tensor) -> Tensor:
    """Undo broadcasting and promotion: the cotangent of `x` has its shape and dtype."""
    if ct.shape != x.shape:
        ct = OPS["sum_to"](ct, shape=x.shape)
    return ct if ct.dtype == x.dtype else OPS["astype"](ct, dtype=x.dtype)


def nodes_below(result: Tensor) -> dict[int, Node]:
    """All nodes that `result` was computed by, by serial number."""
    nodes: dict[int, Node] = {}
    stack = [result._node]
    while stack:
        node = stack.pop()
        if node is not None and node.serial not in nodes:
            nodes[node.serial] = node
            stack += [x._node for x in node.inputs if getattr(x, "requires_grad", False)]
    return nodes


def leaves_below(result: Tensor) -> Iterator[Tensor]:
    """The tensors that a walk back from `result` ends at."""
    if result._node is None and result.requires_grad:
        yield result
    for node in nodes_below(result).values():
        for x in node.inputs:
            if getattr(x, "requires_grad", False) and x._node is None:
                yield x


def _useful(result: Tensor, wanted: set[Key]) -> set[int]:
    """Serials of the nodes through which a wanted tensor reaches `result`."""
    nodes = nodes_below(result)
    useful: set[int] = set()
    for serial in sorted(nodes):
        for x in nodes[serial].inputs:
            if getattr(x, "requires_grad", False) and _leads(x, wanted, useful):
                useful.add(serial)
                break
    return useful
