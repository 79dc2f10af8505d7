"""What it costs to read with a model and learn nothing: passes forward over positions."""

from __future__ import annotations

from graftwork_train.nn import Decoder


def forward_flops(model: Decoder, positions: int) -> float:
    """FLOPs of passes over so many positions: a third of training's, which go twice back too.

    That is 2 for each active parameter and position, and those of attention.
    """
    return positions * model.architecture.flops_per_token(model.vocab, model.context) / 3
