"""Brief steps that machine code calls: what it looks at before, whose results it hands out again, what it counts."""

import copy
import gc
import pickle
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.testing import assert_array_equal
from test_compiled_calls import trained_square

import tinygrad_wn as tg
from tinygrad_wn.compiled.jit import Compiled
from tinygrad_wn.errors import GradientError, StateError
from tinygrad_wn.kernels.called import MAKE
from tinygrad_wn.slot import changes

pytestmark = pytest.mark.usefixtures("many_steps")


def doubling() -> Compiled:
    """A brief step that is called by machine code, as its third call was not seen by Python."""
    step = tg.jit(lambda x: x * 2.0)
    for _ in range(2):
        step(np.ones(3))
    return watched(step, lambda: step(np.ones(3)))


def watched(step: Compiled, call: Callable[[], object], seen: int = 0) -> Compiled:
    """The step, after a call in which Python ran the method of `Compiled` as often as `seen` says."""
    entered = []

    def trace(frame: Any, event: str, _: object) -> None:
        if event == "call" and frame.f_code is Compiled.__call__.__code__:
            entered.append(frame)

    sys.setprofile(trace)
    try:
        call()
    finally:
        sys.setprofile(None)
    assert len(entered) == seen
    return step


HOLDS: dict[str, Callable[[tg.Tensor], Any]] = {
    "nothing": lambda _: None,
    "the tensor": lambda y: y,
    "its array": lambda y: y.numpy(),
    "a part of its array": lambda y: y.numpy()[1:],
    "a tensor of its graph": lambda y: tg.tensor([1.0, 2.0, 3.0], requires_grad=True) * y,
    "the tensor, with a gradient": lambda y: setattr(y, "grad", tg.ones(3)) or y,
    "a gradient": lambda y: setattr(y, "grad", tg.ones(3)),
    "a wish for a gradient": lambda y: setattr(y, "requires_grad", True),
    "other data": lambda y: setattr(y, "data", np.zeros(3)),
}


