"""Weight normalization in plain NumPy, twice: with care, and as the formulas stand on paper.

Each class has the functions that `tinygrad_wn.testing.Implementation` names. Mutants are made of `Careful`.
"""

import copy as copying

import numpy as np


class Layer:
    """A weight that is made of v and g when it is asked for."""

    def __init__(self, v, g, axis):
        self.v = np.array(v)
        self.g = np.array(g)
        self.axis = axis

    def weight(self):
        return Careful.weight(self.v, self.g, self.axis)

    def write(self, v, g):
        self.v[...] = v
        self.g[...] = g


def others(v, axis):
    """The axes that a slice runs over."""
    return tuple(i for i in range(v.ndim) if axis is None or i != axis % v.ndim)


def dot(x, y, rest):
    return np.sum(x * y, axis=rest, keepdims=True)


def direction(v, axis):
    """u = v/‖v‖ in float64, ‖v‖ as a number of moderate size and the power of two that belongs to it, and the axes."""
    rest = others(v, axis)
    wide = v.astype(np.float64)
    top = np.max(np.abs(wide), axis=rest, keepdims=True)
    if np.any(top == 0):
        raise ValueError("a slice of v is zero")
    e = np.frexp(top)[1]
    scaled = np.ldexp(wide, -e)
    norm = np.sqrt(dot(scaled, scaled, rest))
    return scaled / norm, norm, e, rest


class Careful:
    @staticmethod
    def weight(v, g, axis):
        u, _, _, _ = direction(v, axis)
        return (g * u).astype(v.dtype)

    @staticmethod
    def gradient(v, g, ct, axis):
        u, norm, e, rest = direction(v, axis)
        wide = ct.astype(np.float64)
        along = dot(wide, u, rest)
        across = g * (wide - along * u) / norm
        return np.ldexp(across, -e).astype(v.dtype), along.astype(v.dtype)

    @staticmethod
    def second(v, g, ct, a, b, axis):
        u, norm, e, rest = direction(v, axis)
        n = np.ldexp(norm, e)
        c = ct.astype(np.float64)
        p = a.astype(np.float64)
        cu = dot(c, u, rest)
        pu = dot(p, u, rest)
        both = dot(p, c, rest) - pu * cu
        bent = both * u + pu * (c - cu * u) + cu * (p - pu * u)
        by_v = b * (c - cu * u) / n - g * bent / n**2
        by_g = both / n
        by_ct = g * (p - pu * u) / n + b * u
        return by_v.astype(v.dtype), by_g.astype(v.dtype), by_ct.astype(v.dtype)

    @staticmethod
    def jvp(v, g, dv, dg, axis):
        u, norm, e, rest = direction(v, axis)
        n = np.ldexp(norm, e)
        wide = dv.astype(np.float64)
        turned = g * (wide - dot(wide, u, rest) * u) / n
        return (dg * u + turned).astype(v.dtype)

    @staticmethod
    def fold(v, g, axis):
        layer = Layer(v, g, axis)
        return layer.weight()

    @staticmethod
    def copy(v, g, other_v, other_g, axis):
        layer = Layer(v, g, axis)
        twin = copying.deepcopy(layer)
        layer.write(other_v, other_g)
        return twin.weight(), layer.weight()

    @staticmethod
    def state(v, g, other_v, other_g, axis):
        layer = Layer(v, g, axis)
        other = Layer(other_v, other_g, axis)
        other.write(layer.v, layer.g)
        layer.write(other_v, other_g)
        return other.v, other.g, other.weight()


class OnPaper:
    """Equations 2 and 3, and their derivatives, in the dtype of v."""

    @staticmethod
    def weight(v, g, axis):
        return g * v / np.sqrt(dot(v, v, others(v, axis)))

    @staticmethod
    def gradient(v, g, ct, axis):
        rest = others(v, axis)
        n = np.sqrt(dot(v, v, rest))
        dg = dot(ct, v, rest) / n
        return g / n * ct - g * dg / n**2 * v, dg

    @staticmethod
    def second(v, g, ct, a, b, axis):
        rest = others(v, axis)
        n = np.sqrt(dot(v, v, rest))
        u = v / n
        cu, pu = dot(ct, u, rest), dot(a, u, rest)
        both = dot(a, ct, rest) - pu * cu
        by_v = (b - g * pu / n) * (ct - cu * u) / n - g / n**2 * (both * u + cu * (a - pu * u))
        return by_v, both / n, g / n * (a - pu * u) + b * u

    @staticmethod
    def jvp(v, g, dv, dg, axis):
        rest = others(v, axis)
        n = np.sqrt(dot(v, v, rest))
        u = v / n
        return dg * u + g / n * (dv - dot(u, dv, rest) * u)
