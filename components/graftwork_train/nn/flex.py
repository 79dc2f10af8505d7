"""Document-masked attention on GPUs by FlexAttention: no table of T x T, blocks skipped.

Apart from the other modules because importing it takes a second, which a CPU need not spend.

Shapes as in `graftwork_train.nn.attention`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

_compiled = torch.compile(flex_attention)


def attention(
    documents_BT: Tensor | None, slopes_H: Tensor | None, like_BTD: Tensor, causal: bool
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """What computes attention for a batch; which blocks of scores it needs is found once.

    Args:
        documents_BT: Document of each token; None where each sequence is one.
        slopes_H: ALiBi's; None without.
        like_BTD: A tensor of the batch, for its length and device.
        causal: Whether a token sees only what is before it.
    """

    def seen(b: Tensor, _h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        near = i >= j if causal else i - j == i - j
        return near if documents_BT is None else near & (documents_BT[b, i] == documents_BT[b, j])

    sequences = None if documents_BT is None else documents_BT.shape[0]
    length = like_BTD.shape[1]
    blocks = create_block_mask(seen, sequences, None, length, length, device=str(like_BTD.device))
    return partial(_attend, blocks=blocks, slopes_H=slopes_H)


def _attend(
    q_BHTC: Tensor, k_BKTC: Tensor, v_BKTC: Tensor, blocks: BlockMask, slopes_H: Tensor | None
) -> Tensor:
    def biased(score: Tensor, _b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return score if slopes_H is None else score - slopes_H[h] * (i - j).abs()

    # Compiled, the scores are never held; a CPU, in tests, has no kernel and holds them all.
    kernel = _compiled if q_BHTC.device.type == "cuda" else flex_attention
    y_BHTC: Tensor = kernel(
        q_BHTC,
        k_BKTC,
        v_BKTC,
        score_mod=None if slopes_H is None else biased,
        block_mask=blocks,
        enable_gqa=q_BHTC.shape[1] != k_BKTC.shape[1],
    )
    return y_BHTC
