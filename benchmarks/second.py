"""Derivatives of second order of weight normalization, as one op and composed: `python -m benchmarks.second`."""

from collections.abc import Callable
from time import thread_time

import numpy as np

import tinygrad_wn as tg

SHAPES = ((32, 64), (64, 784))
DTYPES = ("float32", "float64")
ROUNDS = 200


def derivatives(shape: tuple[int, int], dtype: str) -> dict[str, Callable[[], tuple[tg.Tensor, ...]]]:
    """Functions that compute the cotangents of v, g and ∇w in equation 3, for cotangents of ∇v and ∇g: form by form."""
    rng = np.random.default_rng(0)
    v, ct, a = (tg.tensor(rng.standard_normal(shape).astype(dtype)) for _ in range(3))
    g, b = (tg.tensor(rng.standard_normal((shape[0], 1)).astype(dtype)) for _ in range(2))

    def of(fused: bool) -> Callable[[], tuple[tg.Tensor, ...]]:
        def slopes(v: tg.Tensor, g: tg.Tensor, ct: tg.Tensor) -> tuple[tg.Tensor, ...]:
            _, back = tg.vjp(lambda v, g: tg.weight_norm(v, g, fused=fused), v, g)
            return tuple(back(ct))

        return lambda: tuple(tg.vjp(slopes, v, g, ct)[1](a, b))

    return {"fused": of(True), "composed": of(False)}


def seconds(function: Callable[[], object]) -> float:
    """The time that one call takes of this thread: what else runs on the machine does not count."""
    start = thread_time()
    function()
    return thread_time() - start


def ratios(shape: tuple[int, int], dtype: str, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of the fused form, and how often it goes into the composed one: both take turns, round by round."""
    forms = derivatives(shape, dtype)
    results = [[y.numpy() for y in function()] for function in forms.values()]
    for one, other in zip(*results, strict=True):
        scale = float(np.linalg.norm(other)) * 64 * np.finfo(dtype).eps
        if not np.linalg.norm(one - other) <= scale:
            raise AssertionError(f"the forms do not agree for {dtype} {shape}")
    pairs = [(seconds(forms["fused"]), seconds(forms["composed"])) for _ in range(rounds)]
    return [fused for fused, _ in pairs], [composed / fused for fused, composed in pairs]


def main() -> None:
    """Print microseconds of the fused form, and how many times as long the composed one takes."""
    print("shape       dtype     fused, µs  composed / fused (10 % to 90 %)")
    for shape in SHAPES:
        for dtype in DTYPES:
            fused, over = ratios(shape, dtype, ROUNDS)
            low, middle, high = np.quantile(over, [0.1, 0.5, 0.9])
            print(f"{shape!s:<10}  {dtype:<8}  {1e6 * np.median(fused):9.0f}  {middle:.2f} ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    tg.set_num_threads(1)
    main()
