"""Hypothesis strategies for short programs, and what they must compute: what this package answers to the same lines."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import assume, strategies as st

from ...creation import tensor
from ...errors import TinygradWNError, ValueRangeError
from ...functions import weight_norm
from ...kernels import kernels
from ...ops.linear import linear
from ...ops.loss import cross_entropy
from ...ops.structural import broadcast_to
from ...tensor import Tensor
from .example import Example

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypothesis.strategies import DrawFn, SearchStrategy

    from ...domains import Array, Shape

STEPS = 6
"""The most steps of a program."""

MIXED = 3
"""The most ops of one program: each is seen more often than if all were mixed."""

LARGEST = 32.0
"""No step has a result beyond this, so no slope is large and no sum loses its digits."""

NEAREST = 0.125
"""How near to 0 a root, a logarithm, a divisor or the corner of relu may come, where rounding decides about slopes."""

NUMBERS = st.sampled_from([2.0, 3.0, 1.0, -1.0, 0.5, -2.0, 0.0])
"""What leaves hold: exact in binary, different where that is simplest, and 0, where relu has its corner."""

SHAPES: tuple[Shape, ...] = ((2,), (), (2, 2), (2, 3), (1, 2), (2, 1), (3, 2), (1,))
"""Shapes of leaves. Many pairs broadcast; others are no legal step, and are passed over."""

MATRICES: tuple[Shape, ...] = ((2, 2), (2, 3), (3, 2), (2, 1), (1, 2))
"""Shapes of leaves of programs with matrix products."""

TEMPLATES = {
    "+": ("{} + {}", "{} + 3", "3 + {}"),
    "*": ("{} * {}", "{} * 3", "3 * {}"),
    "-": ("{} - {}", "-{}", "3 - {}"),
    "/": ("{} / {}",),
    "**": ("{} ** 2", "{} ** 3", "{} ** -1", "{} ** 0.5"),
    "exp": ("{}.exp()",),
    "log": ("{}.log()",),
    "tanh": ("{}.tanh()",),
    "relu": ("{}.relu()",),
    "sum": (
        "{}.sum()",
        "{}.sum(axis=0)",
        "{}.sum(axis=1)",
        "{}.sum(axis=-1)",
        "{}.sum(axis=1, keepdims=True)",
        "{}.sum(keepdims=True)",
    ),
    "@": ("{} @ {}",),
    "T": ("{}.T",),
}
"""Ways to write each op."""


def leaf(data: Any) -> Tensor:
    """What `Value` and `Tensor` are in the answers: a tensor of float64."""
    return tensor(np.array(data, np.float64), requires_grad=True)


def sum_to(ct: Array, shape: Shape) -> Array:
    """The gradient of broadcasting to the shape of `ct`."""
    x = leaf(np.zeros(shape))
    return broadcast_to(x, shape=ct.shape).gradient(x, cotangent=ct)[0].numpy()


def network(x: Array, layers: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Weight-normalized layers of (v, g, b) with relu between them."""
    h: Tensor = tensor(x)
    for number, (v, g, b) in enumerate(layers):
        h = linear(h if number == 0 else h.relu(), weight_norm(v, g, axis=0), b)
    return h


ANSWERS: dict[str, Any] = {
    "np": np,
    "Value": leaf,
    "Tensor": leaf,
    "sum_to": sum_to,
    "cross_entropy": cross_entropy,
    "network": network,
}
"""What this package answers with to the names that a program may use."""


def answered(code: Sequence[str], expressions: Sequence[str]) -> Example:
    """The example of these lines and expressions, with the answers of this package."""
    with kernels(False):
        space = dict(ANSWERS)
        exec("\n".join(code), space)
        found = {expression: eval(expression, space) for expression in expressions}
    return Example(tuple(code), {key: x.numpy() if isinstance(x, Tensor) else x for key, x in found.items()})


def array(draw: DrawFn, shape: Shape, numbers: SearchStrategy[float] = NUMBERS) -> str:
    """An expression that makes an array of drawn numbers; every other one is larger by 1, so that they differ."""
    drawn = [draw(numbers) + place % 2 for place in range(int(np.prod(shape)))]
    return f"np.array({np.array(drawn).reshape(shape).tolist()})"


