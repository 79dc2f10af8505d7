"""Loss on held-out text, per domain; measured in fp32 on the same sequences for every model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from graftwork_train.data.shards import TokenShards
from graftwork_train.loop.loader import collate
from graftwork_train.loop.step import Place, all_sum, to_device
from graftwork_train.nn import Decoder
from graftwork_train.nn.loss import cross_entropy

# Sequences of each domain that are read at the end of a training, at most.
SEQUENCES = 64


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
    model: Decoder,
    shards: TokenShards,
    *,
    document_mask: bool = True,
    sequences: int = SEQUENCES,
    micro: int = 8,
    place: Place | None = None,
) -> HeldOut | None:
    """Measure the model on held-out sequences, taken evenly from each domain.

    Args:
        model: On the worker's device.
        shards: The tokens.
        document_mask: Whether attention and labels stop at the end of a document.
        sequences: To read from each domain at most.
        micro: Sequences held at once.
        place: This worker's; workers share the sequences.

    Returns:
        None where nothing is held out.
    """
    place = place or Place()
    domains: dict[str, float] = {}
    tokens = 0
    for domain in shards.domains("held_out"):
        length = shards.sequences("held_out", domain)
        count = min(sequences, length)
        mine = [index * length // count for index in range(place.rank, count, place.workers)]
        total, predicted = all_sum(
            place, *_measure(model, shards, domain, mine, micro, document_mask, place)
        )
        if predicted:
            domains[domain] = total / predicted
            tokens += round(predicted)
    if not domains:
        return None
    weights = {name: shards.tokens("held_out", name) for name in domains}
    mean = sum(domains[name] * weights[name] for name in domains) / sum(weights.values())
    return HeldOut(mean, domains, tokens)


@torch.no_grad()
def _measure(
    model: Decoder,
    shards: TokenShards,
    domain: str,
    indices: list[int],
    micro: int,
    document_mask: bool,
    place: Place,
) -> tuple[float, float]:
    """Sum of the losses, and how many tokens were predicted."""
    total, predicted = 0.0, 0
    for start in range(0, len(indices), micro):
        rows = [shards.read("held_out", domain, index) for index in indices[start : start + micro]]
        batch = collate(rows, document_mask=document_mask)
        tokens_BT, labels_BT, documents_BT = to_device(batch, place.device)
        hidden_BTD = model(tokens_BT, documents_BT).hidden_BTD
        total += cross_entropy(hidden_BTD, model.lm_head.weight, labels_BT).item()
        predicted += batch.predicted
    return total, predicted
