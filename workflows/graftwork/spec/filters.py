"""Words for filters: rules and thresholds that judge each document by itself."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from graftwork.spec.base import AS_TUPLE, LATER, CorpusOrDocuments, Method, Paper
from graftwork.spec.body import Sources, one_or_more
from graftwork.units import Share

Shares = Annotated[tuple[Share, ...], AS_TUPLE]
Names = Annotated[
    tuple[str, ...],
    AS_TUPLE,
    BeforeValidator(one_or_more, json_schema_input_type=str | list[str]),
]
Examples = Annotated[
    tuple[CorpusOrDocuments, ...],
    AS_TUPLE,
    BeforeValidator(one_or_more, json_schema_input_type=str | list[str]),
]
Words = Literal["runs", "blanks", "spacy"]
"""What filters take for words."""


class Gopher(Method):
    """Gopher's filters: rules on words, lines and symbols, and limits on repetition."""

    paper: ClassVar[Paper] = Paper(
        "Scaling Language Models: Methods, Analysis & Insights from Training Gopher",
        "2112.11446",
        "A1.1",
    )
    revision: ClassVar[int] = 2
    name: Literal["gopher"]
    words: Annotated[Words, LATER] = "runs"
    """What a word is: `runs` of letters and digits, and of signs, much as tokenizers of words have
    it; what stands between `blanks`, signs and all; or, with `spacy`, what spaCy's English
    tokenizer makes of the text, as in datatrove's filters and so in FineWeb's (slower; outside of
    the images it wants `pip install 'graftwork[spacy]'`). The paper leaves it open, and it matters:
    signs alone are words without a letter, of which text with much punctuation has many."""
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


class PretrainersGuide(Method):
    """Filters by domain, age, quality and toxicity, each with a threshold, and their inverses."""

    paper: ClassVar[Paper] = Paper(
        "A Pretrainer's Guide to Training Data", "2305.13169", "2", number="15"
    )
    name: Literal["pretrainers_guide"]
    quality: Share | None = None
    """Drop documents with a higher quality score, 0 good to 1 bad; the paper tries 97.5%, 95%, 90%
    and 70%."""
    good_domain: str = "prose"
    """Domain that stands for good text, which a classifier learns to tell from the others."""
    good: Examples = ()
    """Corpora or documents that stand for good text, in place of `good_domain`."""
    quality_field: str | None = None
    """Metadata field that holds the quality score, in place of a classifier."""
    toxicity: Share | None = None
    """Drop documents with a higher toxicity score; the paper tries 95%, 90%, 70%, 50% and 30%."""
    toxic: Examples = ()
    """Corpora or documents that are toxic, which a classifier learns to tell from the stage's."""
    toxicity_field: str | None = None
    """Metadata field that holds the toxicity score, in place of a classifier."""
    inverse: Literal["quality", "toxicity"] | None = None
    """The paper's control: drop what this filter would keep, and keep what it would drop; the
    paper's threshold of the inverse toxicity filter is 6%."""
    date_field: str = "date"
    """Metadata field with a document's date or year."""
    oldest: int | None = Field(default=None, ge=1000, le=9999)
    """Drop documents of earlier years."""
    newest: int | None = Field(default=None, ge=1000, le=9999)
    """Drop documents of later years."""
    undated: Literal["drop", "keep"] = "drop"
    """What becomes of documents without a date, where `oldest` or `newest` is set."""
    without: Names = ()
    """Domains to drop."""
    only: Names = ()
    """Domains to keep; all others are dropped."""

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        if self.inverse is not None and getattr(self, self.inverse) is None:
            raise ValueError(
                f"inverse turns the {self.inverse} filter round, and there is none; "
                f"set {self.inverse} too"
            )
        if self.toxicity is not None and not (self.toxic or self.toxicity_field):
            raise ValueError(
                "toxicity needs scores; name examples in 'toxic', or the 'toxicity_field'"
            )
        if self.without and self.only:
            raise ValueError("without and only exclude each other; write one of them")
        if None not in (self.oldest, self.newest) and self.oldest > self.newest:  # type: ignore[operator]
            raise ValueError(f"oldest {self.oldest} is after newest {self.newest}; swap them")
        knobs = (self.quality, self.toxicity, self.oldest, self.newest)
        if not any(knob is not None for knob in knobs) and not (self.without or self.only):
            raise ValueError(
                "no filter is set; write quality, toxicity, oldest, newest, without or only"
            )
        return self


class Decontaminate(Method):
    """Drop documents that share long runs of words with evaluation sets."""

    paper: ClassVar[Paper] = Paper("Language Models are Few-Shot Learners", "2005.14165", "C")
    name: Literal["decontaminate"]
    against: Sources
    """Corpora or documents that hold the evaluation sets, one example a document."""
    ngram: int = Field(default=13, ge=1)
    """Words in a run; case and punctuation do not count."""
    shortest: int = Field(default=8, ge=1)
    """Examples of fewer words than `ngram` are looked for whole, if they have at least this many;
    shorter ones are left out and counted."""
    matches: int = Field(default=1, ge=1)
    """Runs that a document must share before it is dropped."""
