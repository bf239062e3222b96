"""Generators of random numbers of Python and of NumPy, and whether somebody drew from them."""

from __future__ import annotations

import pickle
import random
from typing import TYPE_CHECKING, Any

import numpy as np

from ..creation import generator

if TYPE_CHECKING:
    from collections.abc import Iterable

GENERATORS = (random.Random, np.random.Generator, np.random.BitGenerator, np.random.RandomState)


def _state(generator: Any) -> Any:
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, np.random.RandomState):
        return pickle.dumps(generator.get_state())
    return pickle.dumps(getattr(generator, "bit_generator", generator).state)


def states(generators: Iterable[Any]) -> list[Any]:
    """The states of some generators, and of those that everybody shares; each draw changes one."""
    shared = vars(np.random)["get_bit_generator"]()
    return [random.getstate(), *map(_state, (shared, generator(), *generators))]
