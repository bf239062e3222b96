"""Kernels of compiled steps touch no byte that is not theirs: arrays lie right before, or behind, forbidden memory."""

import ctypes
import mmap
import sys

import numpy as np
import pytest
from test_dynamics_compiled import call

from tinygrad_wn.kernels.equation_3 import pull_back_kept
from tinygrad_wn.kernels.jit import COMPILED
from tinygrad_wn.kernels.layouts import AnyLayout
from tinygrad_wn.kernels.linear import cotangents
from tinygrad_wn.kernels.loss_rows import MOST_CLASSES, losses_and_slopes
from tinygrad_wn.kernels.matmul import multiply_cut, product
from tinygrad_wn.kernels.panels import NOT_SCALED, PADDED, STRETCHED, turn
from tinygrad_wn.kernels.rows import sum_of_rows
from tinygrad_wn.kernels.rules import update
from tinygrad_wn.kernels.steps import pull_back_and_update
from tinygrad_wn.kernels.turned import measure_turned
from tinygrad_wn.kernels.vector import VECTOR_BYTES

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not COMPILED or sys.platform != "linux", reason="there is no memory to forbid"),
]

PAGE, LANES = mmap.PAGESIZE, 16
CUT = "out 2, in 2, in 2, in 1 C, out 2, count, real, in 2"


class Edges:
    """Gives copies of arrays that end, or begin, where reading or writing ends the process."""

    def __init__(self, front):
        self.front, self.libc = front, ctypes.CDLL(None)

    def read(self, x):
        """One that may be read only: a kernel is then called as it was compiled, whoever compiled it for others."""
        found = self(x)
        found.flags.writeable = False
        return found

    def __call__(self, x):
        pages = -(-max(x.nbytes, 1) // PAGE)
        room = mmap.mmap(-1, (pages + 2) * PAGE)
        base = ctypes.addressof(ctypes.c_char.from_buffer(room))
        for guard in (base, base + (pages + 1) * PAGE):
            assert self.libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(PAGE), 0) == 0
        start = PAGE if self.front else (pages + 1) * PAGE - x.nbytes
        found = np.frombuffer(room, x.dtype, x.size, start).reshape(x.shape)
        found[...] = x
        return found


def shown(x):
    """The same array, to be read only."""
    view = x.view()
    view.flags.writeable = False
    return view


def sizes(dtype):
    """Numbers of rows, of inputs and of outputs around the borders of vectors and tiles; the last lie far apart."""
    lanes, rng = VECTOR_BYTES // np.dtype(dtype).itemsize, np.random.default_rng(0)
    borders = [1, 2, 3, 5, 7, 8, 9, 13, lanes - 1, lanes, lanes + 1, 2 * lanes - 1, 2 * lanes, 2 * lanes + 1, 65]
    return [*rng.choice(borders, size=(60, 3)).tolist(), [130, 131, 1030]]


