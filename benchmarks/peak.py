"""The most fused multiply-adds a core can do: chains that do not wait for each other, in registers alone."""

from time import perf_counter
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from tinygrad_wn.kernels.vector import VECTOR_BYTES

CHAINS = 12
"""Two units, and four cycles until a result can be used again: eight chains keep both busy, more do no harm."""
LANES = VECTOR_BYTES // 4
TURNS = 20_000


def _chains(_typing: Any, x: Any, turns: Any) -> Any:
    """Each of `CHAINS` float32 vectors c becomes c·x + x, `turns` times; gives one number of their sum."""

    def build(_context: Any, at: Any, _signature: Any, arguments: Any) -> Any:
        x, turns = arguments
        index, word = ir.IntType(32), ir.IntType(64)
        vector = ir.VectorType(ir.FloatType(), LANES)
        nothing = ir.Constant(vector, ir.Undefined)
        first = at.insert_element(nothing, x, ir.Constant(index, 0))
        every = at.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(index, LANES), [0] * LANES))
        kind = ir.FunctionType(vector, [vector] * 3)
        fma = cgutils.get_or_insert_function(at.module, kind, f"llvm.fma.v{LANES}f32")

        starts = [ir.Constant(vector, [float(i)] * LANES) for i in range(CHAINS)]
        before, turn, after = at.block, at.append_basic_block("turn"), at.append_basic_block("after")
        at.branch(turn)
        at.position_at_end(turn)
        i, held = at.phi(word), [at.phi(vector) for _ in starts]
        new = [at.call(fma, [c, every, every]) for c in held]
        following = at.add(i, ir.Constant(word, 1))
        for phi, start, later in zip([i, *held], [ir.Constant(word, 0), *starts], [following, *new], strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(later, turn)
        at.cbranch(at.icmp_signed("<", following, turns), turn, after)
        at.position_at_end(after)
        total = new[0]
        for c in new[1:]:
            total = at.fadd(total, c)
        return at.extract_element(total, ir.Constant(index, 0))

    return types.float32(types.float32, types.int64), build


_intrinsic = intrinsic(_chains)


def _run(x: Any, turns: Any) -> Any:
    return _intrinsic(x, turns)


run = njit(types.float32(types.float32, types.int64))(_run)


def flops() -> float:
    """Floating point operations a second of one core, float32; takes about a millisecond."""
    start = perf_counter()
    run(0.5, TURNS)
    return 2 * LANES * CHAINS * TURNS / (perf_counter() - start)
