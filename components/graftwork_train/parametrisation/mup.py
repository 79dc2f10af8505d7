"""Maximal-update parametrisation: rates that fit a narrow model fit a wide one.

Yang et al., "Tensor Programs V: Tuning Large Neural Networks via Zero-Shot Hyperparameter
Transfer", arXiv:2203.03466, section 4 and appendix B; the multipliers are those of the power
schedule's paper, Shen et al., arXiv:2408.13359. With m = width / base_width:

                          initial std       rate    multiplier
    embedding             std               1       embedding
    matrices of blocks    std / sqrt(m)     1 / m   1; queries d^-1/2, with heads of size d;
                                                    those back into the residual stream: residual
    head                  std               1       1 / m
    norms and biases      as they are       1       1

Attention divides by d in all: by its square root, and by the one in the queries. A router counts
as a matrix of a block.

Differs from the paper: multipliers are held in the weights (`base` says why that is the same under
Adam), so that the gradient's norm, by which it is clipped, is that of those weights. The papers'
std was not seen.
"""

from __future__ import annotations

import math

from graftwork.spec.model import Architecture
from graftwork.spec.parametrisation import MaximalUpdate
from graftwork_train.parametrisation.base import Scale, scale

_BACK = ("o_proj.weight", "down_proj.weight", "mlp.down")


@scale.register
def mup(method: MaximalUpdate, architecture: Architecture, name: str, ndim: int) -> Scale:
    """What the parametrisation says of a parameter."""
    times = architecture.width / method.base_width
    if ndim < 2:
        return Scale()
    if "embed" in name:
        return Scale(method.std, 1.0, method.embedding)
    if name.startswith("lm_head"):
        return Scale(method.std, 1.0, 1 / times)
    multiplier = 1.0
    if name.endswith(_BACK):
        multiplier = method.residual
    elif name.endswith("q_proj.weight"):
        multiplier = architecture.head_size**-0.5
    return Scale(method.std / math.sqrt(times), 1 / times, multiplier)
