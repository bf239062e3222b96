"""What the ladder's tests draw, and how they judge: decimals in 60 digits, and what rounding may miss them by."""

from dataclasses import replace
from decimal import Decimal, localcontext

import numpy as np
from hypothesis import strategies as st
from test_weight_norm import axes_for, leaves

import tinygrad_wn as tg
from tinygrad_wn.ops.norm import g_shape
from tinygrad_wn.testing.conformance.oracle import DIGITS, Slices, exact

NAMES = ("w", "∇v", "∇g", "second by v", "second by g", "second by ∇w")
ROOM = 12
"""Powers of two that are left to the largest number: sums of so few numbers as these stay in the range."""


def numbers(shape, axis, dtype, seed, k, parallel, others=(0, 0, 0, 0)):
    """v of size 2ᵏ; g, ∇w and cotangents a, b of ∇v and ∇g of sizes of their own; `parallel`: ∇w ∥ v but for 1e-6."""
    rng, kind = np.random.default_rng(seed), np.finfo(dtype)
    v, ct, a = (rng.standard_normal(shape) for _ in range(3))
    g, b = (rng.standard_normal(g_shape(shape, axis)) for _ in range(2))
    v = np.where(rng.random(shape) < 0.1, v * 2.0**-30, v)  # entries that weigh nothing beside the others
    ct = v + 1e-6 * ct if parallel else ct
    arrays = (np.ldexp(x, power).astype(dtype) for x, power in zip((v, g, ct, a, b), (k, *others), strict=True))
    v, *rest = arrays
    return np.where(v == 0, kind.smallest_subnormal, v), *rest


def truths(v, g, ct, a, b, axis):
    one = Slices(v, g, axis)
    dv, dg = one.gradient(ct)
    return one.weight(), dv, dg, *one.second(ct, a, b)


def climbed(v, g, ct, a, b, axis, fused):
    """All six results by the engine."""
    v, g, ct = (x if isinstance(x, tg.Tensor) else leaves(x)[0] for x in (v, g, ct))
    w = tg.weight_norm(v, g, axis, fused=fused)
    dv, dg = w.gradient(v, g, cotangent=ct, create_graph=True)
    total = (dv.astype("float64") * a).sum() + (dg.astype("float64") * b).sum()
    return (w, dv, dg, *total.gradient(v, g, ct))


def missed(y, truth):
    """Where a result is further from the truth than rounding explains, or a finite number though it is out of range."""
    finite = np.isfinite(y)
    with localcontext(DIGITS):
        most, bound, size = Decimal(float(np.finfo(y.dtype).max)), truth.bound(y.dtype), abs(truth.value)
        off = abs(exact(np.where(finite, y, 0)) - truth.value) > bound
        inside, outside = (x.astype(bool) for x in (size + bound <= most, size - bound > most))
    return (inside & (off.astype(bool) | ~finite)) | (outside & finite)


def held(found, expected):
    for name, y, truth in zip(NAMES[: len(found)], found, expected, strict=True):
        assert not missed(y.numpy(), truth).any(), (name, y.numpy(), truth.rounded(y.dtype))


def reach(dtype):
    """Powers of two for numbers of any size, subnormal ones of v among them."""
    kind = np.finfo(dtype)
    low, high = kind.minexp - ROOM, kind.maxexp - ROOM
    return st.sampled_from([0, low, high]) | st.integers(low, high)


@st.composite
def troubles(draw, dtype, wild=False):
    """Arrays and an axis; if wild, each array of a size of its own: in float64 normal ones, what cancels included."""
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    axis, sizes, kind = draw(axes_for(len(shape))), reach(dtype), np.finfo(dtype)
    least = kind.minexp + (ROOM if dtype == np.float32 else 5 * ROOM)
    others = [max(draw(sizes), least) if wild else 0 for _ in range(4)]
    seed, parallel, size = draw(st.integers(0, 2**32 - 1)), draw(st.booleans()), draw(sizes)
    size = max(size, least) if wild and dtype == np.float64 else size
    return *numbers(shape, axis, dtype, seed, size, parallel, others), axis


def mixed_rows(dtype, seed, half):
    """Rows of v, g and ∇w, of which each has sizes of its own, with ∇w anywhere, along v, across v, or 0.

    What is across v has its numbers where v has zeros: their product is 0 to the last bit.
    """
    rng, count, least, most = np.random.default_rng(seed), 130, np.finfo(dtype).minexp, np.finfo(dtype).maxexp
    sizes = [s * k for k in (0, 19, 29, 31, 59, 61, 101) for s in (1, -1)]
    sizes += [least + 2 * ROOM, most - ROOM]
    ends = {"v": [least - 20], "g": [most - 1], "ct": [least + ROOM]} if dtype == np.float32 else {}
    powers = {name: rng.choice([*sizes, *ends.get(name, [])], (count, 1)) for name in ("v", "g", "ct")}
    v, g, ct = (rng.uniform(1, 2, (count, n)) for n in (2 * half, 1, 2 * half))
    lies, first = rng.integers(4, size=(count, 1)), np.arange(2 * half) < half
    ct = np.where(lies == 1, v * (1 + 1e-6 * rng.standard_normal(v.shape)), ct)
    v, ct = np.where((lies == 2) & first, 0, v), np.where((lies == 3) | (lies == 2) & ~first, 0, ct)
    return tuple(np.ldexp(x, power).astype(dtype) for x, power in zip((v, g, ct), powers.values(), strict=True))


def as_float64_has_it(truth):
    """What may be missed in float32 by who computes in float64 until up to four roundings of the result."""
    with localcontext(DIGITS):
        few = 4 * abs(truth.value) / truth.roundings
        return replace(truth, magnitude=few + truth.magnitude * Decimal(2.0**-29))
