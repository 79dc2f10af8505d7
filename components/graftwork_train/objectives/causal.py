"""Every next token, from all that are before it.

Graves, "Generating Sequences With Recurrent Neural Networks", arXiv:1308.0850, section 2:

    loss = - sum over t of log p(x[t+1] | x[1..t])

As in the paper, for a transformer's decoder. No label lies across the end of a document, where the
stage masks documents.
"""

from __future__ import annotations

from functools import partial

from graftwork.spec.objective import Causal
from graftwork_train.data.shards import TokenShards
from graftwork_train.loop.loader import Pose, next_tokens
from graftwork_train.objectives.base import pose


@pose.register
def causal(method: Causal, text: TokenShards, seed: int, *, document_mask: bool = True) -> Pose:
    """Chance has no part in it."""
    return partial(next_tokens, document_mask=document_mask)
