"""Checks for code that uses or extends the package: `gradcheck`, and in `strategies` legal calls of any op.

`strategies` needs Hypothesis, which `pip install "tinygrad_wn[test]"` brings; `gradcheck` needs nothing more.
"""

from .gradcheck import GradientMismatch, gradcheck

__all__ = ["GradientMismatch", "gradcheck"]
