"""Steps that several threads share: the same bits for any number of them, and no way to hang or to write by halves.

Steps of these tests are far too small to be worth threads, so each is told that it is worth them.
"""

import itertools
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from training import step_of

import tinygrad_wn as tg
from tinygrad_wn.compiled import plan, splits
from tinygrad_wn.compiled.splits import split_of
from tinygrad_wn.kernels import team as team_module
from tinygrad_wn.kernels.atomic import NO_STATUS, STATUS, prepare_meetings, read_word
from tinygrad_wn.kernels.entry import entry
from tinygrad_wn.kernels.jit import COMPILED, kernel
from tinygrad_wn.kernels.team import SYNC, _call_at, team
from tinygrad_wn.op import OPS

pytestmark = [pytest.mark.once, pytest.mark.skipif(not COMPILED, reason="there is no machine code")]

BEGIN = """
import os, sys, threading, time
import numpy as np
import tinygrad_wn as tg
from tinygrad_wn.compiled import plan
from tinygrad_wn.kernels import team as team_module

plan.WORTH_TEAM = 0
team_module.get_num_threads = lambda: 3
model = tg.nn.weight_norm(tg.nn.Sequential(tg.nn.Linear(6, 40, rng=0), tg.nn.ReLU(), tg.nn.Linear(40, 3, rng=1)))
optimizer = tg.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

@tg.jit
def step(x, y):
    optimizer.zero_grad()
    loss = tg.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss

x, y = np.ones((24, 6), np.float32), np.zeros(24, np.int64)
for _ in range(50):
    step(x, y)
"""


@pytest.fixture(autouse=True)
def _worth_it(monkeypatch):
    monkeypatch.setattr(plan, "WORTH_TEAM", 0)
    monkeypatch.setattr(team_module, "get_num_threads", lambda: 3)


@kernel
def _part(function, given, results, table, part, parts):
    return _call_at(function, given, results, table, part, parts)


@kernel
def _ready(sync):
    prepare_meetings(sync)
    return 0


@kernel
def _status(sync):
    return read_word(sync + STATUS)


def in_parts(step, given, parts):
    """Run a step in exactly so many parts, each on a Python thread: its status and its results."""
    call, ready, status = entry(_part, 6), entry(_ready, 1), entry(_status, 1)
    results, sync = tuple([np.empty(*one) for one in step.shapes]), int(step.table[SYNC])
    ready(sync)
    with ThreadPoolExecutor(parts) as pool:
        rest = (id(given), id(results), step.at)
        found = list(pool.map(lambda part: call(step.function, *rest, part, parts), range(parts)))
    left = status(sync)
    return (found[0] if left == NO_STATUS else left), results


def network(sizes, dtype="float32", normalized=True, rule=tg.optim.SGD, **options):
    """A compiled step of a small network, some units of which are dead."""
    layers = [tg.nn.Linear(k, o, rng=k, dtype=dtype) for k, o in itertools.pairwise(sizes)]
    for layer in layers[:-1]:
        layer.bias.data = np.where(np.arange(layer.bias.size) % 7, 0.0, -100.0)
    model = tg.nn.Sequential(*[part for layer in layers for part in (layer, tg.nn.ReLU())][:-1])
    model = tg.nn.weight_norm(model) if normalized else model
    optimizer = rule(model.parameters(), lr=0.05, **options)

    @tg.jit
    def step(x, y):
        optimizer.zero_grad()
        loss = tg.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step, model


def batch(sizes, rows, dtype="float32"):
    rng = np.random.default_rng(rows)
    return rng.normal(size=(rows, sizes[0])).astype(dtype), rng.integers(0, sizes[-1], rows)


