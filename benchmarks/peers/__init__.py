"""Everyone who takes part: the package, and its peers where they are installed."""

import shutil
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from .base import Contender

OURS = "tinygrad_wn"
EAGER = "tinygrad_wn eager"


@dataclass(frozen=True)
class Peer:
    """Where a contender is written (module and class of this folder), and what it needs."""

    home: str
    modules: tuple[str, ...] = ()
    compiler: bool = False
    weight_norm: bool = True
    work: tuple[str, ...] = ("sgd", "adam", "predictions")
    fewest_classes: int = 2

    def lacks(self) -> str | None:
        """Why it cannot take part, if it cannot."""
        missing = [name for name in self.modules if find_spec(name) is None]
        if missing:
            return f"{', '.join(missing)} is not installed"
        if self.compiler and not any(map(shutil.which, ("g++", "clang++", "c++"))):
            return "there is no C++ compiler"
        return None


PEERS = {
    OURS: Peer("package:Compiled"),
    EAGER: Peer("package:Eager"),
    "numpy": Peer("by_hand:ByHand"),
    "torch": Peer("pytorch:Eager", ("torch",)),
    "torch.compile": Peer("pytorch:Compiled", ("torch",), compiler=True),
    "jax": Peer("with_jax:Jitted", ("jax",)),
    "autograd": Peer("with_autograd:Autograd", ("autograd",)),
    "mygrad": Peer("with_mygrad:MyGrad", ("mygrad",)),
    # With two classes MLPClassifier has one output and another loss; its Adam adds epsilon before the bias correction,
    # and it gives probabilities only: it would not do the same work.
    "sklearn": Peer(
        "scikit_learn:MultiLayerPerceptron", ("sklearn",), weight_norm=False, work=("sgd",), fewest_classes=3
    ),
}


def contender(name: str) -> type[Contender]:
    """The class of a contender; imports its framework."""
    module, _, found = PEERS[name].home.partition(":")
    return getattr(import_module(f".{module}", __name__), found)
