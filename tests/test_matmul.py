"""Matrix products and layers in machine code: edges of tiles, layouts, widths of vectors, and scales."""

import os
import platform
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from llvmlite import binding

import tinygrad_wn as tg
from tinygrad_wn import nn
from tinygrad_wn.domains import Array
from tinygrad_wn.errors import ShapeError, ZeroNormError
from tinygrad_wn.kernels.vector import VECTOR_BYTES
from tinygrad_wn.ops.linear import linear_pullback, weight_norm_linear_pullback
from tinygrad_wn.testing.strategies import layouts

sizes = st.sampled_from([0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 15, 16, 17, 31, 32, 33, 47, 65])
dtypes = st.sampled_from([np.float32, np.float64])


def drawn(shape: tuple[int, ...], dtype: Any, seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def assert_is_product(c: Array, a: Array, b: Array) -> None:
    """Each entry within the bound of an inner product, whatever its terms cancel."""
    wide, bound = a.astype(np.float64), np.abs(a).astype(np.float64) @ np.abs(b)
    eps = float(np.finfo(c.dtype).eps)
    assert c.shape == bound.shape
    assert (np.abs(c - wide @ b) <= (2 + a.shape[1]) * eps * bound).all()


@given(sizes, sizes, sizes, dtypes, st.data())
def test_a_product_of_any_sizes_and_layouts(m: int, k: int, n: int, dtype: Any, data: st.DataObject) -> None:
    a, b = (data.draw(layouts(drawn(shape, dtype, seed))) for seed, shape in enumerate([(m, k), (k, n)]))
    assert_is_product(tg.matmul(a, b).numpy(), a, b)


@pytest.mark.parametrize("m", [1, 9, 60])
@pytest.mark.parametrize("n", [3, 10, 40, 1024])
@pytest.mark.parametrize("turned", [(False, False), (False, True), (True, False), (True, True)])
def test_a_product_whose_rows_lie_a_page_apart(m: int, n: int, turned: tuple[bool, bool]) -> None:
    a, b = drawn((m, 1024), np.float32, 0), drawn((1024, n), np.float32, 1)
    a, b = (np.asfortranarray(x) if other else x for x, other in zip((a, b), turned, strict=True))
    assert_is_product(tg.matmul(a, b).numpy(), a, b)


@pytest.mark.parametrize(("m", "k"), [(1024, 160), (1030, 257), (4001, 33)])
@pytest.mark.parametrize("n", [127, 128, 141])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_product_whose_columns_lie_far_apart(m: int, k: int, n: int, dtype: Any) -> None:
    a, b = drawn((k, m), dtype, 0).T, drawn((k, n), dtype, 1)
    assert_is_product(tg.matmul(a, b).numpy(), a, b)


def test_what_is_not_a_number_stays_where_it_is() -> None:
    a, b = np.ones((5, 20), np.float32), np.ones((20, 37), np.float32)
    a[2, 3], b[4, 36] = np.nan, np.inf
    c = tg.matmul(a, b).numpy()
    expected = np.full((5, 37), 20.0)
    expected[:, 36], expected[2] = np.inf, np.nan
    np.testing.assert_array_equal(c, expected)


@given(sizes, sizes, sizes, dtypes, st.data())
def test_a_normalized_layer_is_the_layer_of_the_built_weight(
    n: int, i: int, o: int, dtype: Any, data: st.DataObject
) -> None:
    i = max(i, 1)
    x, v, ct = (data.draw(layouts(drawn(s, dtype, seed))) for seed, s in enumerate([(n, i), (o, i), (n, o)]))
    g, bias = drawn((o, 1), dtype, 3), drawn((o,), dtype, 4)
    eps = float(np.finfo(dtype).eps)
    w = tg.weight_norm(v, g).numpy().astype(np.float64)
    wide_x, wide_ct = x.astype(np.float64), ct.astype(np.float64)
    y = tg.weight_norm_linear(x, v, g, bias).numpy()
    bound = (4 + i) * eps * (np.abs(wide_x) @ np.abs(w).T + np.abs(bias))
    assert (np.abs(y - (wide_x @ w.T + bias)) <= bound).all()
    dx, dv, dg, db = (t.numpy() for t in weight_norm_linear_pullback(ct, x, v, g))
    assert (np.abs(dx - wide_ct @ w) <= (4 + o) * eps * (np.abs(wide_ct) @ np.abs(w))).all()
    assert (np.abs(db - wide_ct.sum(axis=0)) <= (1 + n) * eps * np.abs(wide_ct).sum(axis=0)).all()
    u = w / g
    dw = wide_ct.T @ wide_x
    lost = (8 + n) * eps * np.linalg.norm(np.abs(wide_ct).T @ np.abs(wide_x), axis=1, keepdims=True)
    assert (np.abs(dg - np.sum(dw * u, axis=1, keepdims=True)) <= lost).all()
    scale = np.abs(g) / np.linalg.norm(v.astype(np.float64), axis=1, keepdims=True)
    across = dw - np.sum(dw * u, axis=1, keepdims=True) * u
    assert (np.abs(dv - np.sign(g) * scale * across) <= 2 * scale * lost).all()


@pytest.mark.once
@pytest.mark.parametrize("wanted", [flags for flags in product([False, True], repeat=4) if any(flags[:3])])
def test_what_nobody_wants_changes_nothing_else(wanted: tuple[bool, ...]) -> None:
    ct, x, v, g = (drawn(s, np.float32, seed) for seed, s in enumerate([(5, 3), (5, 7), (3, 7), (3, 1)]))
    every = weight_norm_linear_pullback(ct, x, v, g)
    plain = linear_pullback(ct, x, v)
    for on in (True, False):
        with tg.kernels(on):
            some = weight_norm_linear_pullback(ct, x, v, g, wanted=wanted)
            few = linear_pullback(ct, x, v, wanted=wanted[:3])
        assert len(some) == sum(wanted)
        for found, one in zip(some, [t for t, asked in zip(every, wanted, strict=True) if asked], strict=True):
            np.testing.assert_allclose(found.numpy(), one.numpy(), rtol=2e-5, atol=1e-6)
        for found, one in zip(few, [t for t, asked in zip(plain, wanted[:3], strict=True) if asked], strict=True):
            np.testing.assert_allclose(found.numpy(), one.numpy(), rtol=2e-5, atol=1e-6)


@given(st.integers(-100, 100), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
def test_the_length_of_v_does_not_matter_to_a_layer(k: int, n: int, i: int, o: int, seed: int) -> None:
    x, v, ct = (drawn(s, np.float32, seed + p) for p, s in enumerate([(n, i), (o, i), (n, o)]))
    v = np.where(np.abs(v) < 2**-10, np.float32(0.5), v)
    layer = nn.weight_norm(nn.Linear(i, o, rng=seed))
    assert isinstance(layer.weight, nn.WeightNorm)
    found = []
    for scaled in (v, np.ldexp(v, k)):
        layer.weight.v.data = scaled
        inputs = tg.tensor(x, requires_grad=True)
        y = layer(inputs)
        dx, dv, dg = y.gradient(inputs, layer.weight.v, layer.weight.g, cotangent=ct)
        found.append([y.numpy(), dx.numpy(), dg.numpy(), dv.numpy()])
    for one, other in zip(found[0][:3], found[1][:3], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(np.ldexp(found[1][3], k), found[0][3], rtol=1e-6, atol=2e-45 * 2.0**k)


@pytest.mark.parametrize(("dtype", "ends"), [("float32", (-126, 126)), ("float64", (-1022, 1022))])
def test_a_layer_at_the_ends_of_the_range_of_v(dtype: str, ends: tuple[int, int]) -> None:
    x, v, g = drawn((4, 20), dtype, 0), drawn((6, 20), dtype, 1), drawn((6, 1), dtype, 2)
    v = np.clip(v, -1, 1)
    expected = tg.weight_norm_linear(x, v, g).numpy()
    for k in ends:
        rtol = 1e-5 if dtype == "float32" else 1e-13
        np.testing.assert_allclose(tg.weight_norm_linear(x, np.ldexp(v, k), g).numpy(), expected, rtol, 1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [9, 200])
def test_a_layer_with_the_largest_g(dtype: Any, rows: int) -> None:
    v, x, ct = (drawn(s, dtype, seed) / 2**12 for seed, s in enumerate([(rows, 20), (12, 20), (12, rows)]))
    g = np.full((rows, 1), np.finfo(dtype).max)
    small = tg.weight_norm(v, g).numpy().astype(float) / 2**40
    v, g = tg.tensor(v), tg.tensor(g)

    def layer(x: tg.Tensor, ct: tg.Tensor) -> Any:
        y = tg.weight_norm_linear(x, v, g)
        return y, *y.gradient(x, cotangent=ct)

    for run in (layer, tg.jit(layer)):
        y, dx = run(tg.tensor(x, requires_grad=True), tg.tensor(ct))
        for found, expected in ((y, x @ small.T), (dx, ct @ small)):
            at_scale = found.numpy().astype(float) / 2**40
            np.testing.assert_allclose(at_scale, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())


CHECK = """
import numpy as np
import tinygrad_wn as tg
rng = np.random.default_rng(0)
for dtype in (np.DTYPE,):
    for m, k, n in [(1, 1, 1), (13, 17, 37), (33, 40, 10), (20, 9, 64), (7, 0, 5), (40, 33, 3)]:
        for turns in [(0, 0), (0, 1), (1, 0), (1, 1)]:
            a, b = (rng.standard_normal(s).astype(dtype) for s in ((m, k), (k, n)))
            a, b = (np.asfortranarray(x) if t else x for x, t in zip((a, b), turns))
            atol = 1e-4 if dtype == np.float32 else 1e-12
            np.testing.assert_allclose(tg.matmul(a, b).numpy(), a.astype("f8") @ b, atol=atol)
    v, g, x = (rng.standard_normal(s).astype(dtype) for s in ((21, 37), (21, 1), (9, 37)))
    w = tg.weight_norm(v, g).numpy()
    np.testing.assert_allclose(w, g * v / np.linalg.norm(v.astype("f8"), axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(tg.weight_norm_linear(x, v, g).numpy(), x @ w.T, atol=1e-4)
"""

LATER = """
import tinygrad_wn as tg
tg.set_num_threads(1)
big, small = tg.ones((160, 160)), tg.ones((4, 4), dtype="float64")
print((big @ big).sum().item(), (small @ small).sum().item())
"""

REGISTERS = """
import importlib, re
from tinygrad_wn.kernels.vector import VECTOR_BYTES
compiled = importlib.import_module("tinygrad_wn.kernels.linear")._multiply_of
text = "".join(compiled[4].inspect_asm().values())
print(VECTOR_BYTES, *sorted(set(re.findall("[xyz]mm", text))))
"""
"""Machine code can be looked at where it was compiled, not where it was read from a cache."""

HOST = binding.get_host_cpu_features().flatten() + ",-prefer-256-bit"
"""What this machine has, and vectors as wide as it has, which loops of some machines do not use by themselves."""

WIDTHS = {64: ("host", HOST, "zmm"), 32: ("haswell", "+avx,+avx2,+fma", "ymm"), 16: ("generic", None, "xmm")}
FORCED = [size for size in WIDTHS if size <= VECTOR_BYTES] if platform.machine() in ("x86_64", "AMD64") else []
NARROWER = [size for size in FORCED if size < VECTOR_BYTES]


def printed(code: str, folder: Path, **variables: str) -> list[str]:
    """What Python prints, by lines, in a process with a cache of its own."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder)} | variables
    command = [sys.executable, "-W", "error", "-c", code]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def assert_width(size: int, line: str) -> None:
    width, *found = line.split()
    *_, registers = WIDTHS[size]
    assert int(width) == size
    assert registers in found
    assert not {"zmm", "ymm"} & {r for r in found if r > registers}


@pytest.mark.once
@pytest.mark.parametrize(("size", "dtype"), [one for one in ((32, "float32"), (16, "float64")) if one[0] in NARROWER])
def test_narrower_vectors_give_the_same(size: int, dtype: str, tmp_path: Path) -> None:
    """All other tests are about the width of this machine. Here are vectors of 8 numbers and of 2."""
    name, features, _ = WIDTHS[size]
    variables = {"NUMBA_CPU_NAME": name} | ({"NUMBA_CPU_FEATURES": features} if features else {})
    (line,) = printed(CHECK.replace("DTYPE", dtype) + REGISTERS, tmp_path, **variables)
    assert_width(size, line)


@pytest.mark.parametrize("wanted", [(False, False, False), (True, True)])
def test_a_pullback_that_computes_nothing_is_refused(wanted: tuple[bool, ...]) -> None:
    one = np.ones((1, 1), np.float32)
    with pytest.raises(ShapeError, match="wanted must say of 3"):
        linear_pullback(one, one, one, wanted=wanted)


@pytest.mark.parametrize("shapes", [((64, 300), (197, 300)), ((300, 700), (10, 700)), ((33, 900), (70, 900))])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_change_no_bit_of_a_layer(shapes: tuple[tuple[int, int], tuple[int, int]], dtype: str) -> None:
    (n, i), (o, _) = shapes
    x, v, g, bias = (drawn(s, dtype, seed) for seed, s in enumerate([(n, i), (o, i), (o, 1), (o,)]))
    ct = np.asfortranarray(drawn((n, o), dtype, 4))
    before, found = tg.get_num_threads(), []
    for count in (1, before):
        tg.set_num_threads(count)
        found.append(
            [
                tg.linear(x, v, bias),
                *linear_pullback(ct, x, v),
                tg.weight_norm_linear(x, v, g, bias),
                *weight_norm_linear_pullback(ct, x, v, g),
            ]
        )
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_a_zero_row_is_found_by_whichever_thread_has_it() -> None:
    x, v, g = drawn((64, 500), np.float32, 0), drawn((80, 500), np.float32, 1), drawn((80, 1), np.float32, 2)
    for row in (0, 40, 79):
        zero = v.copy()
        zero[row] = 0
        for call in (
            tg.weight_norm_linear,
            lambda x, v, g: weight_norm_linear_pullback(drawn((64, 80), "f4", 3), x, v, g),
        ):
            with pytest.raises(ZeroNormError, match=rf"\({row}, 0\)|{row}"):
                call(x, zero, g)


@pytest.mark.once
def test_a_kernel_that_others_call_is_compiled_for_their_dtype_later(tmp_path: Path) -> None:
    """Large float32 alone first, then small float64; in vectors of the width of this machine."""
    sums, line = printed(LATER + (REGISTERS if FORCED else "print()"), tmp_path)
    assert sums.split() == [str(160.0**3), "64.0"]
    if FORCED:
        assert_width(VECTOR_BYTES, line)
