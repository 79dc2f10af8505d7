"""Skywork-MoE: copies whose gate is normalised, and a balance loss that follows what is dropped.

Wei et al., Skywork-MoE: A Deep Dive into Training Techniques for Mixture-of-Experts Language
Models, arXiv:2406.06563, section 3.

    z = R x,  g = softmax(lambda * (z - mean(z)) / std(z))            over the experts
    alpha <- beta * alpha + (1 - beta) * min(xi * d, alpha_max)       for each layer and step

d is the share of assignments that a layer drops, alpha the weight of its balance loss. Both act in
training; at first the experts are copies, so that the function is kept where weights sum to 1.
alpha begins at `balance` and is kept with the weights. The model has graftwork's own format.

Differs from the paper: the gate has no bias; the chosen gates are renormalised by default; d is
taken from the loads of a whole step, and without a capacity is what a capacity of 1 would drop;
the loss is the mean over layers, not their sum.
"""

from __future__ import annotations

from graftwork.spec.upcycling import SkyworkUpcycling
from graftwork_train.state import State
from graftwork_train.upcycling._blocks import begin, routers, to_experts
from graftwork_train.upcycling.base import Upcycled, upcycle

_ADVICE = (
    "The paper's rule: upcycle where the mixture's budget is far below what the dense model took; "
    "from twice that on, training the mixture from scratch is better."
)


@upcycle.register
def skywork_upcycling(method: SkyworkUpcycling, dense: State, seed: int) -> Upcycled:
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
    normed = "" if method.logit_norm is None else f", scores normed to {method.logit_norm:g}"
    return Upcycled(
        state=state,
        origin=(
            (f"experts 0 to {method.experts - 1}", "copies of the block"),
            ("router", f"{method.router}, deviation {method.router_std:g}{normed}"),
        ),
        report={"experts": method.experts, "top_k": method.top_k},
        notes=(_ADVICE,),
    )
