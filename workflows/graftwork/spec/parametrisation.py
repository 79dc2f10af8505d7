"""Words for parametrisations: how initial weights and learning rates follow the model's width."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from graftwork.spec.base import Method, Paper
from graftwork.spec.model import Architecture


class MaximalUpdate(Method):
    """Rates that fit a narrow model fit a wide one: the parametrisation of the power schedule."""

    paper: ClassVar[Paper] = Paper(
        "Tensor Programs V: Tuning Large Neural Networks via Zero-Shot Hyperparameter Transfer",
        "2203.03466",
        "4",
    )
    name: Literal["mup"]
    base_width: int = Field(default=256, ge=8, le=1_048_576)
    """The width at which rates and initial weights are as written; a model m times as wide has
    initial weights smaller by the root of m in its blocks, and rates smaller by m. Choose the
    width that the rates were found at."""
    std: float = Field(default=0.02, gt=0, le=1)
    """Standard deviation of the initial weights at the base width."""
    embedding: float = Field(default=12.0, gt=0)
    """Multiplier of the embedding."""
    residual: float = Field(default=0.22, gt=0)
    """Multiplier of what a block adds to the residual stream. The power schedule's paper: 0.22 to
    0.28, the smaller the deeper."""

    def problems(self, model: Architecture) -> Iterator[str]:
        """Why a model cannot be trained so."""
        for key, found in (
            ("tie_embeddings", model.tie_embeddings),
            ("qk_norm", model.qk_norm),
            ("qkv_bias", model.qkv_bias),
        ):
            if found:
                yield (
                    f"mup scales embedding, head and queries apart, which {key} prevents; leave "
                    f"{key} out of the model, or leave the parametrisation out"
                )


Parametrisation = MaximalUpdate
