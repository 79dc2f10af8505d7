"""Words for selection by score: a share of the documents is kept, ranked by what a model says."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from graftwork.spec.base import Method, ModelRef, Paper
from graftwork.spec.body import Sources
from graftwork.spec.filters import Examples
from graftwork.units import Share


class Perplexity(Method):
    """Keep the documents of low, middle or high perplexity under a model."""

    paper: ClassVar[Paper] = Paper(
        "When Less is More: Investigating Data Pruning for Pretraining LLMs at Scale",
        "2309.04564",
        "3",
    )
    name: Literal["perplexity"]
    keep: Share = 0.5
    """Share of the documents to keep."""
    part: Literal["low", "middle", "high"] = "middle"
    """Which of them, by rank of their perplexity."""
    model: ModelRef | None = None
    """Model that scores. Default: a model of runs of bytes, trained by the stage."""
    learn_from: Examples = ()
    """Corpora or documents that the model of runs learns from. Default: the stage's own, each half
    scored by a model of the other half."""
    order: int = Field(default=5, ge=1, le=8)
    """Bytes in the longest run of that model."""

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if self.keep == 0:
            raise ValueError("keep is 0%, which keeps nothing; write for example 50%")
        if self.model is not None and self.learn_from:
            raise ValueError("model is trained already; leave learn_from out")
        return self


class GotD(Method):
    """Keep the documents that optimal transport pulls hardest towards a target."""

    paper: ClassVar[Paper] = Paper(
        "Get more for less: Principled Data Selection for Warming Up Fine-Tuning in LLMs",
        "2405.02774",
        "3",
        number="51",
    )
    name: Literal["got_d"]
    target: Sources
    """Corpora or documents of the task that the selection is for."""
    keep: Share = 0.1
    """Share of the documents to keep, the most negative gradients first."""
    away: bool = False
    """Move away from the target instead, which then holds what is not wanted."""
    model: ModelRef | None = None
    """Model whose mean last state is a document's embedding. Default: hashed words."""
    dimensions: int = Field(default=256, ge=16, le=8192)
    """Dimensions of the embedding of hashed words, where there is no `model`."""
    regularisation: float = Field(default=0.1, gt=0)
    """Entropic regularisation, in parts of the mean cost."""
    sample: int = Field(default=2000, ge=2)
    """Documents, and documents of the target, that the transport is solved for; the duals of the
    others follow from these."""

    @model_validator(mode="after")
    def _something_left(self) -> Self:
        if self.keep == 0:
            raise ValueError("keep is 0%, which keeps nothing; write for example 10%")
        return self