@pytest.mark.parametrize("front", [False, True], ids=["behind", "before"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_and_norms_of_a_layer_stay_inside_of_their_arrays(dtype, front):
    edge, rng, size = Edges(front), np.random.default_rng(1), np.dtype(dtype).itemsize
    close = {"rtol": 1e-4, "atol": 1e-4} if size == 4 else {"rtol": 1e-9, "atol": 1e-9}
    cut, any_cut = (AnyLayout(one, CUT)[size] for one in (product, multiply_cut))
    measured = AnyLayout(measure_turned, "out 2, out 2 A float64, out 2, in 2, in 2")[size]
    back = AnyLayout(cotangents, "out 2, in 2, in 2, out 2, in 2, flag")[size]
    kept_back = AnyLayout(pull_back_kept, "out 2, out 2, out 2 A float64, in 2, in 2, in 2")[size]
    rolled = "out 2, out 2 A float64, in 2, (out 2 + out 2 + out 2), (real + real)"
    flat = "(out 1 C + out 1 C + out 1 C), (real + real)"
    turned, summed = AnyLayout(turn, "out 2, in 2")[size], AnyLayout(sum_of_rows, "out 1 C, in 2")[size]
    none, unscaled, nothing, never = np.empty(0, dtype), np.empty((2, 0), dtype), np.empty((2, 0), dtype), -np.inf
    none.flags.writeable = nothing.flags.writeable = False

    for n, k, o in sizes(dtype):
        shapes = [(n, k), (o, k), (o, 1), (o,), (n, o), (n, k)]
        x, v, g, bias, ct, gate = (edge.read(rng.normal(size=shape).astype(dtype)) for shape in shapes)
        columns, plain = (edge(np.zeros((k, -(-o // LANES) * LANES), dtype))[:, :o] for _ in range(2))
        kept, factors = edge(np.zeros((2, o))), edge(np.zeros((4, o), dtype))
        y, dx, dw = (edge(np.zeros(shape, dtype)) for shape in [(n, o), (n, k), (o, k)])
        db, dg = edge(np.zeros(o, dtype)), edge(np.zeros((o, 1), dtype))
        w = g * v.astype(np.float64) / np.linalg.norm(v.astype(np.float64), axis=1, keepdims=True)

        assert measured(columns, kept, factors, v, g) == 0
        cut(y, x, shown(columns), bias, factors, STRETCHED, 0.0, nothing)
        np.testing.assert_allclose(y, np.maximum(x @ w.T + bias, 0), **close)
        turned(plain, v)
        cut(y, x, shown(plain), none, unscaled, PADDED, never, nothing)
        np.testing.assert_allclose(y, x.astype(np.float64) @ v.T, **close)
        any_cut(y, x, v.T, bias, unscaled, NOT_SCALED, never, nothing)
        np.testing.assert_allclose(y, x.astype(np.float64) @ v.T + bias, **close)
        for few in (True, False):
            back(dx, ct, v, factors, gate, few)
            np.testing.assert_allclose(dx, np.where(gate > 0, ct @ w, 0), **close)
        for one in (ct, edge.read(ct.T.copy()).T):
            any_cut(dx, one, v, none, unscaled, NOT_SCALED, never, gate)
            np.testing.assert_allclose(dx, np.where(gate > 0, ct.astype(np.float64) @ v, 0), **close)
        for one in (cut, any_cut):
            one(dw, ct.T, x, none, unscaled, NOT_SCALED, never, nothing)
            np.testing.assert_allclose(dw, ct.T.astype(np.float64) @ x, **close)
        summed(db, ct)
        np.testing.assert_allclose(db, ct.sum(0), **close)
        along = np.sum(dw * w, 1, keepdims=True) / g
        slopes, new, state = edge(dw.copy()), edge(v.copy()), edge(np.ones_like(v))
        kept_back(dw, dg, kept, shown(dw), v, g)
        np.testing.assert_allclose(dg, along, **close)
        dg[:] = 0
        call(pull_back_and_update, rolled, size, dg, kept, g, (new, state, slopes), (0.5, 0.9))
        np.testing.assert_allclose(dg, along, **close)
        np.testing.assert_allclose(state, dw.astype(np.float64) + 0.9, **close)
        np.testing.assert_allclose(new, v - 0.5 * state.astype(np.float64), **close)
        call(update, flat, size, (db, edge(bias.copy()), edge(bias.copy())), (0.5, 0.9))
        np.testing.assert_allclose(db, ct.sum(0) - 0.5 * 1.9 * bias.astype(np.float64), **close)


@pytest.mark.parametrize("front", [False, True], ids=["behind", "before"])
@pytest.mark.parametrize("classes", [1, 2, 10, 17, *range(MOST_CLASSES - 3, MOST_CLASSES + 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_losses_of_any_number_of_classes_stay_inside_of_their_arrays(dtype, classes, front):
    edge, rng = Edges(front), np.random.default_rng(2)
    kernel = AnyLayout(losses_and_slopes, "out 1 C, out 2, in 1 C, in 2, in 1 C int64, real")[np.dtype(dtype).itemsize]
    for n in (1, 2, 7, 16, 17, 33):
        logits, target = edge(rng.normal(size=(n, classes)).astype(dtype)), edge(rng.integers(0, classes, n))
        losses, slopes, one = edge(np.zeros(n, dtype)), edge(np.zeros((n, classes), dtype)), edge(np.ones(1, dtype))
        assert kernel(losses, slopes, one, logits, target, float(n)) == 0
        powers = np.exp(logits.astype(np.float64))
        chances = powers / powers.sum(1, keepdims=True)
        np.testing.assert_allclose(losses, -np.log(chances[np.arange(n), target]), rtol=1e-4, atol=1e-5)
        chances[np.arange(n), target] -= 1
        np.testing.assert_allclose(slopes, chances / n, rtol=1e-4, atol=1e-6)
        target[-1] = classes
        before = slopes.copy()
        assert kernel(losses, slopes, one, logits, target, float(n)) == 1
        np.testing.assert_array_equal(slopes, before)
