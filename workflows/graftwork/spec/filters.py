"""Words for filters: rules and thresholds that judge each document by itself."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from graftwork.spec.base import AS_TUPLE, Method, Paper
from graftwork.units import Share

Shares = Annotated[tuple[Share, ...], AS_TUPLE]


class Gopher(Method):
    """Gopher's filters: rules on words, lines and symbols, and limits on repetition."""

    paper: ClassVar[Paper] = Paper(
        "Scaling Language Models: Methods, Analysis & Insights from Training Gopher",
        "2112.11446",
        "A1.1",
    )
    name: Literal["gopher"]
    min_words: int = Field(default=50, ge=0)
    """Drop documents of fewer words; symbols alone are no words here."""
    max_words: int = Field(default=100_000, ge=1)
    """Drop documents of more words."""
    min_mean_word: float = Field(default=3.0, ge=0)
    """Drop documents whose words are shorter than this on average, in characters."""
    max_mean_word: float = Field(default=10.0, gt=0)
    """Drop documents whose words are longer than this on average, in characters."""
    max_symbol_ratio: Share = 0.1
    """Drop documents with more hash signs than this for each word, or more ellipses."""
    max_bullet_lines: Share = 0.9
    """Drop documents where more lines than this begin with a bullet."""
    max_ellipsis_lines: Share = 0.3
    """Drop documents where more lines than this end with an ellipsis."""
    min_alpha_words: Share = 0.8
    """Drop documents where fewer words than this hold a letter."""
    min_stop_words: int = Field(default=2, ge=0, le=8)
    """Drop documents with fewer different ones of: the be to of and that have with."""
    max_duplicate_lines: Share = 0.3
    """Drop documents where more lines than this repeat an earlier one."""
    max_duplicate_paragraphs: Share = 0.3
    """Drop documents where more paragraphs than this repeat an earlier one."""
    max_duplicate_line_characters: Share = 0.2
    """Drop documents with more of their characters than this in repeated lines."""
    max_duplicate_paragraph_characters: Share = 0.2
    """Drop documents with more of their characters than this in repeated paragraphs."""
    top_ngrams: Shares = Field(default=(0.2, 0.18, 0.16), max_length=3)
    """Share of the characters that the most frequent run of 2, 3 and 4 words may cover."""
    duplicate_ngrams: Shares = Field(default=(0.15, 0.14, 0.13, 0.12, 0.11, 0.1), max_length=6)
    """Share of the characters that repeated runs of 5, 6, 7, 8, 9 and 10 words may cover."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for low, high in (("min_words", "max_words"), ("min_mean_word", "max_mean_word")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(
                    f"{low} is {getattr(self, low)}, above {high} {getattr(self, high)}; "
                    f"let the first be the smaller one"
                )
        return self


class C4(Method):
    """C4's rules: enough sentences in lines that end as sentences do, no code, no filler."""

    paper: ClassVar[Paper] = Paper(
        "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
        "1910.10683",
        "2.2",
    )
    name: Literal["c4"]
    min_sentences: int = Field(default=5, ge=0)
    """Drop documents with fewer sentences in the lines that count."""
    min_line_words: int = Field(default=3, ge=0)
    """A line of fewer words does not count."""
    max_word: int = Field(default=1000, ge=1)
    """A line with a longer word does not count, in characters."""
    terminal_punctuation: bool = True
    """A line counts only if it ends with a full stop, question mark, exclamation mark or quote."""
    lorem_ipsum: bool = True
    """Drop documents with the phrase `lorem ipsum`."""
    curly_bracket: bool = True
    """Drop documents with a curly bracket."""
    javascript: bool = True
    """A line with the word Javascript does not count."""
    policy: bool = True
    """A line that speaks of cookies or privacy policies does not count."""
    min_counting: Share = 0.0
    """Drop documents with fewer of their characters than this in lines that count."""
