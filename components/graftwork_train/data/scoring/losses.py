"""Losses of models on documents, each document for itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from graftwork_train.data.index import Ids
from graftwork_train.nn import Decoder

# Tokens in one forward pass; more do not make a CPU faster.
PASS_TOKENS = 8192


@torch.no_grad()
def document_losses(
    model: Decoder,
    documents: Sequence[Ids],
    eos: int,
    progress: Callable[[int], None] | None = None,
) -> npt.NDArray[np.float64]:
    """Sum of the losses of all of a document's tokens, in nats.

    Documents longer than the model's context are read in pieces that follow each other without
    overlap. Every document begins after eos, as it does in training.

    Args:
        model: The model.
        documents: Token ids, int64 (n,) each, without eos.
        eos: Id of the token that ends a document.
        progress: Called with the number of pieces done.

    Returns:
        float64 (documents,); NaN for a document without tokens, or with ids that the model
        does not know.
    """
    device = next(model.parameters()).device
    size = model.context
    pieces = []
    for number, ids in enumerate(documents):
        if len(ids) and int(ids.max()) < model.vocab:
            whole = np.concatenate([[eos], ids])
            pieces += [(number, whole[at : at + size + 1]) for at in range(0, len(ids), size)]
    # Pieces of one length make passes without padding, and the same sums whatever the order.
    pieces.sort(key=lambda piece: len(piece[1]))
    losses = np.full(len(documents), np.nan)
    at = 0
    model.eval()
    while at < len(pieces):
        length = len(pieces[at][1])
        most = max(1, PASS_TOKENS // length)
        some = [piece for piece in pieces[at : at + most] if len(piece[1]) == length]
        tokens = torch.from_numpy(np.stack([ids for _, ids in some])).to(device)
        hidden = model(tokens[:, :-1]).hidden_BTD
        logits = model.logits(hidden).float().flatten(0, 1)
        each = F.cross_entropy(logits, tokens[:, 1:].flatten(), reduction="none")
        sums = each.view(len(some), -1).double().sum(dim=1).cpu().numpy()
        for (number, _), loss in zip(some, sums, strict=True):
            losses[number] = np.nan_to_num(losses[number]) + loss
        at += len(some)
        if progress is not None:
            progress(at)
    return losses
