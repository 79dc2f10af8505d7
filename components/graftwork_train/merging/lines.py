"""LiNeS: scale what was learned linearly with depth.

Wang et al., LiNeS: Post-training Layer Scaling Prevents Forgetting and Enhances Model Merging,
arXiv:2410.17146, section 4.

    theta_l = theta_base_l + lambda_l * tau_l,   lambda_l = alpha + beta * l / (L - 1)

for block l = 0 .. L - 1; what lies in no block (embedding, final norm, head) is scaled by alpha. Of
one model tau is what it has learned, and beta = 1 - alpha leaves the last block as it is. Of T
models tau is their task vectors' sum, mean or TIES merge, and

    alpha = (|sum_t tau_t|_1 / |tau|_1) / T

Differs from the paper: it chooses alpha (one model: 0 to 1 in steps of 0.1, by twice the target's
plus the control's accuracy) or beta (several: 0.05 to 1) on validation data; here they are given,
and several `merge` stages with an `evaluate` each are the search. A block's number is read at its
place in the name; the reference looks for it anywhere, and takes an expert's number for a block's.
"""

from __future__ import annotations

import re

import numpy as np

from graftwork.errors import RunError
from graftwork.spec.merging import Lines
from graftwork_train.merging._vectors import Array, Rule, Vectors, added, averaged, elected
from graftwork_train.merging.base import Merged, merge

_BLOCK = re.compile(r"model\.layers\.(\d+)\.")


@merge.register
def lines(method: Lines, vectors: Vectors) -> Merged:
    """Add the merged task vector, scaled by depth, to the base.

    Raises:
        RunError: the models are the base, so that there is nothing to take a norm of.
    """
    count = len(vectors.models)
    rule = _rule(method, vectors)
    alpha = _alpha(vectors, rule) if method.alpha is None else method.alpha
    beta = 1.0 - alpha if method.beta is None else method.beta
    layers = int(vectors.like.config["num_hidden_layers"])

    def scaled(name: str, tau: Array) -> Array:
        return scale(name, layers, alpha, beta) * rule(name, tau)

    rows = [[f"block {layer}", _depth(layer, layers, alpha, beta)] for layer in range(layers)]
    rows.append(["embedding, final norm, head", alpha])
    table = {"title": "Scale of what was learned", "columns": ["", "scale"], "rows": rows}
    report = {"alpha": alpha, "beta": beta, "first_scale": alpha}
    last = _depth(layers - 1, layers, alpha, beta)
    note = (
        f"What {'the model has' if count == 1 else f'{count} models have'} learned is scaled by "
        f"{alpha:.4g} in the first block and by {last:.4g} in the last."
    )
    return Merged(vectors.merged(scaled), report | {"last_scale": last}, (table,), (note,))


def scale(name: str, layers: int, alpha: float, beta: float) -> float:
    """What the task vector of a tensor is multiplied by.

    Args:
        name: The tensor's, on disk.
        layers: Blocks of the model.
        alpha: Of the first block.
        beta: Added up to the last.
    """
    block = _BLOCK.match(name)
    return _depth(int(block[1]), layers, alpha, beta) if block else alpha


def _depth(layer: int, layers: int, alpha: float, beta: float) -> float:
    # A model of one block has a first block only.
    return alpha + beta * layer / max(1, layers - 1)


def _rule(method: Lines, vectors: Vectors) -> Rule:
    if method.on == "ties":
        return elected(vectors, method.keep)
    return averaged if method.on == "average" else added


def _alpha(vectors: Vectors, rule: Rule) -> float:
    """By the norms of the plain sum and of the merged task vector."""
    norms = np.zeros(2)
    for name in vectors.like.tensors:
        for _, tau in vectors.slices(name):
            norms += [np.abs(added(name, tau)).sum(), np.abs(rule(name, tau)).sum()]
    if not norms[1] > 0:
        raise RunError(
            "the models to merge have learned nothing since the base, or all of it cancels",
            "Name models in 'from' that were trained on after 'base', or give alpha.",
        )
    return float(norms[0] / norms[1] / len(vectors.models))
