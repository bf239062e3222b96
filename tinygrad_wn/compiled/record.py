"""Writes down every op call of one real step: what is computed from what, and where it lies in memory.

The recorder lies over the eager engine, which carries each call out as ever. Arrays that nobody saw before come from
outside: parameters, data, constants. They are kept, and a compiled step reads and writes them where they lie. A result
that looks into memory known already is a view, and no work at all.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine import eager
from ..errors import CompileError
from ..op import OPS, Op
from ..slot import Live, slot
from ..tensor import Tensor, as_array, overwritten, wrap
from .calls import Call, Memory, Number, Operand, Record, Room, View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..domains import Array

PACKAGE = str(Path(__file__).parent.parent) + os.sep


class Recorder:
    """The interpreter that writes a Record."""

    def __init__(self, arguments: list[Array], originals: list[Any]) -> None:
        """Watch a call: `arguments` lie where those that the caller gave lie, the `originals`."""
        self.record = Record()
        self.originals = {id(x) for x in originals}
        self.cleared = False
        """Whether the step sets gradients to None."""
        self.memories = {id(x): Memory("argument", x, i) for i, x in enumerate(arguments)}
        self._foreign: dict[int, tuple[Any, Tensor]] = {}
        self._leaves: dict[int, Tensor] = {}
        self._kept: list[Any] = []
        self._before: dict[int, tuple[Tensor, Array]] = {}
        self.constants: list[Any] = []
        """What tensors were made of that keep their numbers from run to run."""
        self.created: dict[int, Tensor] = {}
        """Those tensors, which begin anew in each eager call."""
        self.gradients: dict[int, Tensor] = {}
        """What backward() left in `.grad`."""
        self.assigns_gradients = False
        """Whether code of the user sets `.grad`, to a tensor that may well be from outside."""
        self._advanced: list[object] = []
        self.drawing: Callable[[Callable[[], Any]], Any] = lambda prepare: prepare()
        """Asks for numbers that are drawn anew before each run."""
        self.refused: CompileError | None = None
        """What was refused first, whether or not the function caught it."""

    def __call__(
        self, op: Op[...], inputs: tuple[Any, ...], params: dict[str, Any], targets: tuple[Any, ...] | None
    ) -> Any:
        """Carry a call out, and write it down."""
        inputs = tuple([self._adopted(x) if isinstance(x, np.ndarray | np.generic) else x for x in inputs])
        operands = tuple(map(self._operand, inputs))
        if targets is not None:
            operands = self._apart(op, operands, targets)
        for t in targets or ():
            if self.creates(t):
                what = "writing to a tensor that is made in the step, and would begin where the step before left it,"
                self.refuse(t, what, hint="make it outside; call a model that makes it in its first run once before")
            self._before.setdefault(id(t._data), (t, t._data.copy()))
        live = any(type(x) is Live for x in inputs)
        found = eager(op, self._now(op, inputs) if live else inputs, params, targets)
        if live and isinstance(found, Tensor) and found._node is not None:
            found._node.inputs = tuple(map(_still_live, inputs, found._node.inputs))
        outputs = targets if targets is not None else found if op.several else (found,)
        known = [id(self._owner(t._data)) in self.memories for t in outputs]
        results = tuple([self.view(t._data, "outside" if targets else "made") for t in outputs])
        if targets is not None:
            self.record.written += targets
        if targets is not None or not all(known):
            call = Call(op, operands, params, results, targets is not None, line())
            self.record.calls.append(call)
        return found

    def _apart(self, op: Op[...], operands: tuple[Operand, ...], targets: tuple[Any, ...]) -> tuple[Operand, ...]:
        """Copies of operands whose numbers the call would overwrite before it has read them all."""
        into = [self.view(t._data) for t in targets]
        numbered = op.elementwise or op.inplace
        found: list[Operand] = []
        for x in operands:
            if isinstance(x, View) and any(x.overlaps(y) and not (numbered and x == y) for y in into):
                made = np.empty(x.shape, x.dtype)
                copy = View(Memory("made", made), 0, x.shape, made.strides, x.dtype)
                self.record.calls.append(Call(OPS["stop_gradient"], (x,), {}, (copy,), False, line()))
                found.append(copy)
            else:
                found.append(x)
        return tuple(found)

    @staticmethod
    def _now(op: Op[...], inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Live numbers as they are now, integers where the op wants them."""
        whole = {i for i, _ in op.integers}
        return tuple([(int(x) if i in whole else float(x)) if type(x) is Live else x for i, x in enumerate(inputs)])

    def watch(self, function: Callable[[], Any]) -> Any:
        """What a function gives, while its op calls are written down. Raises CompileError for what was refused."""
        token = slot.over.set(self)
        try:
            found = function()
        finally:
            slot.over.reset(token)
        if self.refused is not None:
            raise self.refused
        return found

    def undo(self) -> None:
        """Give back what the recorded calls wrote over, and take away the gradients that they left."""
        for target, before in self._before.values():
            if target._data.flags.writeable:
                np.copyto(target._data, before)
                overwritten(target)
        self.forget_gradients()

    def view(self, array: Array, kind: str = "outside") -> View:
        """Where an array lies; memory that is not known yet is of this kind."""
        owner = self._owner(array)
        memory = self.memories.get(id(owner))
        if memory is None:
            memory = (self._known(owner) if kind == "outside" else None) or Memory(kind, owner)
            self.memories[id(owner)] = memory
        self._kept.append(array)
        return View(memory, _address(array) - _address(memory.owner), array.shape, array.strides, array.dtype)

    def _known(self, owner: Array) -> Memory | None:
        """Memory from outside that this array looks into by another way than as a view, as through a memoryview."""
        outside = (one for one in self.memories.values() if one.kind == "outside")
        return next((one for one in outside if np.may_share_memory(one.owner, owner)), None)

    def targets(self) -> list[Array]:
        """Arrays from outside that the step writes to."""
        arrays = {id(t._data): t._data for t in self.record.written}.values()
        return [x for x in arrays if self.memories[id(self._owner(x))].kind == "outside"]

    def _owner(self, array: Array) -> Array:
        """The array whose memory this one looks into."""
        while id(array) not in self.memories and isinstance(array.base, np.ndarray):
            array = array.base
        return array

    def _operand(self, x: Any) -> Operand:
        if isinstance(x, Tensor):
            if x._node is None:
                self._leaves[id(x)] = x
            return self.view(x._data)
        if type(x) is Live:
            return Number(x.place)
        if x is None or isinstance(x, float | int):
            return x
        return self.view(as_array(x))

    def _adopted(self, x: Any) -> Tensor:
        """An array of the caller as a tensor over the same memory."""
        if id(x) not in self._foreign:
            self._foreign[id(x)] = (x, wrap(as_array(x)))
            if not (x.flags.aligned and x.dtype.isnative):
                what = "an array from outside that is not aligned, or of another byte order,"
                self.refuse(self._foreign[id(x)][1], what, hint="copy it first: np.array(x, x.dtype.newbyteorder('='))")
        return self._foreign[id(x)][1]

    def copied(self, data: Tensor, array: Array) -> Array:
        """A copy of the numbers that `data` has in each run, in the dtype of `array`, which has those of now."""
        given, made = self.view(data._data), np.array(array, order="C")
        op, params = OPS["astype"], {"dtype": made.dtype}
        self.record.calls.append(Call(op, (given,), params, (self.view(made, "made"),), False, line()))
        return made

    def unread(self, array: Array) -> bool:
        """Whether no op reads the memory of this array, so that what NumPy computed with it is part of the step."""
        return id(self._owner(array)) not in self.memories

    def overwrites(self, array: Array) -> bool:
        """Whether the step writes to this array, and ops read it as it is in each run."""
        return id(array) in self._foreign and any(np.may_share_memory(t._data, array) for t in self.record.written)

    def made(self, tensor: Tensor) -> bool:
        """Whether the step computed this tensor, or got it as an argument."""
        memory = self.memories.get(id(self._owner(tensor._data)))
        return memory is not None and memory.kind != "outside"

    def creates(self, tensor: Tensor) -> bool:
        """Whether a tensor was made of numbers in the step, and goes when it is over."""
        return id(self._owner(tensor._data)) in self.created

    def computes(self, tensor: Tensor) -> bool:
        """Whether an eager call would give another tensor each time."""
        return self.made(tensor) or self.creates(tensor)

    def refuse(self, tensor: Tensor, what: str, hint: str = "") -> None:
        """Refuse what would happen once, when the step is recorded, and never again."""
        hint = hint or "return the tensor and read it outside; tg.where chooses between tensors"
        self._refuse(what, {"tensor": f"{tensor.dtype} {list(tensor.shape)}"}, hint)

    def _refuse(self, what: str, facts: dict[str, object], hint: str) -> None:
        """Raise, and remember it for where the step catches it."""
        error = refusal(what, facts | {"line": line()}, hint)
        self.refused = self.refused or error
        raise error

    def each_step(self, prepare: Callable[[], tuple[float, ...]], steady: bool) -> tuple[float, ...]:
        """Numbers that `prepare` gives anew before each run, or before one after a change."""
        first = len(self.record.numbers)
        values: tuple[float, ...] = self.drawing(prepare)
        self.record.before.append((prepare, first, steady))
        self.record.numbers += values
        return tuple(Live(value, first + i) for i, value in enumerate(values))

    def after_step(self, act: Callable[[], None], of: object) -> None:
        """Act after each run that did not fail."""
        self.record.after.append(act)
        self._advanced.append(of)

    def comes_first(self, one: object) -> None:
        """Refuse what comes after something that changes it after each run."""
        if any(one is other for other in self._advanced):
            hint = "call schedule.step() after the optimizer's, once; tg.scan a compiled step, not its function"
            self._refuse("a step of an optimizer after that of its schedule", {"optimizer": type(one).__name__}, hint)

    def lasts(self, values: Iterable[Any]) -> None:
        """Keep these tensors from run to run, as they are kept outside of the step."""
        for one in values:
            if isinstance(one, dict | list | tuple):
                self.lasts(one.values() if isinstance(one, dict) else one)
            if isinstance(one, Tensor):
                if self.made(one):
                    self.refuse(one, "keeping a tensor", hint="begin with tg.zeros, and write to it: kept.data = new")
                self.created.pop(id(self._owner(one._data)), None)

    def room_for(self, count: Tensor, most: int, empty: Callable[[], None]) -> None:
        """Let no run begin where `count` has come to `most`, or would in the middle of the run."""
        known = self.record.rooms.setdefault(id(count), Room(self.view(count._data), most, empty))
        known.most -= 1

    def depends_on(self, fact: Callable[[], Any]) -> None:
        """A compiled step is one for as long as `fact` gives the same."""
        self.record.facts.append(fact)

    def depends_on_attributes(self, thing: object) -> None:
        """A compiled step is one for as long as `thing` keeps its attributes."""
        self.record.things[id(thing)] = thing

    def depends_on_leaves(self) -> None:
        """A compiled step is one for as long as the same tensors from outside require a gradient."""
        leaves = [leaf for leaf in self._leaves.values() if not self.made(leaf)]
        self.depends_on(lambda: [leaf._wants for leaf in leaves])

    def adds_up(self) -> Tensor | None:
        """A parameter whose gradient would be added to that of the step before, in eager code alone."""
        updated = {id(t) for t in self.record.written}
        left = (leaf for leaf in self._leaves.values() if id(leaf.grad) in self.gradients)
        return None if self.cleared else next((leaf for leaf in left if id(leaf) in updated), None)

    def check_gradients(self, outputs: list[Any]) -> None:
        """Raise CompileError where the step leaves gradients, and neither an op nor an output reads one of them."""
        left = [leaf.grad for leaf in self._leaves.values() if leaf.grad is not None and self._own(leaf.grad)]
        read = {id(x.memory) for call in self.record.calls for x in call.operands if isinstance(x, View)}
        read |= {id(self.view(x._data).memory) for x in outputs if isinstance(x, Tensor)}
        if left and not any(id(self.view(grad._data).memory) in read for grad in left):
            what = "tg.jit: a compiled step leaves no gradients in .grad, and nothing in it reads those of backward()"
            raise CompileError(what, hint="call the optimizer's step() in it, or return what tg.value_and_grad gives")

    def forget_gradients(self) -> None:
        """Take away the gradients that the recorded step left: compiled steps leave none."""
        for leaf in self._leaves.values():
            if leaf.grad is not None and self._own(leaf.grad):
                leaf.grad = None

    def _own(self, gradient: Tensor) -> bool:
        return self.made(gradient) or id(gradient) in self.gradients


def _still_live(given: Any, kept: Any) -> Any:
    """What the walk back is to compute with: a number that changes from step to step stays one."""
    return given if type(given) is Live else kept


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def refusal(what: str, facts: dict[str, object], hint: str) -> CompileError:
    """The error for what would happen once, when a step is recorded, and never again."""
    text = f"tg.jit: {what} cannot be part of a compiled step: it would happen in the first call alone"
    return CompileError(text, facts, hint=hint)


def keep_apart(arguments: list[Array], targets: list[Array]) -> None:
    """Raise CompileError for an argument that the step would overwrite while it reads it."""
    for i, x in enumerate(arguments):
        if any(np.may_share_memory(x, y) for y in targets):
            what = "tg.jit: an argument shares memory with a tensor that the step writes to"
            raise CompileError(what, {"argument": i}, hint="let the step find the tensor outside, or give a copy")


def line() -> str:
    """The line of the user's code that runs."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
