"""The mean of the members' output distributions.

Gross et al., "Tiny language models", arXiv:2507.14871: several shallow models, each pre-trained and
fine-tuned for itself, answer together about as well as a deep one.

    probs    p(c) = mean over members of softmax(scores of the member)(c)
    logits   p    = softmax(mean over members of their scores)

A committee of one and the same model answers as that model, both ways.

Differs from the paper: it does not say which of the two it averages, and its code has no committee,
so that the word does.

Shapes: M members, N sequences, C classes.
"""

from __future__ import annotations

import math

from torch import Tensor

from graftwork.spec.committee import SoftCommittee
from graftwork_train.committees.base import combine


@combine.register
def soft_committee(method: SoftCommittee, scores_MNC: Tensor) -> Tensor:
    """In fp64, so that members of large scores lose nothing."""
    wide_MNC = scores_MNC.double()
    if method.combine == "logits":
        return wide_MNC.mean(0).log_softmax(-1)
    return wide_MNC.log_softmax(-1).logsumexp(0) - math.log(len(wide_MNC))
