"""Layers that hold a weight and do not draw it: the decoder draws all of them, from one seed.

torch's own layers draw when they are built, from a global generator; building them without storage
instead loads torch's symbolic shapes, which costs a process several seconds.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Module):
    """`x @ weight.T`, with weight (out, in)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        return F.linear(x, self.weight)


class Embedding(nn.Module):
    """Rows of `weight` (vocab, width) by their numbers."""

    def __init__(self, vocab: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab, width))

    def forward(self, ids: Tensor) -> Tensor:
        """(...) to (..., width)."""
        return F.embedding(ids, self.weight)
