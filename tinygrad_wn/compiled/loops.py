"""How elementwise calls in a row are written: as one loop, in which the ops' own definitions run for single numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .calls import Call, Number, Operand, View
from .plan import MOVES, Stage

if TYPE_CHECKING:
    from .writer import Writer


class Loop:
    """Writes elementwise calls as one loop."""

    def __init__(self, writer: Writer, stage: Stage) -> None:
        self.to, self.stage = writer, stage
        self.shape = stage.calls[0].results[0].shape
        views = [*stage.reads(), *stage.writes()]
        self.flat = all(x.whole and x.shape == self.shape for x in views if x.size != 1 or x.shape == self.shape)
        self.values: dict[View, str] = {}

    def write(self) -> None:
        """Write the loop: numbers that are one for all places first, then the places."""
        to, start = self.to, self.to.depth
        written = {call.results[0] for call in self.stage.calls}
        for x in self.stage.reads():
            if x.size == 1 and x not in self.values and x not in written:
                self.values[x] = f"one_{len(to.lines)}"
                to.add(f"{self.values[x]} = {to.view(x, 'reads')}[{', '.join('0' for _ in x.shape) or '()'}]")
        outputs = dict.fromkeys(self.stage.writes())  # in order: the text must not depend on where objects lie
        for x in self.stage.reads():
            if x not in self.values and x not in written:
                to.view(self._flattened(x), "reads_c" if self.flat else "reads")
        for x in outputs:
            to.view(self._flattened(x), "writes_c" if self.flat else "writes")
        for axis, size in enumerate((self._count(),) if self.flat else self.shape):
            to.add(f"for i{axis} in range({self._range(size) if axis == 0 else size}):")
            to.depth += 1
        for k, call in enumerate(self.stage.calls):
            own = call.results[0]
            to.add(f"t{k} = {self._expression(call)}")
            self.values[own] = f"t{k}"
        for own in self.stage.writes():  # when all is read: a result may lie where an operand was
            name = to.view(self._flattened(own), "writes_c" if self.flat else "writes")
            to.add(f"{name}[{self._place(own)}] = {self.values[own]}")
        to.depth = start

    def _range(self, size: int) -> str:
        """All places along the first axis, or those of a thread's part."""
        if not self.to.plan.team or not self.to.split.count:
            return str(size)
        first, last = self.to.range()
        each = size // self.to.split.count
        return f"{first} * {each}, {last} * {each}" if each > 1 else f"{first}, {last}"

    def _count(self) -> int:
        return int(np.prod(self.shape))

    def _flattened(self, x: View) -> View:
        return View(x.memory, x.start, (x.size,), (x.dtype.itemsize,), x.dtype) if self.flat else x

    def _place(self, x: View) -> str:
        if self.flat:
            return "i0"
        shift = len(self.shape) - len(x.shape)
        places = ["0" if n == 1 else f"i{axis + shift}" for axis, n in enumerate(x.shape)]
        return ", ".join(places) or "()"

    def _expression(self, call: Call) -> str:
        """The call for one place: numbers in the dtype in which NumPy would compute."""
        result = call.results[0].dtype
        if call.op.name in MOVES:
            return f"{self.to.type_of(result)}({self._value(call.operands[0])})"
        kinds = [call.op.domains[name].kind for name in call.op.input_names]
        common = _common(call, kinds, result)
        self.to.scalars.add(call.op.name)
        arguments = []
        for x, kind in zip(call.operands, kinds, strict=True):
            if x is None:
                arguments.append("None")
            elif kind in ("integer", "boolean"):
                arguments.append(self._value(x))
            else:
                known = isinstance(x, View) and x.dtype == common
                arguments.append(self._value(x) if known else f"{self.to.type_of(common)}({self._value(x)})")
        return f"{self.to.type_of(result)}(scalar_{call.op.name}({', '.join(arguments)}))"

    def _value(self, x: Operand) -> str:
        if not isinstance(x, View):
            return self.to.number(x)
        if x in self.values:
            return self.values[x]
        name = self.to.view(self._flattened(x), "reads_c" if self.flat else "reads")
        return f"{name}[{self._place(x)}]"


def _common(call: Call, kinds: list[str], result: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which NumPy computes a call: Python numbers are weak, integers give floats, booleans integers."""
    given: list[Any] = []
    for x, kind in zip(call.operands, kinds, strict=True):
        if x is not None and kind not in ("integer", "boolean"):
            given.append(x.dtype if isinstance(x, View) else 0.0 if isinstance(x, Number) else x)
    common = np.result_type(*given) if given else result
    floats, numbers = result.kind == "f" and common.kind != "f", result.kind in "iu" and common.kind == "b"
    return result if floats or numbers else common
