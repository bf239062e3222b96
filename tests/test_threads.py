"""Threads of kernels: how many there are, when they are used, and that nothing ends or hangs a process.

A process chooses its threading layer once, so most of it is tried in fresh ones; parallel_square.py says what they do.
"""

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given, strategies as st
from parallel_square import LEAST, square

import tinygrad_wn as tg
from tinygrad_wn.errors import DTypeError, ValueRangeError
from tinygrad_wn.kernels.threads import parts

pytestmark = pytest.mark.once

HERE = Path(__file__).parent
CORES = tg.get_num_threads()
SEVERAL = min(CORES, 2)
"""How many threads two parts are written by on this machine."""


def fresh(scene, **environment):
    """What a scene of parallel_square.py prints in a process of its own, on two threads at most."""
    there = os.environ | {"PYTHONPATH": str(HERE.parent), "NUMBA_NUM_THREADS": str(SEVERAL)} | environment
    command = [sys.executable, "-W", "error", HERE / "parallel_square.py", scene]
    done = subprocess.run(command, env=there, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def threads():
    """Let a test change the number of threads."""
    before = tg.get_num_threads()
    yield tg.set_num_threads
    tg.set_num_threads(before)


@given(st.integers(0, 3000), st.sampled_from([np.float32, np.float64]))
def test_a_parallel_kernel_computes_what_its_serial_twin_does(size, dtype):
    x = np.random.default_rng(size).standard_normal(size).astype(dtype)
    np.testing.assert_array_equal(square(x, least=0)[0], square(x, least=np.inf)[0])


def test_threads_start_with_the_first_work_that_is_worth_them():
    assert fresh("small_work_first") == f"1 none {SEVERAL} {'omp' if CORES > 1 else 'none'}"


def test_two_python_threads_at_once():
    assert fresh("on_two_threads") == f"4000 {SEVERAL}"


def test_spawned_processes():
    assert fresh("in_spawned_processes") == f"{SEVERAL} {SEVERAL} {SEVERAL}"


def test_a_child_that_is_forked_after_use_computes_on_one_thread():
    assert fresh("in_a_forked_process") == f"{SEVERAL} 1 {SEVERAL}"


def test_a_process_that_runs_another_threading_layer_stays_serial():
    assert fresh("after_workqueue") == "1 workqueue"


def test_a_user_who_asks_for_another_threading_layer_gets_no_openmp():
    assert fresh("asked_for_workqueue", NUMBA_THREADING_LAYER="workqueue") == "1 none"


def test_without_openmp_kernels_are_serial():
    assert fresh("without_openmp") == "1 none default"


def test_numba_stays_as_the_user_left_it():
    assert fresh("with_numba_narrowed", NUMBA_THREADING_LAYER="omp") == "1 1 omp"


def test_one_thread_launches_nothing():
    assert fresh("turned_off") == "1 none"
    assert fresh("turned_off", NUMBA_NUM_THREADS="1") == "1 none"


def test_the_number_of_threads_decides_how_many_write(threads):
    x = np.ones(8 * LEAST)
    for n in range(1, CORES + 1):
        threads(n)
        assert tg.get_num_threads() == parts(2 * LEAST, LEAST) == square(x)[1] == n
    threads(CORES + 1)
    assert tg.get_num_threads() == parts(2 * LEAST, LEAST) == CORES


def test_environment_and_affinity_narrow_the_cores():
    allowed = len(os.sched_getaffinity(0))
    assert min(allowed, numba.config.NUMBA_NUM_THREADS) == CORES


@pytest.mark.parametrize("n", [0, -1])
def test_fewer_than_one_thread_is_refused(n):
    with pytest.raises(ValueRangeError, match="n must be at least 1"):
        tg.set_num_threads(n)


@pytest.mark.parametrize("n", [1.0, "2", None, True, np.float64(1), np.array([1, 2])])
def test_a_number_of_threads_is_an_integer(n):
    with pytest.raises(DTypeError, match="n must be an integer"):
        tg.set_num_threads(n)
    assert tg.get_num_threads() == CORES


def test_an_integer_of_numpy_is_a_number_of_threads(threads):
    threads(np.int64(1))
    assert tg.get_num_threads() == 1
