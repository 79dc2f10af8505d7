"""G_zero: new parameters that change nothing at first.

Du et al., Stacking Your Transformers: A Closer Look at Model Growth for Efficient LLM
Pre-Training, arXiv:2405.15319, section 3 and its appendix on operators.

    depth    new blocks with W_o = 0 and W_down = 0: x + 0 = x
    width    E' = [E, 0]    W' = [[W, A], [0, C]]    mu' = sqrt(d / D)·mu      (out, in)

A, C and all else that is new are drawn as for training from scratch. The root of a mean over D
dimensions, of which D - d are zero, is sqrt(d / D) of what it was: the norm's weight makes up for
it, and so must its epsilon, which is scaled by d / D in the config. The function stays exactly.

Differs from the paper: the epsilon, which it leaves, and with it an error for small activations.
New blocks stand on top. Where only heads or inner units are added, what they read is drawn and
what they write is zero; and so for heads that share old keys and values (grouped queries, which
the paper's models do not have), because a query of zero sees the mean of all values. LayerNorm
subtracts a mean that zeros change, so it is refused in width.
"""

from __future__ import annotations

from graftwork.errors import RunError
from graftwork.spec.growth import GZero
from graftwork_train.enlarge.pad import pad
from graftwork_train.enlarge.roles import is_norm
from graftwork_train.enlarge.width import resolve
from graftwork_train.growth.base import Grown, grow
from graftwork_train.layout import BERT
from graftwork_train.state import State


@grow.register
def g_zero(method: GZero, small: State, seed: int) -> Grown:
    """Pad with zero paths; `seed` draws the parameters that have no effect yet.

    Raises:
        RunError: the model cannot be grown to these sizes, or has LayerNorm and is to be wider.
    """
    now, to = resolve(method, small)
    if to.layers > now.layers and small.config.get("model_type") == BERT:
        raise RunError(
            "BERT's blocks end with a norm, so that a new one is never the identity",
            "Use g_stack, which does not promise it.",
        )
    centred = [name for name in small.tensors if is_norm(name) and name.endswith(".bias")]
    if to.width > now.width and centred:
        raise RunError(
            f"{centred[0]} {small.tensors[centred[0]].shape} is LayerNorm's, whose mean changes "
            f"with dimensions of zeros",
            "Use bert2bert_fpi with a whole multiple of the width.",
        )
    new = to.layers - now.layers
    return Grown(
        state=pad(small, now, to, seed, zero=True),
        origin=(*(f"block {i}" for i in range(now.layers)), *["new, the identity at first"] * new),
        report={"layers": to.layers, "width": to.width},
    )
