"""What an input of an op may be: `Any` to a type checker; to the tests, where gradients exist."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Shape: TypeAlias = tuple[int, ...]
Axis: TypeAlias = int | tuple[int, ...] | None


@dataclass(frozen=True)
class Domain:
    """The values at which an op and its derivatives are defined.

    `kind` is "real", "integer", "boolean" or "bits" (integer or boolean). `low` and `high` are open bounds. Values
    keep `away` from zero. `distinct` values are all different, so that no maximum is tied.
    """

    kind: str = "real"
    low: float = -math.inf
    high: float = math.inf
    away: bool = False
    distinct: bool = False


Real: TypeAlias = Annotated[Any, Domain()]
Positive: TypeAlias = Annotated[Any, Domain(low=0.0)]
AboveMinusOne: TypeAlias = Annotated[Any, Domain(low=-1.0)]
NonZero: TypeAlias = Annotated[Any, Domain(away=True)]
Distinct: TypeAlias = Annotated[Any, Domain(distinct=True)]
Integer: TypeAlias = Annotated[Any, Domain("integer")]
Boolean: TypeAlias = Annotated[Any, Domain("boolean")]
Bits: TypeAlias = Annotated[Any, Domain("bits")]


def signed(x: Any) -> Any:
    """x as numbers of which one can be subtracted from another: not booleans, nor integers without a sign."""
    return x.astype(np.result_type(x, np.float16)) if isinstance(x, np.ndarray) and x.dtype.kind in ("b", "u") else x


def float_of(*arrays: Any) -> Any:
    """The dtype of floats that are computed from arrays."""
    dtype = np.result_type(*arrays)
    return dtype if dtype.kind == "f" else np.float64
