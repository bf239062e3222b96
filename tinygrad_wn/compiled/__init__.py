"""Compiled steps: a step is recorded, planned, written as one Python function, and run as machine code."""

from . import batch, moves, products, reductions, rules
from .jit import Compiled, jit
from .scan import scan

__all__ = ["Compiled", "batch", "jit", "moves", "products", "reductions", "rules", "scan"]