@given(st.lists(st.tuples(st.sampled_from(sorted(HOLDS)), st.booleans()), max_size=30))
def test_a_result_that_somebody_holds_is_never_written_again(program: list[tuple[str, bool]]) -> None:
    step, held = doubling(), []
    for k, (what, drop) in enumerate(program):
        y = step(np.full(3, float(k)))
        assert_array_equal(y.numpy(), np.full(3, 2.0 * k))
        assert (y.grad, y.requires_grad) == (None, False)
        assert all(y is not one for one, _ in held)
        found = HOLDS[what](y)
        values = found.numpy() if isinstance(found, tg.Tensor) else found
        held.append((found, None if values is None else values.copy()))
        if drop and len(held) > 1:
            del held[len(held) // 2]
        del y, found, values
        for one, before in held:
            if one is not None:
                assert_array_equal(one.numpy() if isinstance(one, tg.Tensor) else one, before)


def test_machine_code_calls_the_step_whoever_holds_its_results() -> None:
    step, x = doubling(), np.ones(3)
    kept: list[tg.Tensor] = []
    watched(step, lambda: kept.extend(step(x) for _ in range(9)))
    assert len({id(y) for y in kept}) == 9
    last: deque[tuple[int, tg.Tensor]] = deque(maxlen=5)
    for k in range(5000):
        last.append((k, step(np.full(3, float(k)))))
    assert all(y.numpy()[0] == 2 * k for k, y in last)


@pytest.mark.parametrize("first", ["dropped", "held", "with a gradient", "weak"])
def test_two_results_take_turns_whatever_became_of_the_first(first: str) -> None:
    step, x = doubling(), np.ones(3)
    y = step(x)
    gone = weakref.ref(y) if first == "weak" else weakref.ref(y._data)
    if first == "with a gradient":
        y.grad = tg.ones(3)
        gone = weakref.ref(y.grad)
    kept = y if first == "held" else None
    del y
    for _ in range(3):
        loss = step(x)
    assert first == "dropped" or (gone() is None) == (first != "held")
    assert len({id(loss := step(x)) for _ in range(9)}) == 2
    assert kept is not loss


def test_a_call_while_it_looks_gets_a_result_of_its_own() -> None:
    step, x = doubling(), np.ones(3)
    direct = step._last().direct
    assert direct is not None
    same, found = direct.asked[0], []

    def again() -> bool:
        direct.asked[0] = same
        found.append(step(np.zeros(3)))
        return True

    for _ in range(2):
        direct.asked[0] = again
        found.append(step(x))
    assert [y.numpy()[0] for y in found] == [0.0, 2.0, 0.0, 2.0]


def test_what_is_not_as_it_was_recorded_goes_through_python() -> None:
    step, x = doubling(), np.ones(3)
    for other in (np.ones(4), np.ones(3, np.float32), x[::-1], tg.ones(3, requires_grad=True)):
        watched(step, lambda other=other: assert_array_equal(step(other).numpy(), [2.0] * len(other)), seen=1)
    for _ in range(2):
        step(x)
    watched(step, lambda: step(x))
    watched(step, lambda: step(x=x), seen=1)
    with pytest.raises(TypeError, match="argument"):
        step(x, x)
    with tg.no_grad():
        watched(step, lambda: step(x), seen=1)
    w = tg.tensor([1.0, 2.0, 3.0])
    watched(step, lambda: assert_array_equal(tg.grad(lambda w: step(w).sum())(w).numpy(), [2, 2, 2]), seen=1)
    for _ in range(2):
        step(x)
    changes[0] += 1
    watched(step, lambda: step(x))


def test_a_step_within_a_step_and_within_a_gradient_is_a_part_of_it() -> None:
    x = np.ones(2)
    (w, step), (other, plain) = trained_square(0.01), trained_square(0.01)
    for _ in range(3):
        step(x), plain(x)
    outer = tg.jit(lambda y: step(x) * y)
    for _ in range(4):
        outer(np.ones(1)), plain(x)
    assert_array_equal(w.numpy(), other.numpy())
    product = tg.jit(lambda x: (x * w).sum())
    for _ in range(3):
        product(x)
    slope = tg.grad(lambda q: product(x) * q)(tg.ones((), dtype="float64"))
    assert_array_equal(slope.gradient(w)[0].numpy(), x)


def test_arguments_with_names_and_results_in_containers_go_through_python() -> None:
    scaled = tg.jit(lambda x, k=1.0: x * k)
    named = tg.jit(lambda x: {"double": x * 2.0})
    for _ in range(4):
        assert_array_equal(scaled(np.ones(3)).numpy(), np.ones(3))
        assert_array_equal(scaled(np.ones(3), k=3.0).numpy(), np.full(3, 3.0))
        assert_array_equal(named(np.ones(3))["double"].numpy(), np.full(3, 2.0))


def little(x: Any) -> Any:
    """The same, as converting bytes of the other order leaves it: its dtype names an order, which is the native one."""
    return x if isinstance(x, tg.Tensor) else x.astype(">f8").byteswap().view(np.dtype(">f8").newbyteorder())


@pytest.mark.parametrize("kind", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy, little])
def test_arrays_and_tensors_that_come_from_elsewhere_are_arguments(kind: Callable[[Any], Any]) -> None:
    """A pickled array has an object of its own as dtype."""
    step = doubling()
    for x in (np.arange(3.0), tg.tensor(np.arange(3.0))):
        other = kind(x)
        watched(step, lambda other=other: assert_array_equal(step(other).numpy(), [0.0, 2.0, 4.0]))
        first = tg.jit(lambda x: x * 2.0)
        for _ in range(3):
            assert_array_equal(first(other).numpy(), first(x).numpy())


def test_a_rate_that_changes_in_each_step_is_the_one_that_is_used() -> None:
    w = tg.tensor([8.0], requires_grad=True)
    optimizer = tg.optim.SGD([w], lr=1.0)

    @tg.jit
    def step(x: tg.Tensor) -> tg.Tensor:
        optimizer.zero_grad()
        loss = (w * x).sum()
        loss.backward()
        optimizer.step()
        return loss

    for k in range(9):
        before = w.item()
        optimizer.param_groups[0]["lr"] = 0.25 * k
        watched(step, lambda: step(tg.ones(1)), seen=0 if k > 1 else k == 0 or k)
        assert w.item() == before - 0.25 * k


def test_values_outside_are_asked_for_in_each_call() -> None:
    factor = 2.0

    @tg.jit
    def step(x: tg.Tensor) -> tg.Tensor:
        return x * factor

    for factor in (2.0, 3.0, 4.0):
        for _ in range(3):
            assert_array_equal(step(np.ones(3)).numpy(), np.full(3, factor))
        watched(step, lambda: step(np.ones(3)))
    factor = float("4.0")  # another object of the same value
    watched(step, lambda: step(np.ones(3)), seen=1)
    watched(step, lambda: step(np.ones(3)))


