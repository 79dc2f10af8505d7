"""The mean of models' weights: a uniform soup.

Wortsman et al., Model soups: averaging weights of multiple fine-tuned models improves accuracy
without increasing inference time, arXiv:2203.05482, section 2, recipe 1.

    theta = 1/T * sum_t theta_t

Differs from the paper: models of one shape that were trained apart, not only fine-tunings of one
model with different hyper-parameters; the greedy recipe, which leaves models out by held-out
accuracy, is several `merge` stages and a `compare`.
"""

from __future__ import annotations

from graftwork.spec.merging import Average
from graftwork_train.merging._vectors import Vectors, averaged
from graftwork_train.merging.base import Merged, merge


@merge.register
def average(method: Average, vectors: Vectors) -> Merged:
    """Average every tensor."""
    return Merged(vectors.merged(averaged))
