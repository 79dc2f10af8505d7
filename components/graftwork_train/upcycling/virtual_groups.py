"""Virtual groups and weight scaling: fine-grained experts that begin as whole copies of the block.

He et al., Upcycling Large Language Models into Mixture of Experts, arXiv:2410.07524, section 3.

    expert e·G + s: shard s of copy e, F/G inner units;   router row e·G + s = r_e, r_e ~ N(0, std)

The G shards of one copy have equal scores, so that the T best are whole copies if G divides T. What
the sum of the chosen falls short by is C = E·G²/T for a softmax over all experts, where no router
has preferences, and C = G where weights sum to 1. `scaling` makes up for it:

    paper    C^(1/3) on gate, up and down, or with squared ReLU on up and down; C^(1/2) with GELU
    exact    C^(1/2) on up and down; with squared ReLU C^(1/3) on up and down; with GELU C on down

With SwiGLU a factor inside of SiLU does not pass through, so that the paper's keeps the function
only roughly; ours keeps it for any router where weights sum to 1 and G divides T.

Differs from the paper: `exact` is our own; it sets the paper's softmax before the choice of experts
as `weights: plain`.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from graftwork.spec.upcycling import VirtualGroups
from graftwork_train.state import State
from graftwork_train.tensorfile import Made, Tensor
from graftwork_train.upcycling._blocks import (
    Fraction,
    Matrix,
    Surgery,
    Values,
    begin,
    check_floats,
    cut,
    draw_router,
    root,
    scaled,
    to_experts,
)
from graftwork_train.upcycling.base import Upcycled, upcycle


@upcycle.register
def virtual_groups(method: VirtualGroups, dense: State, seed: int) -> Upcycled:
    """Cut the blocks, scale the shards, and draw routers from `seed`.

    Raises:
        RunError: the model is a mixture already, its blocks cannot be cut so, or its weights are of
            a type that cannot be calculated with.
    """
    surgery = begin(method, dense)
    check_floats(surgery)
    factors = weight_factors(method, surgery.before.mlp)
    inner = surgery.after.expert_hidden

    def expert(layer: int, number: int, matrix: Matrix) -> Tensor:
        part = Fraction(number % method.granularity * inner, inner)
        return scaled(cut(surgery.dense(layer, matrix), matrix, part), factors[matrix])

    state = to_experts(surgery, expert, partial(_router, method, surgery, seed))
    told = ", ".join(f"{name} times {factor:.4g}" for name, factor in factors.items())
    count = method.copies * method.granularity
    return Upcycled(
        state=state,
        origin=(
            (f"experts 0 to {count - 1}", f"shards of copies; {told}"),
            ("router", f"{method.router}, a row for each {'copy' if method.groups else 'expert'}"),
        ),
        report={
            "experts": count, "top_k": method.top_k, "granularity": method.granularity,
            "output_scale": method.output_scale,
        },
        notes=_notes(method),
    )  # fmt: skip


def weight_factors(method: VirtualGroups, mlp: str) -> dict[Matrix, float]:
    """What each matrix is multiplied with."""
    scale = method.output_scale
    if method.scaling == "none":
        return {"gate": 1.0, "up": 1.0, "down": 1.0}
    if mlp == "relu2":
        # Squared by the block, once more by what follows: three in all.
        return {"gate": 1.0, "up": root(scale, 3), "down": root(scale, 3)}
    gated = mlp in ("swiglu", "geglu")
    if method.scaling == "paper":
        factor = root(scale, 3 if gated else 2)
        return {"gate": factor, "up": factor, "down": factor}
    if gated:
        return {"gate": 1.0, "up": root(scale, 2), "down": root(scale, 2)}
    return {"gate": 1.0, "up": 1.0, "down": scale}


def _router(method: VirtualGroups, surgery: Surgery, seed: int, layer: int) -> Tensor:
    width = surgery.after.width
    shards = method.granularity if method.groups else 1
    rows = method.copies * method.granularity // shards

    def make() -> Values:
        return np.repeat(draw_router(method, seed, layer, (rows, width)), shards, axis=0)

    return Made(surgery.dense(layer, "up").dtype, (rows * shards, width), make)


def _notes(method: VirtualGroups) -> tuple[str, ...]:
    if not method.top_k % method.granularity:
        return ()
    return (
        f"{method.granularity} shards a copy do not divide top_k {method.top_k}, so that tokens "
        f"meet parts of copies and the function changes.",
    )
