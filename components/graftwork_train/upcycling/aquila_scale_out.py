"""AquilaMoE's Scale-Out: the grown dense model becomes a mixture of 8 exact copies.

Zhang et al., AquilaMoE: Efficient Training for MoE Models with Scale-Up and Scale-Out Strategies,
arXiv:2408.06567, section 3.

    FFN_e = FFN,  e = 0 .. 7;   R[e, d] ~ N(0, 0.02);   two experts a token, weights that sum to 1
    loss + 0.001 * balance + 0.01 * z

It follows Scale-Up (`aki_pro`) and a continued training; each stage's checkpoint is the next one's
input. Everything else is copied, and the optimizer begins afresh.

Differs from the paper: it gives the routers a "variance" of 0.02, which we take as the deviation,
as its code's ancestors do.
"""

from __future__ import annotations

from graftwork.spec.upcycling import AquilaScaleOut
from graftwork_train.state import State
from graftwork_train.upcycling._blocks import begin, routers, to_experts
from graftwork_train.upcycling.base import Upcycled, upcycle


@upcycle.register
def aquila_scale_out(method: AquilaScaleOut, dense: State, seed: int) -> Upcycled:
    """Copy the feed-forward blocks to all experts and draw routers from `seed`.

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
        report={"experts": method.experts, "top_k": method.top_k},
    )
