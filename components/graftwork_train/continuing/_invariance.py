"""How far apart two domains' features lie: what invariance makes small.

    mmd     mean k(x, x') + mean k(y, y') - 2 · mean k(x, y), k a sum of Gaussians whose widths are
            1/4, 1/2, 1, 2 and 4 times the mean squared distance of all pairs
    coral   |cov(x) - cov(y)|² / (4·D²)
    dann    cross-entropy of a linear classifier of domains, its gradient turned around before the
            features: it learns to tell domains, and they to be alike

Gretton et al. 2012 (JMLR 13); Sun and Saenko, arXiv:1607.01719; Ganin et al., arXiv:1505.07818.

Shapes: B, C documents of the one domain and the other, D features.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


def mmd(x_BD: Tensor, y_CD: Tensor) -> Tensor:
    """Squared maximum mean discrepancy: 0 for the same features, and never below."""
    both_ND = torch.cat([x_BD, y_CD])
    # Sums of squares in place of torch's distances, whose gradient at 0 is not a number.
    distances_NN = (both_ND[:, None] - both_ND[None]).square().sum(-1)
    scale = distances_NN.detach().mean().clamp(min=1e-12)
    kernel_NN = sum(
        ((-distances_NN / (width * scale)).exp() for width in _WIDTHS),
        start=torch.zeros_like(distances_NN),
    )
    first = len(x_BD)
    inside = kernel_NN[:first, :first].mean() + kernel_NN[first:, first:].mean()
    return inside - 2 * kernel_NN[:first, first:].mean()


def coral(x_BD: Tensor, y_CD: Tensor) -> Tensor:
    """Squared distance of the covariances: 0 where features only lie elsewhere."""
    difference_DD = torch.cov(x_BD.T) - torch.cov(y_CD.T)
    return difference_DD.square().sum() / (4 * x_BD.shape[1] ** 2)


class Reversal(torch.autograd.Function):
    """The features as they are; their gradient with the other sign."""

    @staticmethod
    def forward(ctx: Any, features_ND: Tensor) -> Tensor:  # noqa: ANN401 - torch's own
        """(N, D) to (N, D)."""
        return features_ND.view_as(features_ND)

    @staticmethod
    def backward(ctx: Any, gradient_ND: Tensor) -> Tensor:  # noqa: ANN401 - torch's own
        """(N, D) to (N, D)."""
        return -gradient_ND


def dann(x_BD: Tensor, y_CD: Tensor, weight_D: Tensor, bias: Tensor) -> Tensor:
    """Mean cross-entropy of the classifier of domains; ln 2 where it cannot tell them."""
    features_ND: Tensor = Reversal.apply(torch.cat([x_BD, y_CD]))
    scores_N = features_ND @ weight_D + bias
    domain_N = torch.cat([torch.zeros(len(x_BD)), torch.ones(len(y_CD))]).to(scores_N)
    return F.binary_cross_entropy_with_logits(scores_N, domain_N)