@pytest.mark.parametrize(
    ("sizes", "rows", "dtype", "normalized"),
    [
        ((20, 40, 130, 3), 7, "float32", True),
        ((5, 200, 10), 33, "float32", True),
        ((17, 65, 2), 40, "float64", True),
        ((3, 300, 260), 9, "float32", True),
        ((130, 300, 5), 6, "float32", True),
        ((130, 300, 5), 6, "float64", False),
        ((33, 129, 31), 17, "float32", False),
    ],
)
def test_bits_do_not_depend_on_how_many_threads_share_a_step(sizes, rows, dtype, normalized):
    rule = tg.optim.SGD if rows % 2 else tg.optim.Adam
    step, _ = network(sizes, dtype, normalized, rule)
    given = batch(sizes, rows, dtype)
    step(*given)
    one = step.newest
    assert one.plan.team
    assert one.simple
    before, found = [x.copy() for x in one.targets], []
    for parts in (1, 2, 3):
        for own, old in zip(one.targets, before, strict=True):
            np.copyto(own, old)
        for _ in range(3):
            status, results = in_parts(one, given, parts)
            assert status == 0
        found.append([*results, *[x.copy() for x in one.targets]])
    for others in found[1:]:
        for x, y in zip(found[0], others, strict=True):
            np.testing.assert_array_equal(x, y)


RULES = {
    "SGD": partial(tg.optim.SGD, lr=0.1),
    "momentum": partial(tg.optim.SGD, lr=0.1, momentum=0.9),
    "Adam": partial(tg.optim.Adam, lr=0.1),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("sizes", [(20, 40, 3), (130, 300, 5)], ids=["turned once", "in panels"])
def test_the_plan_knows_all_memory_that_a_stage_writes(sizes, rule):
    model = tg.nn.Sequential(*(tg.nn.Linear(*pair, rng=0) for pair in itertools.pairwise(sizes)))
    tg.nn.weight_norm(model)
    optimizer = RULES[rule](model.parameters())
    recorders = [tg.NormRecorder(model, optimizer, every) for every in (1, 2)]
    step, given = tg.jit(step_of(model, optimizer)), batch(sizes, 32)
    step(*given)
    assert step.newest.plan.team
    for stage in step.newest.plan.stages:
        known = {one.view.memory for one in split_of(stage).accesses if one.writes}
        assert known == {x.memory for x in stage.writes()}, [call.op.name for call in stage.calls]
    assert len(recorders[0].table()) == sum(sizes[1:])


def test_rows_of_a_pullback_have_the_bits_that_they_have_alone():
    dtype, rng = np.float32, np.random.default_rng(0)
    v, g, ct = (rng.normal(size=(130, k)).astype(dtype) for k in (40, 1, 40))
    ct[::7], g[::11], v[3], v[70] = 0, 0, v[3] * dtype(1e-30), v[70] * dtype(1e30)
    whole = _slopes(ct, v, g)
    alone = [_slopes(ct[i : i + 1], v[i : i + 1], g[i : i + 1]) for i in range(130)]
    for k in range(3):
        np.testing.assert_array_equal(whole[k], np.concatenate([one[k] for one in alone]))


def _slopes(ct, v, g):
    """w, and the gradients of v and g."""
    v, g = tg.tensor(v, requires_grad=True), tg.tensor(g, requires_grad=True)
    w = tg.weight_norm(v, g)
    w.backward(tg.tensor(ct))
    return w.detach().numpy(), v.grad.numpy(), g.grad.numpy()


@pytest.mark.parametrize("parts", [2, 3])
def test_nothing_is_written_where_one_part_of_several_fails(parts):
    sizes = (6, 40, 3)
    step, model = network(sizes)
    x, y = batch(sizes, 24)
    step(x, y)
    before = [p.numpy().copy() for p in model.parameters()]
    for wrong in (0, 12, 23):
        classes = y.copy()
        classes[wrong] = 3
        for _ in range(20):
            status, _ = in_parts(step.newest, (x, classes), parts)
            assert status > 0
    rows = model[2].weight.v.numpy().copy()
    rows[2] = 0
    model[2].weight.v.data = rows
    before[[p.shape for p in model.parameters()].index((3, 40))] = rows
    with pytest.raises(tg.errors.ZeroNormError):
        step(x, y)
    assert in_parts(step.newest, (x, y), parts)[0] > 0
    for p, old in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.numpy(), old)


