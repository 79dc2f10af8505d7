"""TIES: trim, elect signs, merge what agrees.

Yadav et al., TIES-Merging: Resolving Interference When Merging Models, arXiv:2306.01708, section 4
and algorithm 1.

    trim    tau_t keeps its largest `keep` of all entries by magnitude; the others become 0
    elect   g = sign(sum_t tau_t), entry by entry
    merge   tau = mean of those tau_t whose sign is g, over these alone;  0 where there are none
    theta = theta_base + scale * tau

As in the paper: magnitudes are compared over the whole task vector, all tensors together. Entries
that tie with the smallest one kept are kept too.
"""

from __future__ import annotations

from graftwork.spec.merging import Ties
from graftwork_train.merging._vectors import Array, Vectors, elected
from graftwork_train.merging.base import Merged, merge


@merge.register
def ties(method: Ties, vectors: Vectors) -> Merged:
    """Add the scaled merged task vector to the base."""
    rule = elected(vectors, method.keep)

    def scaled(name: str, tau: Array) -> Array:
        return method.scale * rule(name, tau)

    return Merged(vectors.merged(scaled), report={"scale": method.scale, "kept": method.keep})