def test_a_change_while_it_looks_goes_through_python() -> None:
    step = doubling()
    direct = step._last().direct
    assert direct is not None

    def changed() -> bool:
        changes[0] += 1
        return True

    direct.asked[0] = changed
    watched(step, lambda: step(np.ones(3)), seen=1)
    watched(step, lambda: step(np.ones(3)))


def test_a_step_that_draws_goes_through_python() -> None:
    drop = tg.nn.Dropout(0.5, rng=0)
    step, x = tg.jit(drop), np.ones(64)
    found = [step(x).numpy().copy() for _ in range(4)]
    watched(step, lambda: found.append(step(x).numpy()), seen=1)
    assert len({one.tobytes() for one in found}) == 5


def test_a_graph_from_before_a_step_that_writes_refuses_whoever_called_the_step() -> None:
    w, step = trained_square(0.01)
    for _ in range(3):
        step(tg.ones(2))
    for seen in (0, 1, 1):  # the first call after each walk back goes through Python
        loss = (w * w).sum()
        watched(step, lambda: step(tg.ones(2)), seen)
        with pytest.raises(GradientError, match="overwritten"):
            loss.backward()
        step(tg.ones(2))
        loss = (w * w).sum()
        watched(step, lambda: step(tg.ones(2)))
        with pytest.raises(GradientError, match="overwritten"):
            loss.backward()


def test_an_error_while_it_looks_is_raised_and_nothing_is_written() -> None:
    def interrupted() -> bool:
        raise KeyboardInterrupt

    w, step = trained_square(0.01)
    for _ in range(3):
        step(tg.ones(2))
    before, one = w.numpy().copy(), step._last()
    direct = one.direct
    assert direct is not None
    direct.asked[0] = interrupted
    with pytest.raises(KeyboardInterrupt):
        step(tg.ones(2))
    direct.asked[0] = one.same
    assert_array_equal(w.numpy(), before)
    watched(step, lambda: step(tg.ones(2)))
    assert np.any(w.numpy() != before)


def test_an_error_while_a_result_is_made_is_raised() -> None:
    step, x = doubling(), np.ones(3)
    direct = step._last().direct
    assert direct is not None

    def nothing() -> Any:
        raise MemoryError("no room")

    held = [step(x), step(x)]
    direct.words[MAKE] = id(nothing)
    with pytest.raises(MemoryError, match="no room"):
        step(x)
    assert_array_equal(held[0].numpy(), np.full(3, 2.0))
    del held[0]
    assert_array_equal(step(x).numpy(), np.full(3, 2.0))


def test_calls_leave_no_reference_behind() -> None:
    _w, step = trained_square(0.01)
    x = tg.ones(2)
    for _ in range(5):
        step(x)
    one = step._last()
    things = [None, True, False, one.same, one.written, tg.Tensor, x, x._data, changes, one.direct, Compiled.__call__]
    counts, blocks = [sys.getrefcount(thing) for thing in things], sys.getallocatedblocks()
    for _ in range(5000):
        step(x)
        loss = step(x)
    del loss
    for thing, count in zip(things, counts, strict=True):
        assert abs(sys.getrefcount(thing) - count) < 1000
    assert abs(sys.getallocatedblocks() - blocks) < 1000


def test_a_step_that_nobody_has_goes_at_once_and_its_call_says_so() -> None:
    step = doubling()
    call, gone = step.__call__, (weakref.ref(step), weakref.ref(step._last()))
    assert_array_equal(call(np.ones(3)).numpy(), np.full(3, 2.0))
    gc.disable()
    try:
        del step
        assert [one() for one in gone] == [None, None]
    finally:
        gc.enable()
    with pytest.raises(StateError, match="is gone"):
        call(np.ones(3))


def test_machine_code_has_no_step_that_is_gone() -> None:
    x = np.ones(3)
    step = doubling()
    step.steps.clear()
    step.last = step.hot = step.newest = None
    gc.collect()
    for _ in range(4):
        assert step(x).numpy()[0] == 2.0

    class Own(Compiled):
        def __call__(self, *args: Any) -> Any:
            return "own"

    own = Own(lambda x: x * 2.0)
    for _ in range(3):
        assert Compiled.__call__(own, x).numpy()[0] == 2.0
    assert own(x) == "own"


def test_threads_have_results_of_their_own() -> None:
    step, wrong = doubling(), []

    def work(k: int) -> None:
        x = np.full(3, float(k))
        for _ in range(2000):
            y = step(x)
            if not np.array_equal(y.numpy(), 2 * x):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []
