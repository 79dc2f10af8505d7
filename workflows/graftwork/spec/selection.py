"""Words for choosing documents: filters, deduplication, scoring."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from graftwork.spec.base import AS_TUPLE, Method, ModelRef, Paper
from graftwork.spec.dedup import EmbeddingDedup, ExactDedup, HashCover, MinHash, SimHash
from graftwork.spec.filters import C4, Decontaminate, Gopher, PretrainersGuide
from graftwork.spec.scored import GotD, Perplexity
from graftwork.units import Share


class Heuristics(Method):
    """Rule-based quality filters over a document's words, lines and symbols."""

    paper: ClassVar[Paper] = Paper(
        "Scaling Language Models: Methods, Analysis & Insights from Training Gopher",
        "2112.11446",
        "A1.1",
    )
    revision: ClassVar[int] = 2
    name: Literal["heuristics"]
    min_words: int = Field(default=20, ge=0)
    """Drop documents of fewer words."""
    max_words: int = Field(default=100_000, ge=1)
    """Drop documents of more words."""
    min_mean_word: float = Field(default=2.0, ge=0)
    """Drop documents whose words are shorter than this on average, in characters."""
    max_mean_word: float = Field(default=12.0, gt=0)
    """Drop documents whose words are longer than this on average, in characters."""
    max_symbol_ratio: Share = 0.3
    """Drop documents with more symbols than this among their characters, blanks not counted."""
    min_alpha_words: Share = 0.6
    """Drop documents where fewer words than this hold a letter."""
    max_duplicate_lines: Share = 0.3
    """Drop documents where more lines than this repeat an earlier one."""
    max_top_bigram: Share = 0.2
    """Drop documents where the most frequent pair of words covers more characters than this."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_words > self.max_words:
            raise ValueError(
                f"min_words is {self.min_words}, above max_words {self.max_words}; "
                f"let the first be the smaller one"
            )
        if self.min_mean_word > self.max_mean_word:
            raise ValueError(
                f"min_mean_word is {self.min_mean_word}, above max_mean_word "
                f"{self.max_mean_word}; let the first be the smaller one"
            )
        return self


class PreSelect(Method):
    """Keep documents whose losses rank models as their benchmarks do, learned by a classifier."""

    paper: ClassVar[Paper] = Paper(
        "Predictive Data Selection: The Data That Predicts Is the Data That Teaches",
        "2503.00808",
        "3",
        number="46",
    )
    name: Literal["preselect"]
    keep: Share = 0.1
    """Share of the documents to keep, best first."""
    models: Annotated[tuple[ModelRef, ...], AS_TUPLE] = ()
    """Models that score, from the worst to the best. Default: a ladder trained by the stage."""
    ladder: int = Field(default=4, ge=2, le=8)
    """Models of the ladder that is trained where `models` names none."""
    sample: int = Field(default=2000, ge=20)
    """Documents that the models score; the classifier learns from these."""
    epochs: int = Field(default=3, ge=1)
    """Passes of the classifier over its examples."""
    learning_rate: float = Field(default=0.1, gt=0)
    """Learning rate of the classifier."""
    word_ngrams: int = Field(default=2, ge=1, le=5)
    """Longest run of words that is a feature of the classifier."""

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.keep == 0:
            raise ValueError("keep is 0%, which keeps nothing; write for example 10%")
        if len(self.models) == 1:
            raise ValueError(
                "models names only one, which has no order; name at least 2, or none for the ladder"
            )
        return self


Selection = Annotated[
    Heuristics
    | Gopher
    | C4
    | PretrainersGuide
    | Decontaminate
    | ExactDedup
    | MinHash
    | SimHash
    | EmbeddingDedup
    | HashCover
    | PreSelect
    | Perplexity
    | GotD,
    Field(discriminator="name"),
]
