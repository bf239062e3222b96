"""The benchmarks: contenders agree or are refused, ratios are paired, each figure is measured as it says."""

import json
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

import tinygrad_wn as tg
from benchmarks import cold, contests, kernels, memory
from benchmarks.contest import Contest, DisagreementError, compare, spread
from benchmarks.host import Host
from benchmarks.matrices import by_turns
from benchmarks.peers import OURS, PEERS
from benchmarks.plan import Plan
from benchmarks.tables import tables
from benchmarks.worker import Worker, WorkerError, environment
from benchmarks.workloads import WORKLOADS, Workload

pytestmark = pytest.mark.once

TINY = Workload("tiny", (3, 5, 4, 3), 6)
INSTALLED = [name for name, peer in PEERS.items() if peer.lacks() is None and not peer.compiler]


class Local:
    """A contender in this process; `lie` changes what it answers."""

    def __init__(self, name, lie=lambda method, answer: answer):
        self.host, self.lie = Host(name), lie

    def call(self, method, *arguments):
        return self.lie(method, getattr(self.host, method)(*arguments))

    def close(self):
        self.closed = True


def contest(names=(OURS, "numpy"), what="steps", optimizer="sgd", lie=None, workload=TINY, norms=(False, True)):
    """A contest in this process, where the peer called numpy may lie, and its rows."""

    def opened(name, threads):
        return Local(name, lie) if lie and name == "numpy" else Local(name)

    found = Contest(workload, [*names], [1], [*norms], optimizer, what, 2, opened)
    return found, found.run()


def changed(name, change):
    """A lie about one gradient."""

    def lie(method, answer):
        if method != "gradients":
            return answer
        loss, slopes = answer
        return loss, {key: change(x) if key.endswith(name) else x for key, x in slopes.items()}

    return lie


def plan(**options):
    given = {"workloads": [TINY], "contenders": [OURS, "numpy"], "threads": [1], "norms": [True], "rounds": 1}
    return Plan(**{**given, "quick": True, **options})


@pytest.fixture(autouse=True)
def _threads():
    """Put back the number of threads, which contenders set where they run: here."""
    before = tg.get_num_threads()
    yield
    tg.set_num_threads(before)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_everyone_who_computes_the_same_gets_figures(optimizer):
    found, rows = contest(optimizer=optimizer)
    assert found.errors == {}
    assert {(r["contender"], r["normalized"]) for r in rows} == {(n, k) for n in (OURS, "numpy") for k in (False, True)}
    for row in rows:
        assert 0 < row["microseconds"]["low"] <= row["microseconds"]["median"] <= row["microseconds"]["high"]
        assert (row["over_plain"] is not None) == row["normalized"]
        if row["contender"] == OURS:
            assert row["ratio"] == {"median": 1, "low": 1, "high": 1}


def test_inference_is_compared_and_measured():
    found, rows = contest(what="predictions")
    assert found.errors == {}
    assert len(rows) == 4
    wrong, rows = contest(what="predictions", lie=lambda method, x: x + 1e-3 if method == "outputs" else x)
    assert all("output is off by" in why for why in wrong.errors.values())
    assert {r["contender"] for r in rows} == {OURS}


@pytest.mark.parametrize("name", INSTALLED)
def test_an_installed_peer_agrees_in_a_process_of_its_own(name):
    found = Contest(WORKLOADS["digits"], [name], [1], [False, True], "sgd", "steps", 1)
    rows = found.run()
    assert found.errors == {}
    assert {row["contender"] for row in rows} == {name}


@pytest.mark.parametrize("name", ["0.weight.v", "2.weight.g", "1.bias"])
def test_a_contender_with_a_wrong_gradient_is_an_error_and_no_number(name):
    found, rows = contest(lie=changed(name, lambda x: x * np.float32(1.0001)), norms=[True])
    assert {row["contender"] for row in rows} == {OURS}
    ((who, why),) = found.errors.items()
    assert "numpy" in who
    assert f"start: {name} is off by 1.0e-04" in why


def test_a_contender_that_updates_otherwise_is_an_error():
    class Lazy(Local):
        """Takes one step where more are asked for."""

        def call(self, method, *arguments):
            return super().call(method, *([arguments[0], 1] if method == "steps" else arguments))

    def opened(name, threads):
        return Lazy(name) if name == "numpy" else Local(name)

    found = Contest(TINY, [OURS, "numpy"], [1], [False], "sgd", "steps", 1, opened)
    assert {row["contender"] for row in found.run()} == {OURS}
    assert [why.startswith("later: ") for why in found.errors.values()] == [True]


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        (changed("0.bias", lambda x: x.astype(np.float64)), "0.bias is float64"),
        (changed("0.bias", lambda x: x[:, None]), "expected float32"),
        (changed("0.bias", lambda x: x * np.nan), "0.bias is off by nan"),
        (lambda method, x: (x[0] * 1.0001, x[1]) if method == "gradients" else x, "loss is off by"),
        (lambda method, x: (x[0], {}) if method == "gradients" else x, "gave loss instead of 0.bias"),
    ],
)
def test_what_is_compared(lie, why):
    found, _ = contest(lie=lie, norms=[False])
    assert [why in text for text in found.errors.values()] == [True]