def test_a_write_beside_a_check_that_the_plan_does_not_know_is_put_back(monkeypatch):
    monkeypatch.setattr(splits, "MAY_FAIL", ())
    p = tg.tensor(np.ones(4, "f"), requires_grad=True)

    @tg.jit
    def step(x, places, slope):
        chosen = x[places]
        OPS["sgd_update"].into((p,), 0.5, p, slope)
        return chosen

    x, places, slope = np.arange(6, dtype="f"), np.array([1, 2]), np.ones(4, "f")
    step(x, places, slope)
    assert step.newest.text.fragile
    before = p.numpy().copy()
    with pytest.raises(tg.errors.ShapeError):
        step(x, np.array([1, 9]), slope)
    np.testing.assert_array_equal(p.numpy(), before)


def test_a_step_that_was_compiled_for_one_thread_takes_helpers_when_more_are_allowed(monkeypatch):
    monkeypatch.setattr(team_module, "get_num_threads", lambda: 1)
    step, _ = network((6, 40, 3))
    given = batch((6, 40, 3), 24)
    step(*given)
    monkeypatch.setattr(team_module, "get_num_threads", lambda: 2)
    team.adjust()
    assert team._word(team.boxes - 64)[0] == 1


def test_a_system_without_more_threads_gives_fewer_helpers(monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    before = len(team.events)
    monkeypatch.setattr(team_module, "get_num_threads", lambda: before + 2)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    team.ready()
    monkeypatch.undo()
    assert len(team.events) == len(team.threads) == before
    assert team._word(team.boxes - 64)[0] == before


def test_several_python_threads_run_steps_while_the_number_of_helpers_changes(monkeypatch):
    steps = [network((6, 40, 3))[0] for _ in range(2)]
    given, stop, failed = batch((6, 40, 3), 24), threading.Event(), []
    for step in steps:
        step(*given)

    def work(step):
        try:
            while not stop.is_set():
                assert np.isfinite(step(*given).item())
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=work, args=(step,)) for step in (*steps, *steps)]
    for thread in threads:
        thread.start()
    for k in range(40):
        monkeypatch.setattr(team_module, "get_num_threads", lambda k=k: 1 + k % 3)
        team.adjust()
        time.sleep(0.02)
    stop.set()
    for thread in threads:
        thread.join(20)
    assert not failed
    assert not any(thread.is_alive() for thread in threads)


def run(code, **options):
    """Run a step, then some code, in a process of its own: what it printed."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", BEGIN + code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")


@needs_fork
def test_a_child_that_is_forked_in_the_middle_of_a_step_can_run_it():
    code = """
import signal
from tinygrad_wn.kernels.atomic import BUSY
from tinygrad_wn.kernels.team import SYNC
one = step.newest
word = int(one.table[SYNC]) + BUSY - one.room.__array_interface__["data"][0]
one.room[word] = 1  # as it is while another thread runs the step
child = os.fork()
if not child:
    signal.alarm(20)
    os._exit(0 if np.isfinite(step(x, y).item()) else 1)
one.room[word] = 0
print(os.waitpid(child, 0)[1])
"""
    assert run(code) == "0\n"


@needs_fork
def test_children_are_forked_while_another_thread_runs_steps():
    code = """
stop = []
def work():
    while not stop:
        step(x, y)
thread = threading.Thread(target=work)
thread.start()
for _ in range(10):
    time.sleep(0.01)
    child = os.fork()
    if not child:
        step(x, y)
        tg.jit(lambda z: z @ z)(tg.ones((4, 4)))
        os._exit(0)
    print(os.waitpid(child, 0)[1], end="")
stop.append(1)
thread.join()
"""
    assert run(code) == "0" * 10


@pytest.mark.parametrize(
    "code",
    [
        "",
        "time.sleep(0.1)",
        "threading.Thread(target=lambda: [step(x, y) for _ in range(3000)]).start()",
        "threading.Thread(target=lambda: [step(x, y) for _ in range(10**9)], daemon=True).start(); time.sleep(0.05)",
        "import atexit; atexit.register(step, x, y)",
    ],
)
def test_a_process_ends_whatever_its_helpers_do(code):
    assert run(code) == ""
