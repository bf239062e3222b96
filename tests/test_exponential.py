"""eˣ and log x of the kernels against exact values: each exponent, the ends of the range, and what is not a number.

Exact means NumPy's long double, which has 11 bits more than float64 on x86.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from test_matmul import FORCED, WIDTHS

from tinygrad_wn.domains import Array
from tinygrad_wn.kernels.exponential import KINDS, exp, log
from tinygrad_wn.kernels.jit import kernel
from tinygrad_wn.kernels.vector import VECTOR_BYTES

pytestmark = pytest.mark.once


@kernel
def exps(y: Any, x: Any) -> None:
    for i in range(x.size):
        y[i] = exp(x[i])


@kernel
def logs(y: Any, x: Any) -> None:
    for i in range(x.size):
        y[i] = log(x[i])


EXACT: dict[Any, Any] = {exps: np.exp, logs: np.log}
BOUNDS = {exps: 1.25, logs: 1.0}
"""Units in the last place."""

DTYPES = [np.float32, np.float64]
every_loop = pytest.mark.parametrize("loop", [exps, logs], ids=["exp", "log"])
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])


def values(loop: Any, x: Array) -> Array:
    y = np.empty_like(x)
    loop(y, x)
    return y


def distance(loop: Any, x: Array) -> Array:
    """From the exact values, in units in their last place, less what these are off themselves; 0 where both agree."""
    y, of = values(loop, x), np.finfo(x.dtype)
    with np.errstate(all="ignore"):
        exact = EXACT[loop](x.astype(np.longdouble))
        rounded = exact.astype(x.dtype)
        last = np.maximum(np.frexp(exact)[1] - 1, of.minexp) - of.nmant
        found = np.ldexp(np.abs(y - exact), -last) - np.finfo(np.longdouble).eps / of.eps
    return np.where((y == rounded) | (np.isnan(y) & np.isnan(rounded)), 0, found)


def spread(dtype: Any, count: int) -> Array:
    """Bits of all kinds of numbers, both signs, NaNs too, as evenly as multiples of the golden ratio are."""
    bits = np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    size = 8 * np.dtype(dtype).itemsize
    return (bits >> np.uint64(64 - size)).astype(f"u{size // 8}").view(dtype)


def near_powers_of_two(dtype: Any) -> Array:
    """Each power of two from the smallest subnormal number up, half as much again, what lies beside, both signs."""
    of = np.finfo(dtype)
    powers = np.ldexp(dtype(1), np.arange(of.minexp - of.nmant, of.maxexp))
    beside = [np.nextafter(powers, dtype(end)) for end in (0, np.inf)]
    every = np.concatenate([powers, powers / 2 * 3, *beside])
    return np.concatenate([every, -every])


def between(dtype: Any, count: int) -> Array:
    """Where eˣ is neither 0 nor infinity, and a bit beyond; and around 1, where log x is small."""
    of = np.finfo(dtype)
    ends = np.log(2.0) * (of.minexp - of.nmant - 3), np.log(2.0) * (of.maxexp + 1)
    near = np.linspace(0.5, 2, count, dtype=dtype)
    tiny = 1 + np.geomspace(of.eps / 2, 0.5, count // 8).astype(dtype)
    return np.concatenate([np.linspace(*ends, count, dtype=dtype), near, tiny, 2 - tiny])


def worst(loop: Any, dtype: Any, count: int) -> float:
    every = [spread(dtype, count), near_powers_of_two(dtype), between(dtype, count)]
    return max(float(distance(loop, x).max()) for x in every)


@every_loop
@every_dtype
def test_values_are_right_over_the_whole_range(loop: Any, dtype: Any) -> None:
    assert worst(loop, dtype, 2**21) <= BOUNDS[loop]


@every_loop
@given(st.lists(st.floats(width=32), max_size=40) | st.lists(st.floats(-110, 95, width=32), max_size=40))
def test_values_of_any_float32_are_right(loop: Any, x: list[float]) -> None:
    assert (distance(loop, np.array(x, np.float32)) <= BOUNDS[loop]).all()


@every_loop
@given(st.lists(st.floats(), max_size=40) | st.lists(st.floats(-750, 715), max_size=40))
def test_values_of_any_float64_are_right(loop: Any, x: list[float]) -> None:
    assert (distance(loop, np.array(x)) <= BOUNDS[loop]).all()


@every_dtype
def test_values_that_are_known_exactly(dtype: Any) -> None:
    of, inf, nan = np.finfo(dtype), np.inf, np.nan
    least = of.smallest_subnormal
    known = {
        exps: [(0.0, 1), (-0.0, 1), (least, 1), (-least, 1), (inf, inf), (-inf, 0.0), (of.max, inf), (-of.max, 0.0)],
        logs: [(1, 0.0), (0.0, -inf), (-0.0, -inf), (inf, inf), (-inf, nan), (-least, nan), (-1, nan), (-of.max, nan)],
    }
    for loop, pairs in known.items():
        x, expected = (np.array(column, dtype) for column in zip(*pairs, (nan, nan), (-nan, nan), strict=True))
        y = values(loop, x)
        np.testing.assert_array_equal(y, expected)
        numbers = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(y[numbers]), np.signbit(expected[numbers]))


@every_dtype
def test_powers_leave_the_range_of_numbers_where_exact_ones_do(dtype: Any) -> None:
    of = np.finfo(dtype)
    top = dtype(np.log(np.longdouble(of.max)))
    bottom = dtype(np.log(np.longdouble(of.smallest_subnormal) / 2))
    for end in (top, bottom):
        x = np.array([end], dtype)
        for _ in range(50):
            x = np.concatenate([np.nextafter(x[:1], dtype(-np.inf)), x, np.nextafter(x[-1:], dtype(np.inf))])
        y = values(exps, x)
        with np.errstate(all="ignore"):
            exact = np.exp(x.astype(np.longdouble)).astype(dtype)
        np.testing.assert_array_equal(np.isinf(y), np.isinf(exact))
        np.testing.assert_array_equal(y == 0, exact == 0)
        assert len(np.unique(y)) > 1


@every_dtype
def test_the_logarithm_undoes_the_power(dtype: Any) -> None:
    x = np.linspace(*(np.log(2.0) * k for k in (np.finfo(dtype).minexp, np.finfo(dtype).maxexp - 1)), 9999, dtype=dtype)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(values(logs, values(exps, x)), x, rtol=eps, atol=BOUNDS[exps] * eps)


@every_loop
@every_dtype
def test_a_value_does_not_depend_on_the_numbers_beside_it(loop: Any, dtype: Any) -> None:
    x = np.concatenate([spread(dtype, 300), between(dtype, 301)])
    alone = np.concatenate([values(loop, x[i : i + 1]) for i in range(x.size)])
    np.testing.assert_array_equal(values(loop, x), alone)


def test_constants_split_the_logarithm_of_two_so_that_products_are_exact() -> None:
    for of, kind in zip(DTYPES, KINDS.values(), strict=True):
        short, rest = (np.longdouble(part) for part in kind.log2)
        log2 = np.log(np.longdouble(2))
        largest = np.finfo(of).maxexp + np.finfo(of).nmant
        spare = np.frexp(of(short))[0] * 2.0 ** (np.finfo(of).nmant + 1) % 2 ** int(np.ceil(np.log2(largest)))
        assert spare == 0
        assert abs(short + rest - log2) < np.finfo(of).eps * abs(rest)


def show() -> None:
    """Print the width of vectors, the worst distance of each loop, and the vectors and registers of their code."""
    found = [worst(loop, dtype, 2**16) for loop in EXACT for dtype in DTYPES]
    for loop in EXACT:
        for signature in loop.signatures:
            text = loop.inspect_llvm(signature)
            kinds = set(re.findall(r"<(\d+) x (float|double)>", text))
            found.append(max(int(count) * (4 if name == "float" else 8) for count, name in kinds))
    print(VECTOR_BYTES, *found)
    print(*sorted({r for loop in EXACT for text in loop.inspect_asm().values() for r in re.findall("[xyz]mm", text)}))


@pytest.mark.parametrize("size", FORCED)
def test_loops_run_in_vectors_of_each_width(size: int, tmp_path: Path) -> None:
    name, features, registers = WIDTHS[size]
    here = str(Path(__file__).parent)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_CPU_NAME": name, "PYTHONPATH": here}
    if name == "host":
        del environment["NUMBA_CPU_NAME"]
    if features is not None:
        environment["NUMBA_CPU_FEATURES"] = features
    command = [sys.executable, "-c", "import test_exponential; test_exponential.show()"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    numbers, found = run.stdout.splitlines()
    width, *rest = map(float, numbers.split())
    assert width == size
    assert max(rest[:2]) <= BOUNDS[exps]
    assert max(rest[2:4]) <= BOUNDS[logs]
    assert rest[4:] == [size] * 4
    assert max(found.split()) == registers
