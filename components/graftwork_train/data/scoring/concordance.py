"""How well the losses of several models on a document agree with the models' known order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def concordance(losses: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Share of pairs of models of which the better one has the lower loss.

    PreSelect (arXiv:2503.00808, section 3), equation for the predictive strength:

        S = #{(i, j): i worse than j, loss_i > loss_j} / #{(i, j): i worse than j}

    The comparison is strict: a tie counts as wrong. Only the order of a document's own losses
    matters, so it is the same for losses per document, character or byte.

    Args:
        losses: (documents, models), models from the worst to the best.

    Returns:
        (documents,), from 0 to 1; NaN where a loss is missing (NaN).
    """
    models = losses.shape[1]
    worse, better = np.triu_indices(models, k=1)
    right = (losses[:, worse] > losses[:, better]).mean(axis=1)
    return np.where(np.isnan(losses).any(axis=1), np.nan, right)
