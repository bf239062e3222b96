"""Hold the engine's derivatives against central differences, in any order.

For a random direction u of one input and random weights c of the results, ⟨c, Ju⟩ by central differences must equal
⟨Jᵀc, u⟩ by the engine. The map (x, c) ↦ Jᵀc is then a function like any other: checking it is checking the next order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..creation import tensor
from ..errors import DTypeError, GradientError, TinygradWNError, ValueRangeError
from ..tensor import Tensor
from ..transforms import paired

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..domains import Array


class GradientMismatch(TinygradWNError, AssertionError):
    """The engine's derivative is not the slope of the function; the report shows the worst entry."""


def gradcheck(
    f: Callable[..., Any],
    inputs: Sequence[Any],
    order: int = 2,
    *,
    rtol: float = 1e-6,
    atol: float = 1e-10,
    step: float = 2e-4,
    seed: int = 0,
) -> bool:
    """Check the derivatives of `f` at `inputs`, up to `order`, and return True.

    `f` maps tensors to a tensor or a tuple of tensors. `inputs` are arrays or tensors of any shape: those of floats are
    taken as float64 and differentiated, integers and booleans stay data. `rtol` is relative to ‖c‖‖Ju‖ + ‖Jᵀc‖‖u‖,
    `atol` to ‖c‖‖u‖ (take 0 where derivatives are tiny), and `step` to the largest entry of each input; f must be
    smooth that far around. There the differences, of fourth order, are good to 1e-9. `seed` chooses u and c.

    Raises GradientMismatch, an AssertionError, with the worst entry; DTypeError where no input holds floats;
    GradientError where f returns something else than tensors; ValueRangeError for an order below 1.

    >>> from tinygrad_wn.testing import gradcheck
    >>> gradcheck(lambda x, w: tg.tanh(x @ w), [np.ones((2, 3)), np.ones(3)])
    True
    >>> gradcheck(lambda x: x * tg.stop_gradient(x), [np.array([1.0, 3.0])], order=1)
    Traceback (most recent call last):
        ...
    tinygrad_wn.testing.gradcheck.GradientMismatch: gradcheck: the engine's derivative is not the slope of the function
      order    : 1
      entry    : ∂ result 0 [1] / ∂ input 0 [1]
      expected : 6.0
      actual   : 3.0
      hint     : `expected` is by central differences; look at the vjp of each op that f calls
    """
    if order < 1:
        raise ValueRangeError("gradcheck: order counts from 1", {"order": order})
    arrays = [np.asarray(x.numpy() if isinstance(x, Tensor) else x) for x in inputs]
    varied = [i for i, x in enumerate(arrays) if x.dtype.kind == "f"]
    if not varied:
        raise DTypeError("gradcheck: no input holds floats", {"dtypes": ", ".join(str(x.dtype) for x in arrays)})

    def function(*given: Tensor) -> tuple[Tensor, ...]:
        full = [tensor(x) for x in arrays]
        for i, x in zip(varied, given, strict=True):
            full[i] = x
        results = f(*full)
        found = results if isinstance(results, tuple) else (results,)
        if not all(isinstance(y, Tensor) for y in found):
            raise GradientError("gradcheck: f must return tensors", {"returned": type(results).__name__})
        return found

    level = _Level(
        function, [np.array(arrays[i], np.float64) for i in varied], [f"input {i}" for i in varied], "result"
    )
    rng = np.random.default_rng(seed)
    with np.errstate(all="ignore"):
        for n in range(1, order + 1):
            level = level.check(n, rng, rtol, atol, step)
    return True


