"""A plan for the eye: as a table, and as a drawing in the languages of Graphviz and Mermaid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ValueRangeError
from .calls import View

if TYPE_CHECKING:
    from .calls import Call, Memory
    from .plan import Plan, Stage

PRODUCTS = {"matmul": 1, "linear": 1, "weight_norm_linear": 1, "linear_pullback": 2, "weight_norm_linear_pullback": 2}


def flops(call: Call) -> int:
    """Floating-point operations of a call: two for each number that a product reads and adds, one for all others."""
    size = sum(x.size for x in call.results)
    if call.op.name not in PRODUCTS:
        return size
    *_, a, b = [x for x in call.operands[: 3 if call.op.name.endswith("pullback") else 2] if isinstance(x, View)]
    if call.op.name == "matmul":
        return 2 * call.results[0].size * a.shape[-1]
    rows = a.size // max(a.shape[-1], 1)
    return 2 * rows * b.size * (PRODUCTS[call.op.name] if call.params.get("wanted", (True,))[0] else 1)


def _name(stage: Stage) -> str:
    return " ".join(call.op.name for call in stage.calls)


def table(plan: Plan) -> str:
    """One line a stage."""
    rows = [("calls", "shape", "memory", "flops", "bytes")]
    for stage in plan.stages:
        written = list(stage.writes())
        where = ", ".join(dict.fromkeys(_where(x.memory) for x in written)) or "-"
        size = sum(x.size * x.dtype.itemsize for x in (*stage.reads(), *written))
        shape = str(list(stage.calls[-1].results[0].shape))
        rows.append((_name(stage), shape, where, f"{sum(map(flops, stage.calls)):,}", f"{size:,}"))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = [
        "  ".join(x.ljust(w) if i < 3 else x.rjust(w) for i, (x, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    return "\n".join([*lines, f"{plan.bytes:,} bytes for all that the step makes"])


def _where(memory: Memory) -> str:
    return f"made+{memory.place}" if memory.kind == "made" else memory.kind


def drawn(plan: Plan, style: str) -> str:
    """Stages as boxes; arrows go from where something is made to where it is read."""
    arrows: dict[tuple[int, int], None] = {}
    maker: dict[Memory, int] = {}
    for i, stage in enumerate(plan.stages):
        arrows.update({(maker[x.memory], i): None for x in stage.reads() if x.memory in maker})
        maker.update({x.memory: i for x in stage.writes()})
    names = [f"{_name(stage)} {list(stage.calls[-1].results[0].shape)}" for stage in plan.stages]
    if style == "dot":
        boxes = [f'  s{i} [label="{name}"];' for i, name in enumerate(names)]
        return "\n".join(
            ["digraph step {", "  node [shape=box];", *boxes, *(f"  s{a} -> s{b};" for a, b in arrows), "}"]
        )
    if style == "mermaid":
        boxes = [f'  s{i}["{name}"]' for i, name in enumerate(names)]
        return "\n".join(["flowchart TD", *boxes, *(f"  s{a} --> s{b}" for a, b in arrows)])
    raise ValueRangeError("graph: style must be 'dot' or 'mermaid'", {"given": repr(style)})
