"""What a weight normalization must do: each property as checks that Hypothesis tries on drawn calls."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING

import numpy as np

from . import draws
from .oracle import DIGITS, exact, length
from .trial import RESULTS, Given, LackingError, RaisedError, Trial, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

    from .implementation import Implementation


@dataclass(frozen=True)
class Check:
    """What it needs, trials to draw for an implementation, and a function that raises FailureError where one is wrong.

    `share` is the part of the examples that it takes: where a property has many checks, fewer of each will do.
    """

    needs: str
    trials: Callable[[Implementation], SearchStrategy[Trial]]
    test: Callable[[Trial], None]
    share: float = 1.0


def weight(trial: Trial) -> None:
    """Equation 2."""
    trial.compare("weight", trial.truth().weight())


def gradient(trial: Trial) -> None:
    """Equation 3."""
    trial.compare("gradient", *trial.truth().gradient(trial["ct"]))


def orthogonality(trial: Trial) -> None:
    """⟨v, ∇v⟩ = 0 in each slice."""
    grad_v, _ = trial.call("gradient")
    if not np.isfinite(grad_v).all():
        raise trial.failure("gradient", "grad_v is not finite", f"print(grad_v)  # {plain(grad_v)}")
    dots, bounds = trial.truth().dot_of_gradient(trial["ct"], grad_v)
    if np.any(dots > bounds):
        worst = float(np.max(dots))
        product = f"whose product with v is up to {worst:.1e} in a slice"
        shown = f"print(grad_v.tolist())\n# found {plain(grad_v)}, {product}\n# right: 0 in each slice"
        raise trial.failure("gradient", f"grad_v is not at a right angle to v: their product is {worst:.1e}", shown)


def second(trial: Trial) -> None:
    """The gradient of ⟨a, ∇v⟩ + ⟨b, ∇g⟩."""
    trial.compare("second", *trial.truth().second(trial["ct"], trial["a"], trial["b"]))


def jvp(trial: Trial) -> None:
    """The derivative along (dv, dg)."""
    trial.compare("jvp", trial.truth().jvp(trial["dv"], trial["dg"]))


def zero_slice(trial: Trial) -> None:
    """Each function raises, or returns finite numbers that are right in all other slices."""
    v, g = trial["v"], trial["g"]
    rest = tuple(i for i in range(v.ndim) if v.shape[i] != g.shape[i])
    zero = np.all(v == 0, axis=rest, keepdims=True)
    whole = Trial(trial.impl, trial.axis, trial.given | {"v": Given(np.where(zero, 1, v).astype(v.dtype))})
    right = {"weight": (whole.truth().weight(),), "gradient": whole.truth().gradient(trial["ct"])}
    for function in ("weight", "gradient", "second", "jvp"):
        if trial.impl.lacks(function):
            continue
        try:
            results = trial.call(function)
        except (LackingError, RaisedError):
            continue
        for i, (name, found) in enumerate(zip(RESULTS[function], results, strict=True)):
            if not np.isfinite(found).all():
                what = "NaN" if np.isnan(found).any() else "infinite"
                shown = f"print({name}.tolist())\n# found {plain(found)}\n# right: an error, or finite numbers"
                raise trial.failure(function, f"{name} is {what} where a slice of v is zero, in silence", shown)
            if function in right:
                truth = right[function][i]
                if truth.misses(np.where(zero, truth.rounded(found.dtype), found)):
                    trial.wrong(function, name, found, truth.rounded(found.dtype), " in a slice that is not zero")


def near_parallel(trial: Trial) -> None:
    """∇v in float32 is as right as sums in float64, rounded once, give it: normwise in each slice."""
    grad_v, _ = trial.call("gradient")
    slices = trial.truth()
    truth, _ = slices.gradient(trial["ct"])
    with localcontext(DIGITS):
        size = length(truth.value, slices)
        wide = Decimal(float(np.finfo(np.float64).eps)) * truth.roundings * length(truth.magnitude, slices)
        bound = Decimal(float(np.finfo(np.float32).eps)) * truth.roundings * size + wide
        finite = bool(np.isfinite(grad_v).all())
        apart = length(truth.value - exact(grad_v), slices) if finite else size
        if not finite or np.any(apart > bound):
            worst = float(np.max(apart / size))
            shown = f"print(grad_v.tolist())\n# found {plain(grad_v)}\n# right {plain(truth.rounded(grad_v.dtype))}"
            what = f"grad_v has a relative error of {worst:.1e} where ct is nearly parallel to v"
            raise trial.failure("gradient", what, shown)


def axis_meaning(trial: Trial) -> None:
    """Every axis that is taken means what it says; one that is not taken is refused."""
    for function in ("weight", "gradient"):
        if trial.impl.lacks(function):
            continue
        truths = (trial.truth().weight(),) if function == "weight" else trial.truth().gradient(trial["ct"])
        try:
            trial.compare(function, *truths, where=f" for axis={trial.axis}")
        except (LackingError, RaisedError):
            continue


def dtype_kept(trial: Trial) -> None:
    """Float32 gives float32, float64 gives float64."""
    for function in ("weight", "gradient", "second", "jvp"):
        if trial.impl.lacks(function):
            continue
        try:
            results = trial.call(function)
        except (LackingError, RaisedError):
            continue
        for name, found in zip(RESULTS[function], results, strict=True):
            if found.dtype != trial["v"].dtype:
                what = f"{name} is {found.dtype} where v and g are {trial['v'].dtype}"
                raise trial.failure(function, what, f"print({name}.dtype)  # {found.dtype}")


def layout(trial: Trial) -> None:
    """The layout of an array in memory does not matter."""
    weight(trial)
    if not trial.impl.lacks("gradient"):
        gradient(trial)


def fold(trial: Trial) -> None:
    """The folded weight is w, bit for bit."""
    trial.same("fold", *trial.call("weight"))


def copy(trial: Trial) -> None:
    """A copy keeps its w, bit for bit, when the layer that it was made of changes; that layer's w follows."""
    other = Trial(trial.impl, trial.axis, {"v": trial.given["other_v"], "g": trial.given["other_g"]})
    trial.same("copy", *trial.call("weight"), *other.call("weight"))


