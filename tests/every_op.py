"""What the tests of every declared op share: ops by their properties, and calls as functions of their float inputs."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

import tinygrad_wn as tg
from tinygrad_wn.domains import Array
from tinygrad_wn.op import OPS, Op
from tinygrad_wn.tensor import Tensor, wrap


def each(wanted: Callable[[Op[...]], bool]) -> pytest.MarkDecorator:
    found = {name: op for name, op in OPS.items() if wanted(op)}
    return pytest.mark.parametrize("op", found.values(), ids=found.keys())


def reals_of(op: Op[...]) -> list[str]:
    return [name for name, domain in op.domains.items() if domain.kind == "real"]


every_op = each(lambda op: True)
every_smooth_op = each(lambda op: op.gradient)
every_elementwise_op = each(lambda op: op.elementwise and len(op.input_names) > 1)
every_kernel = each(lambda op: op.kernel is not None)
kernels_or_definitions = pytest.mark.parametrize(
    "on", [pytest.param(on, marks=pytest.mark.once) for on in (True, False)], ids=["kernels", "definitions"]
)
"""A test that asks for `tg.kernels(on)` does the same whatever the process begins with."""

floats: st.SearchStrategy[Any] = st.sampled_from([np.float32, np.float64])

SMOOTHED: dict[str, Callable[..., tuple[Array, ...]]] = {
    "remainder": lambda a, b: (b * (np.floor(a / b) + 0.5), b),  # half way between two jumps
}


def smooth(op: Op[...], arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    return SMOOTHED[op.name](*arrays) if op.name in SMOOTHED else arrays


def as_function(op: Op[...], arrays: tuple[Any, ...], params: Any) -> tuple[Callable[..., Any], list[Array]]:
    """The call as a function of its float inputs alone, and those."""
    places = [i for i, x in enumerate(arrays) if x is not None and x.dtype.kind == "f"]

    def f(*given: Any) -> Any:
        full = list(arrays)
        for i, x in zip(places, given, strict=True):
            full[i] = x
        return op(*full, **params)

    return f, [arrays[i] for i in places]


def outputs(y: Any) -> tuple[Any, ...]:
    return y if isinstance(y, tuple) else (y,)


def random(rng: np.random.Generator, like: Any) -> Array:
    return np.asarray(rng.standard_normal(like.shape), like.dtype)


def weighted(y: Any) -> Tensor:
    """The results as one number, each entry with a weight of its own."""
    rng = np.random.default_rng(0)
    return sum(((one * random(rng, one)).sum() for one in outputs(y)), tg.tensor(0.0))


def gradients(f: Callable[..., Any], xs: list[Array]) -> tuple[Tensor, ...]:
    """Gradients of the weighted results; the layout of xs stays as it is."""
    leaves = [wrap(x, requires_grad=True) for x in xs]
    return weighted(f(*leaves)).gradient(*leaves)


def norm(arrays: Any) -> float:
    return math.hypot(*(float(np.linalg.norm(np.asarray(x.detach() if hasattr(x, "detach") else x))) for x in arrays))
