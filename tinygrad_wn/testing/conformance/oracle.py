"""What weight normalization and its derivatives are, in decimal arithmetic of 60 digits, and how far rounding may lead.

The formulas are those of Salimans & Kingma 2016 (arXiv 1602.07868) and their derivatives by hand, with u = v/‖v‖ and
the sums of one slice written as ⟨x, y⟩. Nothing here is shared with the package that is to be judged: a float is a
decimal number exactly, no square leaves the range, and 60 digits leave 40 beyond those of float64.

A formula comes with a magnitude: the same sum with every term taken absolutely. Whoever computes it in floats of unit
roundoff ε/2, term by term and in any order, is off by at most a number of roundings times ε/2 times the magnitude.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ...domains import Array

DIGITS = Context(prec=60)
decimals = np.frompyfunc(Decimal, 1, 1)
square_root = np.frompyfunc(Decimal.sqrt, 1, 1)


@dataclass(frozen=True)
class Truth:
    """A result in decimals, and by how much a float result of this many roundings may miss it, entry by entry."""

    value: Array
    magnitude: Array
    roundings: int

    def bound(self, dtype: Any) -> Array:
        """The largest error of correct code that works in `dtype`, results that were flushed to zero included."""
        kind = np.finfo(dtype)
        unit, smallest = Decimal(float(kind.eps)) / 2, Decimal(float(kind.tiny))
        with localcontext(DIGITS):
            return np.asarray(self.roundings * unit * self.magnitude + smallest)

    def misses(self, found: Array) -> bool:
        """Whether `found`, of the shape of this result, is further from it than rounding explains."""
        if not np.isfinite(found).all():
            return True
        with localcontext(DIGITS):
            return bool(np.any(abs(decimals(found.astype(float)) - self.value) > self.bound(found.dtype)))

    def rounded(self, dtype: Any) -> Array:
        """The result as floats of `dtype`, to be shown."""
        return self.value.astype(np.float64).astype(dtype)


class Slices:
    """The decimals of v, g and their norm; sums run over one slice: all axes but `axis` (one, several, None).

    Counts of roundings, for a slice of n entries: n for a sum of squares, of which the root keeps half; n for an inner
    product; one for each product, quotient and sum that follows. Every count here is at least twice that number.
    """

    def __init__(self, v: Array, g: Array, axis: int | tuple[int, ...] | None) -> None:
        """Take arrays of floats: v of any shape, and g with size 1 on each axis that a slice runs over."""
        kept = () if axis is None else axis if isinstance(axis, tuple) else (axis,)
        self.rest = tuple(i for i in range(v.ndim) if i not in {one % v.ndim for one in kept})
        self.n = max(v.size // max(g.size, 1), 1)
        self.norm: Any
        with localcontext(DIGITS):
            self.v, self.g = exact(v), exact(g)
            self.norm = square_root(self.along(self.v * self.v))
            self.u = self.v / self.norm

    def along(self, x: Any) -> Any:
        """Σ over each slice; summed axes stay with size 1."""
        return np.sum(x, axis=self.rest, keepdims=True)

    def weight(self) -> Truth:
        """Equation 2: w = g v / ‖v‖."""
        with localcontext(DIGITS):
            w = self.g * self.u
            return Truth(w, abs(w), self.n + 8)

    def gradient(self, ct: Array) -> tuple[Truth, Truth]:
        """Equation 3: ∇g = ∇w·v/‖v‖ and ∇v = (g/‖v‖)∇w - (g∇g/‖v‖²)v, for ∇w = `ct`."""
        with localcontext(DIGITS):
            c, u, scale = exact(ct), self.u, self.g / self.norm
            dg = self.along(c * self.v) / self.norm
            dv = scale * c - self.g * dg / self.norm**2 * self.v
            size = self.along(abs(c * u))
            return (
                Truth(dv, abs(scale) * (abs(c) + abs(u) * size), 6 * self.n + 24),
                Truth(dg, size, 3 * self.n + 8),
            )

    def second(self, ct: Array, a: Array, b: Array) -> tuple[Truth, Truth, Truth]:
        """The gradient by v, g and ∇w of S = ⟨a, ∇v⟩ + ⟨b, ∇g⟩ = (g/‖v‖)(⟨a, ∇w⟩ - ⟨a, u⟩⟨∇w, u⟩) + b⟨∇w, u⟩.

        The norm is no constant: ∂‖v‖/∂v = u, and ∂⟨x, u⟩/∂v = (x - ⟨x, u⟩u)/‖v‖ for x = a and for x = ∇w.
        """
        with localcontext(DIGITS):
            c, p, q = exact(ct), exact(a), exact(b)
            u, n, g, along = self.u, self.norm, self.g, self.along
            pc, pu, cu = along(p * c), along(p * u), along(c * u)
            across_c, across_p = c - cu * u, p - pu * u
            by_v = -g / n**2 * ((pc - pu * cu) * u + pu * across_c + cu * across_p) + q / n * across_c
            by_g = (pc - pu * cu) / n
            by_ct = g / n * across_p + q * u
            size_pc, size_pu, size_cu, w = along(abs(p * c)), along(abs(p * u)), along(abs(c * u)), abs(u)
            size_c, size_p = abs(c) + size_cu * w, abs(p) + size_pu * w
            both = size_pc + size_pu * size_cu
            count = 16 * self.n + 64
            return (
                Truth(
                    by_v,
                    abs(g) / n**2 * (both * w + size_pu * size_c + size_cu * size_p) + abs(q) / n * size_c,
                    count,
                ),
                Truth(by_g, both / n, count),
                Truth(by_ct, abs(g) / n * size_p + abs(q) * w, count),
            )

    def jvp(self, dv: Array, dg: Array) -> Truth:
        """The derivative of w along (dv, dg): dg u + (g/‖v‖)(dv - ⟨u, dv⟩u)."""
        with localcontext(DIGITS):
            x, y, u, scale = exact(dv), exact(dg), self.u, self.g / self.norm
            size = abs(y * u) + abs(scale) * (abs(x) + abs(u) * self.along(abs(u * x)))
            return Truth(y * u + scale * (x - self.along(u * x) * u), size, 6 * self.n + 24)

    def dot_of_gradient(self, ct: Array, found: Array) -> tuple[Array, Array]:
        """⟨v, found⟩ of each slice, which is 0 for the true ∇v, and how far from 0 rounding may take it."""
        truth = self.gradient(ct)[0]
        with localcontext(DIGITS):
            return abs(self.along(self.v * exact(found))), self.along(abs(self.v) * truth.bound(found.dtype))


def exact(x: Array) -> Array:
    """The same numbers as decimals; decimals stay as they are."""
    return x if x.dtype == object else np.asarray(decimals(x.astype(float)), object)


def length(x: Array, slices: Slices) -> Array:
    """√Σx² of each slice, of decimals."""
    with localcontext(DIGITS):
        return np.asarray(square_root(slices.along(x * x)), object)