def test_without_the_package_there_are_no_ratios():
    _, rows = contest(names=["numpy"], norms=[False])
    assert [row["ratio"] for row in rows] == [None]


def test_numbers_close_to_the_expected_ones_pass():
    ones = np.ones(4, np.float32)
    compare([("start", {"x": ones})], [("start", {"x": ones + 1e-5})])
    with pytest.raises(DisagreementError, match="off by"):
        compare([("start", {"x": ones})], [("start", {"x": ones + 1e-4})])


def test_a_spread_is_the_median_and_the_middle_80_percent():
    assert spread(range(11)) == {"median": 5, "low": 1, "high": 9}


def test_a_worker_that_dies_says_why():
    with Worker("benchmarks.host:Host", 1, "nobody") as worker, pytest.raises(WorkerError, match="KeyError: 'nobody'"):
        worker.call("memory")


def test_a_worker_gets_its_number_of_threads_and_measures_machine_code(monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    monkeypatch.setenv("TINYGRAD_WN_KERNELS", "0")
    found = environment(3)
    assert {found[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "NPROC")} == {"3"}
    assert not {"NUMBA_DISABLE_JIT", "TINYGRAD_WN_KERNELS"} & found.keys()
    assert "--xla_cpu_multi_thread_eigen=false" in environment(1)["XLA_FLAGS"]


def test_kernels_are_measured_beside_numpy():
    with Worker("benchmarks.matrices:Matrices", 1, "1") as worker:
        for layout in kernels.LAYOUTS:
            assert len(worker.call("matmul", 8, 5, 7, layout, 3)) == 3
        for reached, possible in worker.call("peak_share", 32, 64, 64, 2):
            assert 1e8 < reached < 1.5 * possible
        for name, pairs in {**worker.call("norms", 8, 16, 2), **worker.call("bandwidth", 64, 64, 2)}.items():
            assert name.startswith(("vector_norm", "weight_norm"))
            assert min(min(pair) for pair in pairs) > 0
        assert {"x + y", "exp(x)"} <= worker.call("overhead", 8, 2).keys()


def test_large_products_are_judged_by_ratio_and_small_ones_by_difference():
    def case(flops, ratio, excess):
        return {"flops": flops, "ratio": {"median": ratio}, "excess": {"median": excess}}

    slow, fast, small, smaller = case(1e6, 0.5, 90), case(4e6, 2, -5), case(9e5, 0.1, 3), case(1e3, 0.01, 1)
    assert kernels._summary([fast, small, slow, smaller]) == {
        "geometric_mean": pytest.approx(1),
        "worst": slow,
        "excess_median": 2,
        "excess_worst": small,
    }


def test_sides_take_turns():
    seen = []
    found = by_turns([lambda: seen.append("a"), lambda: seen.append("b")], 4)
    assert len(found) == 4
    assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in found)
    changes = sum(one != other for one, other in pairwise(seen))
    assert changes >= 4


@pytest.mark.parametrize(
    ("axis", "value", "sizes", "batch"),
    [
        ("batch", 256, (64, 64, 64, 10), 256),
        ("width", 16, (64, 16, 16, 10), 32),
        ("depth", 3, (64, 64, 64, 64, 10), 32),
    ],
)
def test_one_number_grows_at_a_time(axis, value, sizes, batch):
    grown = contests.grown(axis, value)
    assert (grown.sizes, grown.batch) == (sizes, batch)


def test_peak_memory_is_that_of_the_contender_alone():
    asked = plan(contenders=["numpy"])
    found = memory.run(asked)
    assert asked.errors == {}
    (row,) = found["peaks"]
    assert 5 < row["imported"] <= row["peak"] < 100
    assert found["growth"] == []
    assert len(tables("memory", found)) == 1


def test_cold_start_is_timed_in_parts():
    done = subprocess.run(
        [sys.executable, "-c", cold.SCRIPT], env=environment(1), capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found.keys() == {"numba", "import", "model", "step", "compiled"}
    assert 0 < found["model"] < found["step"]
