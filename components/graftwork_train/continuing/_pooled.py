"""A model's features of whole sequences: the mean of the last block's outputs over their tokens.

Shapes: B sequences, T tokens, D width, N sequences of a domain, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graftwork_train.continuing._classifier import Head
from graftwork_train.data.index import Split
from graftwork_train.data.shards import TokenShards
from graftwork_train.loop.loader import collate
from graftwork_train.nn import Decoder

_TOKENS = 8192


def pooled(
    model: Decoder, shards: TokenShards, split: Split, places: Sequence[tuple[str, int]]
) -> Tensor:
    """Features of rows, (B, D). Padding is left out; documents see one another."""
    rows = [shards.read(split, *place) for place in places]
    tokens_BT = collate(rows, document_mask=False).tokens_BT
    real = [torch.from_numpy(row.documents[:-1] >= 0) for row in rows]
    device = next(model.parameters()).device
    real_BT = torch.stack(real).to(device)
    hidden_BTD = model(tokens_BT.to(device)).hidden_BTD
    counts_B = real_BT.sum(1).clamp(min=1)
    means_BD: Tensor = (hidden_BTD * real_BT[..., None]).sum(1) / counts_B[:, None]
    return means_BD


@torch.no_grad()
def features_of(model: Decoder, shards: TokenShards, split: Split, domain: str) -> Tensor:
    """Features of all rows of a domain, on the CPU: (N, D)."""
    size = max(1, _TOKENS // shards.context)
    every = [(domain, row) for row in range(shards.sequences(split, domain))]
    parts = [
        pooled(model, shards, split, every[first : first + size]).float().cpu()
        for first in range(0, len(every), size)
    ]
    return torch.cat(parts)


def correct(heads: Sequence[Head], features_ND: Tensor, number: int) -> int:
    """How many features are taken for the class of this number, among those of all heads."""
    scores_NC = torch.cat([head.scores(features_ND) for head in heads], dim=1)
    return int((scores_NC.argmax(1) == number).sum())
