"""Memory of one worker in training, by arithmetic: what is divided, and what is kept.

An estimate: allocators round up, and libraries take their part.
"""

from __future__ import annotations

from dataclasses import dataclass

from graftwork.spec.model import Architecture
from graftwork.spec.stages import Continue, Training

# A weight, its gradient and AdamW's two moments, all in fp32.
_TRAINED = 16
# A weight of a model that is only read.
_HELD = 4
# A weight that FSDP has gathered, and its gradient before it is divided again.
_GATHERED = 8
# Blocks that FSDP has gathered at once: one at work, and the next on its way.
_AHEAD = 2


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that a worker needs.

    Attributes:
        fixed: Weights, gradients and moments, and those of a reference.
        each: Activations and logits of one sequence.
    """

    fixed: int
    each: int

    def of(self, sequences: int) -> int:
        """Bytes with so many sequences held at once."""
        return self.fixed + sequences * self.each


def training_memory(
    model: Architecture, vocab: int, context: int, body: Training, workers: int
) -> Memory:
    """What one of `workers` needs for a training."""
    fixed = _fixed(model, vocab, body, workers)
    if isinstance(body, Continue) and body.method is not None and body.method.pairs:
        fixed += _HELD * model.parameters(vocab)
    return Memory(fixed, 4 * context * _activations(model, body))


def _fixed(model: Architecture, vocab: int, body: Training, workers: int) -> int:
    word = body.parallel
    sharers = max(1, word.sharers(workers))
    experts = model.expert_parameters() // (word.expert * word.tensor)
    blocks = (model.linear_parameters() - model.expert_parameters()) // word.tensor
    rest = model.parameters(vocab) - model.linear_parameters()
    if word.data == "ddp" or sharers == 1:
        return _TRAINED * (experts + blocks + rest)
    held = experts // max(1, sharers // word.expert) + (blocks + rest) // sharers
    gathered = rest + min(model.layers, _AHEAD) * (experts + blocks) // model.layers
    return _TRAINED * held + _GATHERED * gathered


def _activations(model: Architecture, body: Training) -> int:
    """Numbers that a token leaves behind for the backward pass."""
    copies = model.experts.top_k + model.experts.shared if model.experts else 1
    inner = copies * model.expert_hidden // body.parallel.tensor
    heads = model.heads * model.head_size // body.parallel.tensor
    whole = 8 * model.width + 6 * heads + (4 if model.gated else 2) * inner
    # Projections, attention's result and the inputs of the norms stay; what lies between does not.
    products = 4 * model.width + 4 * heads + (2 if model.gated else 1) * inner
    kept = {"none": whole, "full": model.width, "selective": products}
    layers = model.layers * kept[body.activation_checkpointing]
    # The block that is calculated again has everything.
    again = 0 if body.activation_checkpointing == "none" else whole
    return layers + again + 3 * model.width
