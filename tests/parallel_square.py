"""A kernel with a parallel loop, its serial twin, and what tests/test_threads.py does with them in a fresh process."""

import multiprocessing
import os
import sys
import threading
import warnings

import numba
import numpy as np

import tinygrad_wn as tg
from tinygrad_wn.kernels.jit import kernel, parallel_kernel, prange
from tinygrad_wn.kernels.layouts import AnyLayout
from tinygrad_wn.kernels.threads import parts

LEAST = 100


@kernel
def _fill(y, x, start, end, who, part):
    for i in range(start, end):
        y[i] = x[i] * x[i] + 1
        who[part] = 1 + numba.get_thread_id()


@kernel
def _serial(y, x, who):
    for i in range(x.size):
        y[i] = x[i] * x[i] + 1
    who[0] = 1


@parallel_kernel
def _parallel(count, y, x, who):
    step = (x.size + count - 1) // count
    for part in prange(count):
        _fill(y, x, part * step, min(x.size, (part + 1) * step), who, part)


serial = AnyLayout(_serial, "out 1 C, in 1 C, out 1 C")
parallel = AnyLayout(_parallel, "count, out 1 C, in 1 C, out 1 C")


def square(x, least=LEAST):
    """x² + 1, and how many threads wrote it."""
    y, who = np.empty_like(x), np.zeros(64, x.dtype)
    n = parts(2 * x.size, least)
    if n == 1:
        serial[x.itemsize](y, x, who)
    else:
        parallel[x.itemsize](n, y, x, who)
    return y, np.unique(who[who > 0]).size


def threads_of_a_right_result(size=1001):
    x = np.arange(size, dtype=np.float32)
    y, count = square(x)
    np.testing.assert_array_equal(y, x * x + 1)
    return count


def layer():
    try:
        return numba.threading_layer()
    except ValueError:
        return "none"


def on_two_threads():
    counts = []

    def work():
        counts.extend(threads_of_a_right_result() for _ in range(2000))

    both = [threading.Thread(target=work) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    return len(counts), *set(counts)


def in_spawned_processes():
    here = threads_of_a_right_result()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        return here, *pool.map(threads_of_a_right_result, [1001, 2002])


def in_a_forked_process():
    here = threads_of_a_right_result()
    tg.set_num_threads(2)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # Python's on forks beside threads
        child = os.fork()
    if child == 0:
        status = 1
        try:
            tg.set_num_threads(2)
            status = 10 * threads_of_a_right_result()
        finally:
            os._exit(status)
    return here, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) // 10, threads_of_a_right_result()


def after_workqueue():
    numba.config.THREADING_LAYER = "workqueue"
    numba.get_num_threads()
    numba.config.THREADING_LAYER = "default"
    return threads_of_a_right_result(), layer()


def asked_for_workqueue():
    return threads_of_a_right_result(), layer()


def without_openmp():
    sys.modules["numba.np.ufunc.omppool"] = None  # its import fails as it does where the library is missing
    return threads_of_a_right_result(), layer(), numba.config.THREADING_LAYER


def with_numba_narrowed():
    """What was said to Numba for other functions stays as it was."""
    numba.set_num_threads(1)
    return threads_of_a_right_result(), numba.get_num_threads(), numba.config.THREADING_LAYER


def small_work_first():
    return threads_of_a_right_result(10), layer(), threads_of_a_right_result(), layer()


def turned_off():
    tg.set_num_threads(1)
    return threads_of_a_right_result(), layer()


if __name__ == "__main__":
    print(*globals()[sys.argv[1]]())
