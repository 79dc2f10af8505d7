"""Words for latent thoughts: what a text leaves unsaid, written down between its pieces."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from graftwork.spec.base import Paper, Strict
from graftwork.spec.body import Sources
from graftwork.spec.maker import Maker
from graftwork.units import Budget, Share

BEGIN, END, PRIOR, POSTERIOR = "<|latent|>", "<|/latent|>", "<|prior|>", "<|posterior|>"
SIGNS = (BEGIN, END, PRIOR, POSTERIOR)
"""What stands around a latent; the tokenizer needs them among its `tokens`."""
# Words and signs of a sentence, for the estimate of what a writer is asked.
_SENTENCE = 25


class Pieces(Strict):
    """How documents are cut into the pieces that latents belong to."""

    unit: int = Field(default=8, ge=1, le=20)
    """Sentences of a piece."""
    ends: str = ""
    """What ends a sentence, for text that has none, such as `=` in `12+5=17`. Default: full stops
    and the like, and empty lines."""
    prefix: int = Field(default=3, ge=0, le=100)
    """Pieces before it that are given with each."""
    given: int = Field(default=0, ge=0, le=100)
    """Pieces at a document's beginning that get no latent and are only ever given."""


class Bolt(Maker, Pieces):
    """Write down the thoughts that lead from piece to piece of a document, and train on both.

    The first latents are a writer's (`written`). From then on a model samples several for each
    piece and keeps one by importance (`sampled`); the next is trained on them, from the base again.
    """

    paper: ClassVar[Paper] = Paper(
        "Reasoning to Learn from Latent Thoughts", "2503.18866", "3", number="32"
    )
    name: Literal["bolt"]
    latents: Literal["written", "sampled"] = "written"
    """`written` by the writer, asked in words; or `sampled` from a model of this workflow that was
    trained on latents: the E-step."""
    samples: int = Field(default=4, ge=1, le=64)
    """Latents to sample for each piece, of which one is kept."""
    posterior: Share = 0.5
    """Share of the pieces whose latent comes after them, which teaches to sample latents; the
    others' comes first, which teaches to think before writing."""
    budget: Budget | None = None
    """Tokens that the model may read and write in sampling and weighing, such as `500k tokens`; it
    goes through the documents until they are used up. For `sampled` alone."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.latents == "written" and self.budget is not None:
            raise ValueError(
                "budget bounds what a model samples, and these latents are written; leave it out, "
                "or write 'latents: sampled'"
            )
        if self.latents == "sampled" and (self.budget is None or self.budget.unit != "tokens"):
            raise ValueError(
                "sampling goes on for a budget in tokens; write for example 'budget: 500k tokens'"
            )
        return self

    @property
    def asks(self) -> bool:
        """Whether the writer is asked in words."""
        return self.latents == "written"

    @property
    def chunk(self) -> int:
        """Words and signs of a piece, about."""
        return self.unit * _SENTENCE

    def asked(self) -> float:
        """Times that the text is read, on average: each piece with those before it."""
        return 1.0 + self.prefix


class Latents(Pieces):
    """How likely documents' pieces are to a model that may think first, by a bound."""

    from_: Sources = Field(alias="from")
    """Corpora or documents; let them be none that the model has trained on."""
    given: int = Field(default=1, ge=1, le=100)
    """Pieces at a document's beginning that are given and not measured."""
    samples: int = Field(default=8, ge=0, le=256)
    """Latents to sample for each piece; more of them give a closer bound. 0 measures the pieces
    themselves, for a model that was trained without latents."""
    tokens: int = Field(default=64, ge=1, le=32_768)
    """Tokens of a latent at most; one that is longer counts as none."""
    documents: int = Field(default=200, ge=1, le=1_000_000)
    """Documents to measure at most, the first ones."""
