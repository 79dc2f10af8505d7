"""G_random: new parameters drawn as for training from scratch, beside the old ones.

Du et al., Stacking Your Transformers: A Closer Look at Model Growth for Efficient LLM
Pre-Training, arXiv:2405.15319, section 3 and its appendix on operators.

    depth    blocks 0 .. l-1 kept, new ones on top        width    W' = [[W, A], [B, C]]

A, B, C and the new blocks are normal with the initialiser's standard deviation, norms 1. The
function is not preserved. In the paper this is the operator that loses against training from
scratch, in both directions: the control that shows what copies are worth.

As in the paper; where the new blocks stand is our choice.
"""

from __future__ import annotations

from graftwork.spec.growth import GRandom
from graftwork_train.enlarge.pad import pad
from graftwork_train.enlarge.width import resolve
from graftwork_train.growth.base import Grown, grow
from graftwork_train.state import State


@grow.register
def g_random(method: GRandom, small: State, seed: int) -> Grown:
    """Add fresh parameters, drawn from `seed`.

    Raises:
        RunError: the model cannot be grown to these sizes.
    """
    now, to = resolve(method, small)
    new = to.layers - now.layers
    return Grown(
        state=pad(small, now, to, seed, zero=False),
        origin=(*(f"block {i}" for i in range(now.layers)), *["new, drawn"] * new),
        report={"layers": to.layers, "width": to.width},
    )
