"""Words for sparse pre-training."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from graftwork.spec.base import Contract, Method, Paper
from graftwork.spec.model import Architecture
from graftwork.units import Share


class Spdf(Method):
    """A static random mask on the blocks' linear weights, held while the stage trains."""

    paper: ClassVar[Paper] = Paper(
        "SPDF: Sparse Pre-training and Dense Fine-tuning for Large Language Models",
        "2303.10464",
        "2",
        number="29",
    )
    contract: ClassVar[Contract] = "none"
    name: Literal["spdf"]
    sparsity: Share = Field(default=0.75)
    """Share of each linear layer's weights that is masked. The paper tried 50% and 75%."""

    @model_validator(mode="after")
    def _between(self) -> Self:
        if not 0 < self.sparsity < 1:
            raise ValueError(
                "sparsity must lie between 0% and 100%, both excluded; the paper tried 50% and 75%"
            )
        return self

    def target(self, source: Architecture) -> Architecture:
        """The architecture after sparsification: the same.

        Raises:
            ValueError: the model is a mixture of experts.
        """
        if source.experts:
            raise ValueError(
                "spdf masks dense models, and this is a mixture of experts; take a dense one"
            )
        return source


Sparsity = Spdf