def programs(kind: str, ops: Sequence[str]) -> SearchStrategy[Example]:
    """Programs of `ops` on `kind`, "Value" or "Tensor", that share their parts, and end with a walk back.

    Raises ValueRangeError for an op that is not in TEMPLATES.

    >>> from tinygrad_wn.testing.autograder.programs import programs
    >>> programs("Value", ["+", "cosh"])
    Traceback (most recent call last):
        ...
    tinygrad_wn.errors.ValueRangeError: no such op
      given : cosh
      hint  : one of +, *, -, /, **, exp, log, tanh, relu, sum, @, T
    """
    for op in ops:
        if op not in TEMPLATES:
            raise ValueRangeError("no such op", {"given": op}, hint=f"one of {', '.join(TEMPLATES)}")
    return _programs(kind, ops)


@st.composite
def _programs(draw: DrawFn, kind: str, ops: Sequence[str]) -> Example:
    lines: dict[str, str] = {}
    few = draw(st.lists(st.sampled_from(ops), min_size=1, max_size=MIXED))
    ways = [way for op in few for way in TEMPLATES[op]]
    with kernels(False):
        space = dict(ANSWERS)
        shapes = st.sampled_from(MATRICES if TEMPLATES["@"][0] in ways else SHAPES)
        for name in "ab"[: draw(st.integers(1, 2))]:
            of = draw(NUMBERS) if kind == "Value" else array(draw, draw(shapes))
            lines[name] = f"{name} = {kind}({of})"
            exec(lines[name], space)
        for name in "cdefgh"[: draw(st.integers(1, STEPS))]:
            names = st.sampled_from(list(reversed(lines)))
            way = draw(st.sampled_from(ways))
            line = f"{name} = {way.format(*(draw(names) for _ in range(way.count('{}'))))}"
            if _is_legal(line, space):
                lines[name] = line
    assume(list(lines)[-1] not in "ab")
    kept = _kept(lines)
    last = kept[-1]
    seed = "" if kind == "Value" else array(draw, space[last].shape)
    leaves = [name for name in kept if name in "ab"]
    code = [*(lines[name] for name in kept), f"{last}.backward({seed})"]
    return answered(code, [f"{last}.data", *(f"{name}.{part}" for part in ("data", "grad") for name in leaves)])


def _is_legal(line: str, space: dict[str, Any]) -> bool:
    """Run a step with this package's tensors; whether it is legal, smooth enough and its result of moderate size."""
    name, _, expression = line.partition(" = ")
    parts = [space[part] for part in re.findall(r"\b[a-h]\b", expression)]
    if ("@" in expression or ".T" in expression) and any(part.ndim != 2 for part in parts):
        return False
    with np.errstate(all="ignore"):
        try:
            exec(line, space)
        except (TinygradWNError, np.exceptions.AxisError):
            return False
    found = space[name].data
    return bool(np.all(np.isfinite(found)) and np.all(np.abs(found) <= LARGEST)) and _is_smooth(expression, space)


def _is_smooth(expression: str, space: dict[str, Any]) -> bool:
    """Whether no entry is nearer to 0 than NEAREST where that matters; the corner of relu is exact in a leaf."""
    near = re.search(r"(\w+)(?: \*\* (?:0\.5|-1)|\.log|\.relu)|/ (\w+)", expression)
    if near is None:
        return True
    argument = near[1] or near[2]
    x = space[argument].data
    positive = "0.5" in expression or "log" in expression
    exact = argument in "ab" and "relu" in expression
    return exact or bool(np.all((x if positive else np.abs(x)) >= NEAREST))


def _kept(lines: dict[str, str]) -> list[str]:
    """The names that the last one is made of, itself included, in their order."""
    wanted = {list(lines)[-1]}
    for name in reversed(lines):
        if name in wanted:
            wanted |= set(re.findall(r"\b[a-h]\b", lines[name]))
    return [name for name in lines if name in wanted]


