"""Words for objectives: what a model is asked to predict, and from what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from graftwork.spec.base import Method, Paper
from graftwork.spec.data import (
    ByteTokenizer,
    TokenizerFile,
    TokenizerFrom,
    TrainedBpe,
    TrainedCharacters,
)
from graftwork.spec.model import Architecture
from graftwork.units import Share

AnyTokenizer = ByteTokenizer | TrainedBpe | TrainedCharacters | TokenizerFile | TokenizerFrom


class Asked(Method):
    """What all objectives share.

    Attributes:
        kind: The kind of model that can learn it.
    """

    kind: ClassVar[Literal["decoder", "encoder"]] = "decoder"

    def problems(self, model: Architecture) -> Iterator[str]:
        """Why a model cannot learn it."""
        yield from ()

    def token_problems(self, tokenizer: AnyTokenizer) -> Iterator[str]:
        """What a tokenizer lacks for it, as far as its word tells."""
        yield from ()


class Causal(Asked):
    """Every next token, from all that are before it."""

    paper: ClassVar[Paper] = Paper(
        "Generating Sequences With Recurrent Neural Networks", "1308.0850", "2"
    )
    name: Literal["causal"]

    def problems(self, model: Architecture) -> Iterator[str]:
        """An encoder sees what it would be asked for."""
        if model.kind == "encoder":
            yield (
                "an encoder sees the next token, which 'causal' asks for, so there is nothing for "
                "it to learn; write 'objective: {name: mlm}', or make the model a decoder"
            )


class MaskedLm(Asked):
    """Tokens that were masked, or replaced, from all that are around them."""

    paper: ClassVar[Paper] = Paper(
        "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
        "1810.04805",
        "3.1",
    )
    kind: ClassVar[Literal["decoder", "encoder"]] = "encoder"
    name: Literal["mlm"]
    rate: Share = 0.15
    """Share of a sequence's tokens that are asked for: their nearest whole number, one at least.
    Special tokens are never among them."""
    masked: Share = 0.8
    """Share of those that are replaced by the mask token."""
    replaced: Share = 0.1
    """Share of those that are replaced by any other token, with equal chances. What is left of
    them stays as it is."""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if not 0 < self.rate < 1:
            raise ValueError("rate must lie between 0% and 100%; the paper's is 15%")
        if self.masked + self.replaced > 1 + 1e-9:
            raise ValueError(
                f"masked and replaced are {self.masked:.0%} and {self.replaced:.0%}, more than all "
                f"that are asked for; the paper's are 80% and 10%"
            )
        return self

    def problems(self, model: Architecture) -> Iterator[str]:
        """A decoder sees half of what it needs."""
        if model.kind == "decoder":
            yield (
                "a decoder sees only what is before a masked token, and 'mlm' asks for it from "
                "both sides; write 'objective: {name: causal}', or 'kind: encoder' in the model"
            )

    def token_problems(self, tokenizer: AnyTokenizer) -> Iterator[str]:
        """A BPE of ours fills its vocabulary, unless it is told to keep a token for masks."""
        if isinstance(tokenizer, TrainedBpe) and not tokenizer.mask:
            yield (
                f"'mlm' needs a token for what is masked, and the tokenizer has none; write "
                f"'tokenizer: {{train: bpe, vocab: {tokenizer.vocab}, mask: true}}'"
            )


Objective = Annotated[Causal | MaskedLm, Field(discriminator="name")]
