"""Sparse upcycling: every expert a copy of the dense feed-forward block, and a fresh router.

Komatsuzaki et al., Sparse Upcycling: Training Mixture-of-Experts from Dense Checkpoints,
arXiv:2212.05055, section 3.

    y(x) = sum_{e in top_k} p_e(x) / sum_{j in top_k} p_j(x) * FFN_e(x),   p = softmax(R x)
    FFN_e = FFN for all e,   R[e, d] ~ N(0, router_std)                    R: experts x width

In every other block. The weights of the chosen experts sum to 1 and all experts are alike, so
y(x) = FFN(x) whatever the router says: the model computes at first what the dense one did, unless
a capacity makes experts drop tokens. Everything else is copied, byte for byte.

Differs from the paper: tokens choose experts, as in its decoders; its encoders let experts choose
tokens, which a decoder cannot, since a token would see later ones. The weights are renormalised
for language, too (the paper: for vision). The optimizer begins afresh, as in the paper for
language.
"""

from __future__ import annotations

from graftwork.spec.upcycling import SparseUpcycling
from graftwork_train.state import State
from graftwork_train.upcycling._blocks import begin, routers, to_experts
from graftwork_train.upcycling.base import Upcycled, upcycle


@upcycle.register
def sparse_upcycling(method: SparseUpcycling, dense: State, seed: int) -> Upcycled:
    """Copy the feed-forward blocks to `method.experts` experts and draw routers from `seed`.

    Raises:
        RunError: the model is a mixture already, or its blocks cannot be experts.
    """
    surgery = begin(method, dense)
    state = to_experts(
        surgery,
        lambda layer, _, matrix: surgery.dense(layer, matrix),
        routers(method, surgery, seed),
    )
    return Upcycled(
        state=state,
        origin=(
            (f"experts 0 to {method.experts - 1}", "copies of the block"),
            ("router", f"{method.router}, deviation {method.router_std:g}"),
        ),
        report={
            "experts": method.experts,
            "top_k": method.top_k,
            "layers": surgery.before.layers,
            "layers_with_experts": len(surgery.layers),
        },
        notes=_notes(method),
    )


def _notes(method: SparseUpcycling) -> tuple[str, ...]:
    if method.top_k > 1 or method.weights == "plain":
        return ()
    return (
        "With top_k 1 and renormalised weights the chosen expert's weight is always 1, so the "
        "router learns from the balancing loss only; top_k 2 trains it on the text as well.",
    )