@dataclass(frozen=True)
class _Level:
    """A function from float64 tensors to tensors, the point to check it at, and what reports call its parts."""

    function: Callable[..., tuple[Tensor, ...]]
    point: list[Array]
    names: list[str]
    result: str

    def check(self, order: int, rng: np.random.Generator, rtol: float, atol: float, step: float) -> _Level:
        """Check the first derivative of this level, and return the level whose function that derivative is."""
        results = self.values(self.point)
        weights = [_away_from_zero(rng, y.shape) for y in results]
        pulled = self.pulled_back(weights)
        rounding = 16 * max(np.finfo(y.dtype).eps if y.dtype.kind == "f" else 0.0 for y in results)
        for i, gradient in enumerate(pulled):
            u, h = _away_from_zero(rng, gradient.shape), step * _size(self.point[i])
            pushed = self.slope(i, u, h)
            expected = sum(float(np.sum(c * y)) for c, y in zip(weights, pushed, strict=True))
            scale = _norm(weights) * _norm(pushed) + _norm([gradient]) * _norm([u])
            bound = rtol * scale + atol * _norm(weights) * _norm([u]) + rounding / h * _norm(weights) * _norm(results)
            if not abs(expected - float(np.sum(gradient * u))) <= bound < math.inf:
                raise self.mismatch(i, order, step)

        def derivative(*given: Tensor) -> tuple[Tensor, ...]:
            xs, cs = given[: len(self.point)], given[len(self.point) :]
            return paired(self.function(*xs), cs, "gradcheck").gradient(*xs, create_graph=True)

        cotangents = [f"cotangent of {self.result} {i}" for i in range(len(weights))]
        return _Level(derivative, self.point + weights, self.names + cotangents, f"gradient (order {order})")

    def values(self, point: list[Array]) -> list[Array]:
        """The results at another point."""
        return [y.numpy() for y in self.function(*(tensor(x, requires_grad=True) for x in point))]

    def pulled_back(self, weights: list[Array]) -> list[Array]:
        """Jᵀc by the engine."""
        leaves = [tensor(x, requires_grad=True) for x in self.point]
        total = paired(self.function(*leaves), weights, "gradcheck")
        return [g.numpy() for g in total.gradient(*leaves)]

    def slope(self, i: int, u: Array, h: float) -> list[Array]:
        """Ju by central differences of fourth order, for a direction u of input i and steps of h·u."""

        def at(k: int) -> list[Array]:
            return self.values([x + k * h * u if i == j else x for j, x in enumerate(self.point)])

        return [
            (8.0 * np.subtract(a, b, dtype=np.float64) - np.subtract(c, d, dtype=np.float64)) / (12 * h)
            for a, b, c, d in zip(at(1), at(-1), at(2), at(-2), strict=True)
        ]

    def mismatch(self, i: int, order: int, step: float) -> GradientMismatch:
        """The report: both Jacobians entry by entry, and where they differ most."""
        shapes = [y.shape for y in self.values(self.point)]
        shape, h = self.point[i].shape, step * _size(self.point[i])
        columns = [
            np.concatenate([y.reshape(-1) for y in self.slope(i, _one(shape, k), h)]) for k in range(math.prod(shape))
        ]
        rows = [
            self.pulled_back([_one(s, k) if r == j else np.zeros(s) for j, s in enumerate(shapes)])[i].reshape(-1)
            for r, at in enumerate(shapes)
            for k in range(math.prod(at))
        ]
        places = [(r, k) for r, at in enumerate(shapes) for k in range(math.prod(at))]
        expected, actual = np.stack(columns, axis=1), np.stack(rows)
        apart = np.abs(expected - actual)
        row, column = np.unravel_index(np.argmax(apart), apart.shape)
        number, place = places[row]
        return GradientMismatch(
            "gradcheck: the engine's derivative is not the slope of the function",
            {
                "order": order,
                "entry": f"∂ {self.result} {number} {_index(place, shapes[number])}"
                f" / ∂ {self.names[i]} {_index(int(column), shape)}",
                "expected": f"{expected[row, column]:.9}",
                "actual": f"{actual[row, column]:.9}",
            },
            hint="`expected` is by central differences; look at the vjp of each op that f calls",
        )


def _away_from_zero(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Numbers of size ½ to 1 and either sign: every entry counts in an inner product."""
    return np.asarray(rng.uniform(0.5, 1.0, shape) * rng.choice([-1.0, 1.0], shape))


def _size(x: Array) -> float:
    return float(np.max(np.abs(x), initial=0.0)) or 1.0


def _norm(arrays: Sequence[Array]) -> float:
    return math.hypot(*(number for x in arrays for number in x.ravel().tolist()))


def _one(shape: tuple[int, ...], k: int) -> Array:
    """Zeros with a one at place k."""
    one = np.zeros(shape)
    one.reshape(-1)[k] = 1.0
    return one


def _index(place: int, shape: tuple[int, ...]) -> list[int]:
    return [int(n) for n in np.unravel_index(place, shape)]
