"""Entropic optimal transport between two sets of points, and what its duals say of each point."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

Doubles = npt.NDArray[np.float64]


def squared_distances(one: npt.NDArray[np.floating], other: npt.NDArray[np.floating]) -> Doubles:
    """|x_i - y_j|^2: float64 (n, m)."""
    left, right = one.astype(np.float64), other.astype(np.float64)
    sums = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None]
    found: Doubles = np.maximum(sums - 2 * left @ right.T, 0)
    return found


def duals(
    cost: Doubles, regularisation: float, rounds: int = 2000, tolerance: float = 1e-6
) -> tuple[Doubles, Doubles]:
    """Dual potentials of entropic transport between uniform weights, by Sinkhorn's iteration.

        f_i = -e log sum_j b_j exp((g_j - c_ij) / e),   g_j likewise;   e = regularisation

    Args:
        cost: (n, m).
        regularisation: Above 0, in the cost's unit.
        rounds: Iterations at most.
        tolerance: The iteration ends when no potential moves by more, in parts of the largest cost.

    Returns:
        f (n,) and g (m,), each up to one common constant; f has mean 0.
    """
    matrix = torch.from_numpy(cost)
    n, m = matrix.shape
    f, g = torch.zeros(n, dtype=torch.float64), torch.zeros(m, dtype=torch.float64)
    enough = tolerance * max(float(matrix.max()), 1e-300)
    for _ in range(rounds):
        new = _soft_minimum(matrix, g, regularisation)
        moved = float((new - f).abs().max())
        f = new
        g = _soft_minimum(matrix.T, f, regularisation)
        if moved <= enough:
            break
    mean = f.mean()
    return (f - mean).numpy(), (g + mean).numpy()


def extended(cost: Doubles, g: Doubles, regularisation: float) -> Doubles:
    """The potential f of points that were not among the solved ones, from g: float64 (n,)."""
    return _soft_minimum(torch.from_numpy(cost), torch.from_numpy(g), regularisation).numpy()


def calibrated(f: Doubles) -> Doubles:
    """Gradient of the transport's cost with the weight of each point, taken from the others.

    GOT-D (arXiv:2405.02774) after LAVA: weights sum to 1, so that more for one is less for the
    others: f_i - mean of f_j over j != i. The gradients sum to 0, and a constant added to f does
    not show.
    """
    count = len(f)
    if count < 2:
        return np.zeros(count)
    # Of the centred potentials, so that no digits are lost to a large constant.
    centred = f - f.mean()
    found: Doubles = centred * (1 + 1 / (count - 1))
    return found


def _soft_minimum(
    cost: torch.Tensor, potential: torch.Tensor, regularisation: float
) -> torch.Tensor:
    """(n,), from a cost (n, m) and a potential (m,) of uniform weights."""
    weights = -float(np.log(cost.shape[1]))
    inner = (potential[None] - cost) / regularisation + weights
    return -regularisation * torch.logsumexp(inner, dim=1)
