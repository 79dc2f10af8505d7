"""Pairs of answers: the loss that prefers one to the other, and how often a model does.

Shapes: B sequences, T tokens, P pairs that a sequence may hold at most. Documents come in pairs, a
chosen answer at every even number of a sequence and its rejected one after it.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from graftwork_train.data.shards import TokenShards
from graftwork_train.loop.loader import Batch, Loader, collate
from graftwork_train.loop.objective import Balance, Objective
from graftwork_train.nn import Decoder
from graftwork_train.nn.loss import IGNORE, token_nats

# Sequences that are judged at once.
_ROWS = 8


class Ratios(NamedTuple):
    """Log-probability of the chosen answer less that of the rejected one, in nats.

    Attributes:
        ratio_BP: Of each pair; carries gradients. 0 where there is no pair.
        there_BP: Where there is one.
    """

    ratio_BP: Tensor
    there_BP: Tensor


def ratios(model: Decoder, hidden_BTD: Tensor, labels_BT: Tensor, documents_BT: Tensor) -> Ratios:
    """How much likelier a model finds chosen answers, given its states before the head."""
    head = model.lm_head
    nats_BT = token_nats(hidden_BTD, head.weight, labels_BT, bias_V=head.bias)
    counts_BT = (labels_BT != IGNORE).float()
    numbers_BT = documents_BT.long().clamp(min=0)
    shape = len(labels_BT), 2 * ((labels_BT.shape[1] + 1) // 2)
    sums = (nats_BT.new_zeros(shape).scatter_add(1, numbers_BT, x) for x in (nats_BT, counts_BT))
    nats_BD, counts_BD = sums
    there_BP = (counts_BD[:, ::2] > 0) & (counts_BD[:, 1::2] > 0)
    # A sum of nats is a negative log-probability.
    return Ratios(nats_BD[:, 1::2] - nats_BD[:, ::2], there_BP)


class Preference(Objective):
    """DPO's loss, summed over pairs; without gradients, the plain loss of all answers.

    Args:
        model: The model.
        z_loss: Weight of the logits' squared log-sum-exp: 0.
        workers: Whose loads make the balance loss.
        reference: The model to stay near to; on the same device, never changed.
        beta: How near.
    """

    def __init__(
        self,
        model: Decoder,
        z_loss: float = 0.0,
        workers: int = 1,
        *,
        reference: Decoder,
        beta: float,
    ) -> None:
        super().__init__(model, z_loss, workers)
        # In a tuple, so that it is no part of the module: nothing averages, shards or saves it.
        self._reference = (reference,)
        self._beta = beta

    def forward(
        self, tokens_BT: Tensor, labels_BT: Tensor, documents_BT: Tensor | None
    ) -> tuple[Tensor, Tensor, Balance | None]:
        """As of all objectives."""
        if not torch.is_grad_enabled():
            return super().forward(tokens_BT, labels_BT, documents_BT)
        if documents_BT is None:
            raise AssertionError("a sequence of pairs has at least two documents")
        hidden_BTD, routing = self.decoder(tokens_BT, documents_BT)
        policy = ratios(self.decoder, hidden_BTD, labels_BT, documents_BT)
        (reference,) = self._reference
        with torch.no_grad():
            known_BTD = reference(tokens_BT, documents_BT).hidden_BTD
            known = ratios(reference, known_BTD, labels_BT, documents_BT)
        each_BP = dpo_loss(policy.ratio_BP - known.ratio_BP, self._beta)
        loss = each_BP.masked_fill(~policy.there_BP, 0.0).sum()
        balance = None if routing is None else self._balance(routing)
        return loss, loss.detach(), balance


def dpo_loss(margin: Tensor, beta: float) -> Tensor:
    """-log sigmoid(beta · margin): ln 2 where the model is its reference."""
    return F.softplus(-beta * margin)


class PairLoader(Loader):
    """Batches whose mean is one over pairs, and not over tokens."""

    @classmethod
    def of(cls, loader: Loader) -> PairLoader:
        """The same data."""
        return cls(**{field.name: getattr(loader, field.name) for field in fields(loader)})

    def read(self, step: int, rank: int = 0, workers: int = 1) -> Batch:
        """As of all loaders; `predicted` counts pairs."""
        batch = super().read(step, rank, workers)
        return replace(batch, predicted=pairs_in(batch))


def pairs_in(batch: Batch) -> int:
    """Pairs of a batch."""
    if batch.documents_BT is None:
        return 0
    documents_B = batch.documents_BT.amax(1) + 1
    return int((documents_B // 2).sum())


class Preferred(NamedTuple):
    """How a model judges held-out pairs.

    Attributes:
        accuracy: Share of the pairs whose chosen answer is likelier, or, against a reference, has
            become so.
        margin: Mean of the log-probabilities' difference in nats, or of its change.
        pairs: How many pairs there were.
        loss: DPO's mean loss at some beta; ln 2 for the reference itself.
    """

    accuracy: float
    margin: float
    pairs: int
    loss: float


@torch.no_grad()
def preferred(
    model: Decoder,
    shards: TokenShards,
    *,
    sequences: int,
    reference: Decoder | None = None,
    beta: float = 1.0,
) -> Preferred | None:
    """Judge held-out pairs, in fp32; None where there are none.

    Args:
        model: On its device.
        shards: Tokens with pairs.
        sequences: To read from each domain at most, taken evenly.
        reference: To hold it against, on the same device. Default: none.
        beta: Of the loss.
    """
    found = []
    for domain in shards.domains("held_out"):
        length = shards.sequences("held_out", domain)
        count = min(sequences, length)
        rows = [number * length // count for number in range(count)]
        for first in range(0, count, _ROWS):
            read = [shards.read("held_out", domain, row) for row in rows[first : first + _ROWS]]
            batch = collate(read, document_mask=True)
            if batch.documents_BT is not None:
                judged = _judge(model, batch, batch.documents_BT)
                margin_BP = judged.ratio_BP
                if reference is not None:
                    known = _judge(reference, batch, batch.documents_BT)
                    margin_BP = margin_BP - known.ratio_BP
                found.append(margin_BP[judged.there_BP].double().cpu())
    if not found or not sum(map(len, found)):
        return None
    margins = torch.cat(found)
    return Preferred(
        accuracy=float((margins > 0).double().mean()),
        margin=float(margins.mean()),
        pairs=len(margins),
        loss=float(dpo_loss(margins, beta).mean()),
    )


def _judge(model: Decoder, batch: Batch, documents_BT: Tensor) -> Ratios:
    device = next(model.parameters()).device
    documents_BT, labels_BT = documents_BT.to(device), batch.labels_BT.to(device)
    hidden_BTD = model(batch.tokens_BT.to(device), documents_BT).hidden_BTD
    return ratios(model, hidden_BTD, labels_BT, documents_BT)
