"""Words for optimizers."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from graftwork.spec.base import Method, Paper


class AdamW(Method):
    """Adam with decoupled weight decay; norms and embeddings are not decayed."""

    paper: ClassVar[Paper] = Paper("Decoupled Weight Decay Regularization", "1711.05101", "2")
    name: Literal["adamw"]
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the first moment."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """Decay of the second moment."""
    eps: float = Field(default=1e-8, gt=0)
    """Added to the denominator."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decay of the weights of linear layers, in units of the learning rate."""


Optimizer = AdamW
