"""Checks for code that uses or extends the package: `gradcheck`, `check_weight_norm`, and in `strategies` legal calls.

`check_weight_norm` judges any library's weight normalization. It and `strategies` need Hypothesis, which
`pip install "tinygrad_wn[test]"` brings; `gradcheck` needs nothing more.
"""

from .conformance import Implementation, LibraryMissingError, Matrix, Verdict, adapter, check_weight_norm
from .gradcheck import GradientMismatch, gradcheck

__all__ = [
    "GradientMismatch",
    "Implementation",
    "LibraryMissingError",
    "Matrix",
    "Verdict",
    "adapter",
    "check_weight_norm",
    "gradcheck",
]
