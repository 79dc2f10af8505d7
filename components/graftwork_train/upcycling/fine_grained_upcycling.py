"""Fine-grained and shared experts, as Qwen1.5-MoE has them: shuffled copies, cut, half redrawn.

Qwen Team, Qwen1.5-MoE (blog, 2024) and Qwen2 Technical Report, arXiv:2407.10671, section 2; the
recipe as He et al. tell it, arXiv:2410.07524.

    copy c of the block: its inner units in an order pi_c of its own
    expert c·G + s: units s·F/G .. (s+1)·F/G of copy c, a share of its weights drawn anew

G is the granularity. All tokens pass the shared experts, which are the last ones; the others are
chosen. 60 + 4 experts with 4 chosen are Qwen1.5-MoE's.

Differs from the paper: it tells the recipe in a sentence; that single weights are redrawn, from
N(0, initializer_range), is our reading, and so are renormalised weights. Qwen's shared experts have
a gate of their own, ours none: where the result is saved as a Qwen2-MoE, its gate is constant.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from graftwork.spec.upcycling import FineGrainedUpcycling
from graftwork_train.state import State
from graftwork_train.tensorfile import Made, Tensor
from graftwork_train.upcycling._blocks import (
    Matrix,
    Values,
    begin,
    check_floats,
    generator,
    routers,
    to_experts,
)
from graftwork_train.upcycling.base import Upcycled, upcycle


@upcycle.register
def fine_grained_upcycling(method: FineGrainedUpcycling, dense: State, seed: int) -> Upcycled:
    """Shuffle, cut and redraw, all from `seed`.

    Raises:
        RunError: the model is a mixture already, its blocks cannot be cut so, or its weights are of
            a type that cannot be calculated with.
    """
    surgery = begin(method, dense)
    check_floats(surgery)
    spread = float(dense.config.get("initializer_range", 0.02))
    inner = surgery.after.expert_hidden

    def expert(layer: int, number: int, matrix: Matrix) -> Tensor:
        tensor = surgery.dense(layer, matrix)
        shape = (tensor.shape[0], inner) if matrix == "down" else (inner, tensor.shape[1])
        make = partial(_made, method, seed, (layer, number), matrix, tensor, spread)
        return Made(tensor.dtype, shape, make)

    def shared(layer: int, number: int, matrix: Matrix) -> Tensor:
        return expert(layer, method.experts + number, matrix)

    state = to_experts(surgery, expert, routers(method, surgery, seed), shared)
    origin = f"shuffled copies cut into {method.granularity}, {method.redrawn:.0%} redrawn"
    return Upcycled(
        state=state,
        origin=(
            (f"experts 0 to {method.experts - 1}", origin),
            (f"{method.shared} shared experts", origin if method.shared else "none"),
            ("router", f"{method.router}, deviation {method.router_std:g}"),
        ),
        report={
            "experts": method.experts, "shared": method.shared, "top_k": method.top_k,
            "granularity": method.granularity, "redrawn": method.redrawn,
        },
    )  # fmt: skip


def _made(
    method: FineGrainedUpcycling,
    seed: int,
    place: tuple[int, int],
    matrix: Matrix,
    tensor: Tensor,
    spread: float,
) -> Values:
    layer, number = place
    axis = 1 if matrix == "down" else 0
    inner = tensor.shape[axis]
    size = inner // method.granularity
    copy, shard = divmod(number, method.granularity)
    order = generator(seed, "order", layer, copy).permutation(inner)
    values = tensor.values().take(order[shard * size : (shard + 1) * size], axis=axis)
    rng = generator(seed, "redrawn", layer, number, matrix)
    chosen = rng.random(values.shape) < method.redrawn
    fresh = rng.standard_normal(values.shape, dtype=np.float32) * np.float32(spread)
    return np.where(chosen, fresh, values).astype(values.dtype)
