"""Measurements beside other frameworks that a reader can repeat: `python -m benchmarks`."""
