"""Grouped-query attention with rotary positions that never looks across documents.

Shapes: B sequences, T tokens of each, D width, H query heads, K key and value heads, C size of
a head.

Rotary positions turn the pair (c, c + C/2) of a head, as Hugging Face's Llama does, so that
weights are interchangeable. Positions run on from document to document inside a sequence: the
scores depend on their differences only, and no two documents see each other.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftwork.spec.model import Architecture
from graftwork_train.nn.layers import Linear


def rotary_tables(positions: int, head_size: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary angles, fp32, each (positions, head_size / 2)."""
    frequencies_C = 1.0 / theta ** (torch.arange(0, head_size, 2).float() / head_size)
    angles_TC = torch.outer(torch.arange(positions).float(), frequencies_C)
    return angles_TC.cos(), angles_TC.sin()


def rotate(x_BHTC: Tensor, cos_TC: Tensor, sin_TC: Tensor) -> Tensor:
    """Turn queries or keys by their positions' angles."""
    first, second = x_BHTC.chunk(2, dim=-1)
    turned = (first * cos_TC - second * sin_TC, second * cos_TC + first * sin_TC)
    return torch.cat(turned, dim=-1)


def document_mask(documents_BT: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to the scores: 0 within a document and not ahead, -inf elsewhere.

    `documents_BT` numbers the document of every token, -1 on padding. Every token sees at least
    itself, so that no row is empty. Returns (B, 1, T, T) of `dtype`; made once for all blocks.
    """
    length = documents_BT.shape[1]
    same_BTT = documents_BT[:, :, None] == documents_BT[:, None, :]
    allowed_BTT = same_BTT.tril_() if length > 1 else same_BTT
    mask_BTT = torch.zeros(allowed_BTT.shape, dtype=dtype, device=documents_BT.device)
    return mask_BTT.masked_fill_(~allowed_BTT, float("-inf"))[:, None]


def compute_type(x: Tensor) -> torch.dtype:
    """The type that matrix products of `x` run in: autocast's, where it is on."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


class Attention(nn.Module):
    """Causal self-attention; module names are Hugging Face's."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.head_size = architecture.head_size
        self.grouped = architecture.key_value_heads != architecture.heads
        query = architecture.heads * self.head_size
        key = architecture.key_value_heads * self.head_size
        self.q_proj = Linear(architecture.width, query)
        self.k_proj = Linear(architecture.width, key)
        self.v_proj = Linear(architecture.width, key)
        self.o_proj = Linear(query, architecture.width)

    def forward(self, x_BTD: Tensor, cos_TC: Tensor, sin_TC: Tensor, mask: Tensor | None) -> Tensor:
        """Attend; without a mask, causally over the whole sequence. (B, T, D) to (B, T, D)."""
        sequences, length, _ = x_BTD.shape
        heads = (sequences, length, -1, self.head_size)
        q_BHTC = self.q_proj(x_BTD).view(heads).transpose(1, 2)
        k_BKTC = self.k_proj(x_BTD).view(heads).transpose(1, 2)
        v_BKTC = self.v_proj(x_BTD).view(heads).transpose(1, 2)
        # Under autocast the projections are bf16; the tables follow, or they would lift q and k.
        cos_TC, sin_TC = cos_TC.to(q_BHTC.dtype), sin_TC.to(q_BHTC.dtype)
        y_BHTC = F.scaled_dot_product_attention(
            rotate(q_BHTC, cos_TC, sin_TC),
            rotate(k_BKTC, cos_TC, sin_TC),
            v_BKTC,
            attn_mask=mask,
            is_causal=mask is None,
            enable_gqa=self.grouped,
        )
        y_BTD: Tensor = self.o_proj(y_BHTC.transpose(1, 2).reshape(sequences, length, -1))
        return y_BTD
