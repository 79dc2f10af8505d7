"""Loss on held-out text, per domain; measured in fp32 on the same sequences for every model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from graftwork_train.data.shards import TokenShards
from graftwork_train.loop.loader import Pose, next_tokens
from graftwork_train.loop.step import Place, all_sum, to_device
from graftwork_train.nn import Decoder
from graftwork_train.nn.loss import IGNORE, head_losses

# Sequences of each domain that are read at the end of a training, at most.
SEQUENCES = 64


Nats = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""The sum of losses in nats of tokens and labels, in documents; all on the worker's device."""


def losses_of(model: Decoder) -> Nats:
    """Those of a model that one worker has as a whole."""

    def nats(tokens_BT: Tensor, labels_BT: Tensor, documents_BT: Tensor | None) -> Tensor:
        hidden_BTD, head = model(tokens_BT, documents_BT).hidden_BTD, model.lm_head
        return head_losses(hidden_BTD, head.weight, labels_BT, bias_V=head.bias).nats

    return nats


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Losses in nats per token.

    Attributes:
        loss: Mean over domains, weighted by the tokens that each holds out.
        domains: By domain.
        tokens: Tokens that were predicted.
    """

    loss: float
    domains: Mapping[str, float]
    tokens: int

    def metrics(self) -> dict[str, float]:
        """`loss` and `loss/<domain>`."""
        return {"loss": self.loss} | {f"loss/{name}": loss for name, loss in self.domains.items()}


def held_out_loss(
    nats: Nats,
    shards: TokenShards,
    *,
    document_mask: bool = True,
    sequences: int = SEQUENCES,
    micro: int = 8,
    place: Place | None = None,
    pose: Pose | None = None,
) -> HeldOut | None:
    """Measure the model on held-out sequences, taken evenly from each domain.

    Args:
        nats: The model's sum of losses. Workers call it as often as one another.
        shards: The tokens.
        document_mask: Whether attention and labels stop at the end of a document.
        sequences: To read from each domain at most.
        micro: Sequences held at once.
        place: This worker's; workers share the sequences.
        pose: What is asked; it is given each row's number. Default: the next token.

    Returns:
        None where nothing is held out.
    """
    place = place or Place()
    ask = pose or partial(next_tokens, document_mask=document_mask)
    domains: dict[str, float] = {}
    tokens = 0
    for domain in shards.domains("held_out"):
        length = shards.sequences("held_out", domain)
        count = min(sequences, length)
        mine = [
            Row(min(row, count - 1) * length // count, counts=row < count)
            for row in range(
                place.sharer, -(-count // place.sharers) * place.sharers, place.sharers
            )
        ]
        found = _measure(nats, shards, domain, mine, micro, ask, place)
        total, predicted = (value / place.tensor for value in all_sum(place, *found))
        if predicted:
            domains[domain] = total / predicted
            tokens += round(predicted)
    if not domains:
        return None
    weights = {name: shards.tokens("held_out", name) for name in domains}
    mean = sum(domains[name] * weights[name] for name in domains) / sum(weights.values())
    return HeldOut(mean, domains, tokens)


class Row(NamedTuple):
    """A held-out sequence, and whether it counts: some only make workers' numbers equal."""

    number: int
    counts: bool


@torch.no_grad()
def _measure(
    nats: Nats,
    shards: TokenShards,
    domain: str,
    mine: list[Row],
    micro: int,
    ask: Pose,
    place: Place,
) -> tuple[float, float]:
    """Sum of the losses, and how many tokens were predicted."""
    total, predicted = 0.0, 0
    for start in range(0, len(mine), micro):
        chosen = mine[start : start + micro]
        rows = [shards.read("held_out", domain, row.number) for row in chosen]
        batch = ask(rows, [row.number for row in chosen])
        counts_B = torch.tensor([row.counts for row in chosen])
        batch.labels_BT[~counts_B] = IGNORE
        total += nats(*to_device(batch, place.device)).item()
        predicted += int((batch.labels_BT != IGNORE).sum())
    return total, predicted
