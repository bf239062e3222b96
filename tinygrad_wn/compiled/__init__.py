"""Compiled steps: a step is recorded, planned, written as one Python function, and run as machine code."""

from . import batch, layers, moves, products, reductions, rules
from .jit import Compiled, jit
from .scan import scan

__all__ = ["Compiled", "batch", "jit", "layers", "moves", "products", "reductions", "rules", "scan"]
