"""eˣ and log x of the kernels, within 2 units in the last place over the whole range, judged in more digits."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_wn.kernels import exponential
from tinygrad_wn.kernels.jit import kernel
from tinygrad_wn.kernels.vector import VECTOR_BYTES

WIDER = {np.float32: np.float64, np.float64: np.longdouble}
both = pytest.mark.parametrize("dtype", WIDER)
UNITS = 2.0


@kernel
def exps(y: Any, x: Any) -> None:
    """y ← eˣ."""
    for i in range(x.size):
        y[i] = exponential.exp(x[i])


@kernel
def logs(y: Any, x: Any) -> None:
    """y ← log x."""
    for i in range(x.size):
        y[i] = exponential.log(x[i])


def units_off(loop: Any, true: Any, x: np.ndarray) -> np.ndarray:
    """How far each result is from the true one, in units of the last place of the latter."""
    y = np.full_like(x, 7)
    loop(y, x)
    with np.errstate(all="ignore"):
        expected = true(x.astype(WIDER[x.dtype.type]))
        rounded = expected.astype(x.dtype)
        unit = np.spacing(np.where(np.isfinite(rounded), np.abs(rounded), 1)).astype(expected.dtype)
        off = np.abs(y.astype(expected.dtype) - expected) / unit
    same = (y == rounded) | (np.isnan(y) & np.isnan(rounded))
    return np.where(same, np.minimum(np.nan_to_num(off), 1), np.nan_to_num(off, nan=np.inf))


def every_exponent(dtype: Any) -> np.ndarray:
    """Numbers of both signs with every exponent there is, subnormal ones too."""
    bits = 8 * np.dtype(dtype).itemsize
    digits, rng = np.finfo(dtype).nmant, np.random.default_rng(0)
    whole = np.arange(1 << bits - digits, dtype=np.uint64).repeat(64) << np.uint64(digits)
    drawn = whole | rng.integers(0, 1 << digits, whole.size, np.uint64)
    drawn[::64] = whole[::64]
    drawn[1::64] = whole[1::64] | np.uint64((1 << digits) - 1)
    return drawn.astype(f"u{bits // 8}").view(dtype)


@both
def test_exp_over_every_exponent_is_right_to_two_units(dtype: Any) -> None:
    assert units_off(exps, np.exp, every_exponent(dtype)).max() <= UNITS


@both
def test_exp_where_its_result_is_a_number_is_right_to_two_units(dtype: Any) -> None:
    low, high = (-104, 89) if dtype == np.float32 else (-746, 710)
    x = np.linspace(low, high, 2_000_003).astype(dtype)
    assert units_off(exps, np.exp, x).max() <= UNITS


@both
def test_log_over_every_exponent_is_right_to_two_units(dtype: Any) -> None:
    assert units_off(logs, np.log, every_exponent(dtype)).max() <= UNITS


@both
def test_log_around_one_is_right_to_two_units(dtype: Any) -> None:
    near = 1 + np.linspace(-0.6, 1.2, 1_000_003)
    tiny = 1 + np.geomspace(1e-17, 1e-2, 100_003) * np.resize([1, -1], 100_003)
    assert units_off(logs, np.log, np.concatenate([near, tiny]).astype(dtype)).max() <= UNITS


@pytest.mark.parametrize(("loop", "true"), [(exps, np.exp), (logs, np.log)], ids=["exp", "log"])
@given(x=st.floats(width=32) | st.floats(-800, 800) | st.floats(), dtype=st.sampled_from([*WIDER]))
def test_any_number_is_right_to_two_units(loop: Any, true: Any, x: float, dtype: Any) -> None:
    with np.errstate(over="ignore", under="ignore"):
        assert units_off(loop, true, np.array([x]).astype(dtype)) <= UNITS


@both
def test_ends_of_the_range(dtype: Any) -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -1.0, 1e30, -1e30], dtype)
    y, z = np.empty_like(x), np.empty_like(x)
    exps(y, x)
    logs(z, x)
    np.testing.assert_array_equal(y[[0, 1, 2, 3, 4, 6, 7]], np.array([1, 1, np.inf, 0, np.nan, np.inf, 0], dtype))
    np.testing.assert_array_equal(z[:6], np.array([-np.inf, -np.inf, np.inf, np.nan, np.nan, np.nan], dtype))


@both
def test_a_loop_becomes_vector_code(dtype: Any) -> None:
    x = np.ones(4, dtype)
    for loop in (exps, logs):
        loop(x.copy(), x)
        found = next(text for types, text in loop.inspect_llvm().items() if types[0].dtype.name == x.dtype.name)
        widths = map(
            int, re.findall(rf"fmul (?:contract )?<(\d+) x {'float' if x.itemsize == 4 else 'double'}>", found)
        )
        assert max(widths) * x.itemsize >= min(VECTOR_BYTES, 32)  # LLVM may prefer half of AVX-512


@pytest.mark.parametrize("width", [32, 16])
def test_narrow_vectors_are_right_as_well(width: int) -> None:
    """In a process of its own: what the processor has is named before Numba is imported."""
    features = {32: "+avx2,+fma,-avx512f", 16: "+sse2,-avx2,-avx512f"}[width]
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import numpy as np
import test_exponential as t
assert t.VECTOR_BYTES == {width}
for dtype in t.WIDER:
    x = t.every_exponent(dtype)
    assert max(t.units_off(t.exps, np.exp, x).max(), t.units_off(t.logs, np.log, x).max()) <= t.UNITS
"""
    with tempfile.TemporaryDirectory() as folder:
        there = os.environ | {"NUMBA_CACHE_DIR": folder, "NUMBA_CPU_FEATURES": features, "NUMBA_CPU_NAME": "generic"}
        subprocess.run([sys.executable, "-c", script], env=there, timeout=300, check=True)