@st.composite
def one_step(draw: DrawFn, ops: Sequence[str]) -> Example:
    """One op on two Values, with the slopes of its result."""
    a, b = draw(NUMBERS), draw(NUMBERS.map(lambda x: x + 1))
    code = [f"a = Value({a})", f"b = Value({b})", f"c = {draw(st.sampled_from(ops))}"]
    wanted = answered([*code, "c.backward()"], ["c.data", "[float(x.grad.numpy()) for x in (a, b)]"])
    value, slopes = wanted.expected.values()
    return Example(tuple(code), {"c.data": value, "[p.data for p in c.parents]": [a, b], "list(c.slopes)": slopes})


@st.composite
def orders(draw: DrawFn) -> Example:
    """A graph of sums that share their parts, and what holds for the list of its nodes."""
    lines = {"a": "a = Value(2.0)"}
    for name in "cdefgh"[: draw(st.integers(1, STEPS))]:
        names = st.sampled_from(list(reversed(lines)))
        lines[name] = f"{name} = {draw(names)} + {draw(names)}"
    kept = _kept(lines)
    code = (*(lines[name] for name in kept), f"order = topological({kept[-1]})")
    once = {f"order.count({name})": 1 for name in kept}
    edges = [(part, name) for name in kept[1:] for part in dict.fromkeys(lines[name].split(" = ")[1].split(" + "))]
    before = {f"order.index({part}) < order.index({name})": True for part, name in edges}
    return Example(code, {**once, "len(order)": len(kept), **before})


@st.composite
def cotangents(draw: DrawFn) -> Example:
    """A call of `sum_to`: an array, and a shape that broadcasts to its shape."""
    added, axes = draw(st.integers(0, 3)), draw(st.integers(1, 3))
    whole = tuple(draw(st.sampled_from([2, 3, 1])) for _ in range(axes))
    short = whole[added:]
    shape = tuple(draw(st.sampled_from([n, 1])) for n in short)
    return answered([f"ct = {array(draw, whole)}", f"y = sum_to(ct, {shape})"], ["y", "ct"])


@st.composite
def losses(draw: DrawFn) -> Example:
    """A call of `cross_entropy`, with logits up to ±1000 in some."""
    rows, classes = draw(st.integers(1, 3)), draw(st.integers(2, 3))
    size = draw(st.sampled_from(["", " * 1000"]))
    labels = [draw(st.integers(0, classes - 1)) for _ in range(rows)]
    code = [f"x = Tensor({array(draw, (rows, classes))}{size})", f"loss = cross_entropy(x, np.array({labels}))"]
    return answered([*code, "loss.backward()"], ["loss.data", "x.data", "x.grad"])


@st.composite
def networks(draw: DrawFn) -> Example:
    """A weight-normalized network of one or two layers, its loss, and the gradients of all parameters."""
    sizes = [draw(st.integers(2, 3)) for _ in range(draw(st.integers(2, 3)))]
    lines, layers = [f"x = {array(draw, (2, sizes[0]))}"], []
    for number, (n, m) in enumerate(pairwise(sizes), 1):
        lines += [f"v{number} = Tensor({array(draw, (m, n), st.sampled_from([2.0, 3.0, 0.5, -2.0]))})"]
        lines += [f"{name}{number} = Tensor({array(draw, of)})" for name, of in (("g", (m, 1)), ("b", (m,)))]
        layers.append(f"(v{number}, g{number}, b{number})")
    lines += [f"y = network(x, [{', '.join(layers)}])", f"loss = cross_entropy(y, np.array([0, {sizes[-1] - 1}]))"]
    lines += ["loss.backward()"]
    names = [f"{name}{number}" for number in range(1, len(sizes)) for name in "vgb"]
    hidden = answered([*lines[:4], f"h = network(x, [{layers[0]}])"], ["h.data"]).expected["h.data"]
    assume(len(layers) == 1 or np.all(np.abs(hidden) >= NEAREST))  # not at the corner of relu
    return answered(lines, ["y.data", "loss.data", *(f"{name}.grad" for name in names)])
