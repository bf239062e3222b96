"""Optimizers, learning rate schedules, and gradient clipping."""

from .clip import clip_grad_norm
from .optimizer import Optimizer
from .rules import SGD, Adam, AdamW
from .schedules import Constant, Cosine, Linear, Schedule, Step

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "Linear",
    "Optimizer",
    "Schedule",
    "Step",
    "clip_grad_norm",
]
