"""Grouped-query attention that never looks across documents.

Shapes: B sequences, T tokens of each, D width, H query heads, K key and value heads, C size of
a head.

On a CPU `rows`, or torch's own kernel where that is faster, takes a table of T x T that is added to
the scores; attention document by document, which needs none, was measured as slower there, from a
few documents a sequence on. On a GPU FlexAttention skips what no token may see.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftwork.spec.model import Architecture
from graftwork_train.nn.layers import Linear, make_norm, normed
from graftwork_train.nn.positions import alibi_slopes, rotate
from graftwork_train.nn.rows import attend_rows, faster

# FlexAttention's kernels take heads of at least this size; smaller ones are for tests.
FLEX_HEAD = 16


class Sight(NamedTuple):
    """What tokens see of one another, made once for all blocks of a model.

    Attributes:
        cos_TC, sin_TC: Rotary tables; None without rotary positions.
        mask: Added to the scores, (1 or B, 1 or H, T, T). None where `causal` says all.
        causal: Whether a token sees what is before it, where there is no mask; else it sees all.
        attend: What computes attention from queries, keys and values, in place of torch's kernel.
    """

    cos_TC: Tensor | None = None
    sin_TC: Tensor | None = None
    mask: Tensor | None = None
    causal: bool = True
    attend: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None


def look(
    architecture: Architecture,
    tables: tuple[Tensor, Tensor] | None,
    documents_BT: Tensor | None,
    like_BTD: Tensor,
) -> Sight:
    """What the tokens of a batch see.

    Args:
        architecture: The model's.
        tables: Rotary cosines and sines of at least T positions; None without.
        documents_BT: Document of each token, -1 on padding; None where each sequence is one.
        like_BTD: The first block's input, for its length, device and type.
    """
    length, device = like_BTD.shape[1], like_BTD.device
    causal = architecture.kind == "decoder"
    cos_TC, sin_TC = (None, None) if tables is None else (table[:length] for table in tables)
    alibi = architecture.positions == "alibi"
    slopes_H = alibi_slopes(architecture.heads).to(device) if alibi else None
    if documents_BT is None and slopes_H is None:
        return Sight(cos_TC, sin_TC, causal=causal)
    if device.type == "cuda" and architecture.head_size >= FLEX_HEAD:
        # Imported where it is used: it brings torch's compiler, which takes a second.
        flex = importlib.import_module("graftwork_train.nn.flex")
        return Sight(
            cos_TC, sin_TC, attend=flex.attention(documents_BT, slopes_H, like_BTD, causal)
        )
    dtype = compute_type(like_BTD)
    if documents_BT is None:
        documents_BT = torch.zeros((1, length), dtype=torch.int32, device=device)
    mask = document_mask(documents_BT, dtype, causal=causal)
    if slopes_H is not None:
        mask = mask - _distances(slopes_H, length).to(dtype)
    return Sight(cos_TC, sin_TC, mask, causal=causal)


def document_mask(documents_BT: Tensor, dtype: torch.dtype, *, causal: bool = True) -> Tensor:
    """What is added to the scores: 0 within a document and, if causal, not ahead; else -inf.

    `documents_BT` numbers the document of every token, -1 on padding. Every token sees at least
    itself, so that no row is empty. Returns (B, 1, T, T) of `dtype`.
    """
    allowed_BTT = documents_BT[:, :, None] == documents_BT[:, None, :]
    if causal and documents_BT.shape[1] > 1:
        allowed_BTT = allowed_BTT.tril_()
    mask_BTT = torch.zeros(allowed_BTT.shape, dtype=dtype, device=documents_BT.device)
    return mask_BTT.masked_fill_(~allowed_BTT, float("-inf"))[:, None]


def _distances(slopes_H: Tensor, length: int) -> Tensor:
    """How far apart two tokens are, times each head's slope, (1, H, T, T)."""
    index_T = torch.arange(length, device=slopes_H.device)
    return slopes_H[None, :, None, None] * (index_T[:, None] - index_T).abs()


