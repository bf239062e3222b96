"""Compiled steps: a step is recorded, planned, written as one Python function, and run as machine code."""

from . import layers, moves, products, reductions, rules
from .jit import Compiled, jit
from .scan import scan

__all__ = ["Compiled", "jit", "layers", "moves", "products", "reductions", "rules", "scan"]
