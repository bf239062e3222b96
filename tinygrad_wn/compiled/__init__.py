"""Compiled steps: a step is recorded, planned, written as one Python function, and run as machine code."""

from . import batch, layers, moves, notes, products, reductions, rules
from .jit import Compiled, jit
from .scan import scan

__all__ = ["Compiled", "batch", "jit", "layers", "moves", "notes", "products", "reductions", "rules", "scan"]
