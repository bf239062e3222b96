"""The recorded graph as text that Graphviz and Mermaid draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .walk import nodes_below

if TYPE_CHECKING:
    from .tensor import Tensor


class Graph(NamedTuple):
    """A drawing of a graph: `dot` for Graphviz, `mermaid` for Markdown."""

    dot: str
    mermaid: str


def graph(result: Tensor) -> Graph:
    """What `result` was computed by: a box an op call, an oval a tensor that goes in.

    >>> x = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> print(tg.graph(tg.exp(x).sum()).mermaid)
    flowchart TD
      t0(["float32 [2] wants gradient"])
      n0["exp"]
      n1["sum"]
      t0 --> n0
      n0 --> n1
    """
    nodes = nodes_below(result)
    names = {serial: f"n{i}" for i, serial in enumerate(sorted(nodes))}
    leaves: dict[int, tuple[str, str]] = {}
    edges: list[tuple[str, str]] = []

    def leaf(x: Tensor) -> str:
        label = f"{x.dtype} {list(x.shape)}{' wants gradient' if x.requires_grad else ''}"
        return leaves.setdefault(id(x), (f"t{len(leaves)}", label))[0]

    if not nodes:
        leaf(result)
    for serial in sorted(nodes):
        inputs = [x for x in nodes[serial].inputs if hasattr(x, "_node")]
        edges += [(leaf(x) if x._node is None else names[x._node.serial], names[serial]) for x in inputs]
    boxes = [(names[serial], nodes[serial].op.name) for serial in sorted(nodes)]
    dot = [f'  {name} [label="{label}", shape=oval];' for name, label in leaves.values()]
    dot += [f'  {name} [label="{label}", shape=box];' for name, label in boxes]
    dot += [f"  {start} -> {end};" for start, end in edges]
    mermaid = [f'  {name}(["{label}"])' for name, label in leaves.values()]
    mermaid += [f'  {name}["{label}"]' for name, label in boxes]
    mermaid += [f"  {start} --> {end}" for start, end in edges]
    return Graph("\n".join(["digraph {", *dot, "}"]), "\n".join(["flowchart TD", *mermaid]))