def state(trial: Trial) -> None:
    """Another layer that takes the state has the same v, g and w, bit for bit, and keeps them."""
    trial.same("state", trial["v"], trial["g"], *trial.call("weight"))


CALL = ("v", "g", "ct")
EVERY = ("v", "g", "ct", "a", "b", "dv", "dg")
PROPERTIES: dict[str, tuple[Check, ...]] = {
    "values": (Check("weight", draws.trials("v", "g"), weight),),
    "gradient": (Check("gradient", draws.trials(*CALL), gradient),),
    "orthogonality": (Check("gradient", draws.trials(*CALL), orthogonality),),
    "second order": (Check("second", draws.trials(*CALL, "a", "b"), second),),
    "scale": (
        Check("weight", draws.scaled(1, "v", "g"), weight),
        Check("weight", draws.scaled(-1, "v", "g"), weight),
        Check("gradient", draws.scaled(1, *CALL), gradient),
        Check("gradient", draws.scaled(-1, *CALL), gradient),
    ),
    "zero slice": (Check("weight", draws.with_zero_slice(*EVERY), zero_slice),),
    "near-parallel": (Check("gradient", draws.nearly_parallel, near_parallel),),
    "axis meaning": tuple(
        Check("weight", draws.along(axis, *CALL), axis_meaning, share=0.2)
        for axis in (*draws.AXES, *(-1 - axis for axis in draws.AXES if axis is not None))
    ),
    "dtype kept": (Check("weight", draws.trials(*EVERY), dtype_kept),),
    "non-contiguous": (Check("weight", draws.in_any_layout(*CALL), layout),),
    "jvp": (Check("jvp", draws.trials("v", "g", "dv", "dg"), jvp),),
    "fold": (Check("fold", draws.trials("v", "g"), fold),),
    "copy": (Check("copy", draws.trials("v", "g", "other_v", "other_g"), copy),),
    "state": (Check("state", draws.trials("v", "g", "other_v", "other_g"), state),),
}
"""Every property by its name, in the order of the matrix."""
