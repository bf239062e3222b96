"""A training step as users write it."""

from collections.abc import Callable
from typing import Any

import tinygrad_wn as tg


def step_of(net: Any, optimizer: Any) -> Callable[[Any, Any], Any]:
    """Forward, backward and update on a batch of rows and classes."""

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = tg.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step