def compute_type(x: Tensor) -> torch.dtype:
    """The type that matrix products of `x` run in: autocast's, where it is on."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


class Attention(nn.Module):
    """Self-attention; module names are Hugging Face's."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.head_size = architecture.head_size
        self.grouped = architecture.key_value_heads != architecture.heads
        self.qk_norm = architecture.qk_norm
        width, biased = architecture.width, architecture.qkv_bias
        query = architecture.heads * self.head_size
        key = architecture.key_value_heads * self.head_size
        self.q_proj = Linear(width, query, bias=biased)
        self.k_proj = Linear(width, key, bias=biased)
        self.v_proj = Linear(width, key, bias=biased)
        self.o_proj = Linear(query, width, bias=architecture.output_bias)
        if self.qk_norm:
            whole = self.qk_norm == "whole"
            self.q_norm = make_norm(architecture, query if whole else self.head_size)
            self.k_norm = make_norm(architecture, key if whole else self.head_size)

    def forward(self, x_BTD: Tensor, sight: Sight) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        sequences, length, _ = x_BTD.shape
        q_BHTC, k_BKTC = self._queries_and_keys(x_BTD)
        v_BKTC = self._split(self.v_proj(x_BTD))
        if sight.cos_TC is not None and sight.sin_TC is not None:
            # Under autocast the projections are bf16; the tables follow, or they would lift them.
            cos_TC, sin_TC = sight.cos_TC.to(v_BKTC.dtype), sight.sin_TC.to(v_BKTC.dtype)
            q_BHTC, k_BKTC = rotate(q_BHTC, cos_TC, sin_TC), rotate(k_BKTC, cos_TC, sin_TC)
        if sight.attend is None:
            y_BHTC = self._attend(q_BHTC, k_BKTC, v_BKTC, sight)
        else:
            y_BHTC = sight.attend(q_BHTC, k_BKTC, v_BKTC)
        y_BTD: Tensor = self.o_proj(y_BHTC.transpose(1, 2).reshape(sequences, length, -1))
        return y_BTD

    def _split(self, x_BTE: Tensor) -> Tensor:
        """All heads side by side to (B, heads, T, C)."""
        return x_BTE.view(*x_BTE.shape[:-1], -1, self.head_size).transpose(1, 2)

    def _queries_and_keys(self, x_BTD: Tensor) -> tuple[Tensor, Tensor]:
        q_BTE, k_BTE = self.q_proj(x_BTD), self.k_proj(x_BTD)
        if self.qk_norm == "whole":
            q_BTE, k_BTE = normed(self.q_norm, q_BTE), normed(self.k_norm, k_BTE)
        q_BHTC, k_BKTC = self._split(q_BTE), self._split(k_BTE)
        if self.qk_norm == "head":
            q_BHTC, k_BKTC = normed(self.q_norm, q_BHTC), normed(self.k_norm, k_BKTC)
        return q_BHTC, k_BKTC

    def _attend(self, q_BHTC: Tensor, k_BKTC: Tensor, v_BKTC: Tensor, sight: Sight) -> Tensor:
        kind = compute_type(q_BHTC)
        if faster(q_BHTC, k_BKTC, kind):
            q_BHTC, k_BKTC, v_BKTC = (x.to(kind) for x in (q_BHTC, k_BKTC, v_BKTC))
            with torch.autocast("cpu", enabled=False):
                y_BHTC: Tensor = attend_rows(q_BHTC, k_BKTC, v_BKTC, sight.mask, sight.causal)
            return y_BHTC
        return F.scaled_dot_product_attention(
            q_BHTC,
            k_BKTC,
            v_BKTC,
            attn_mask=sight.mask,
            is_causal=sight.mask is None and sight.causal,
            enable_gqa=self.grouped,
        )
