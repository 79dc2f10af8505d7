"""Words for how `prepare` writes a document, and which of its tokens are labels."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from graftwork.spec.base import Method, Paper

_PINTS = Paper(
    "1.5-Pints Technical Report: Pretraining in Days, Not Months -- Your Language Model Thrives on "
    "Quality Data",
    "2408.03506",
    number="18",
)


class Layout(Method):
    """What all formats share.

    Attributes:
        labels: What the tokens are then: some `marked` as not predicted, or `pairs` besides.
        whole: Whether documents must be packed by `best_fit`.
        required: Whether a document without the fields is of no use.
    """

    labels: ClassVar[Literal["marked", "pairs"]] = "marked"
    required: ClassVar[bool] = True

    @property
    def whole(self) -> bool:
        """Whether documents must be packed by `best_fit`."""
        return False

    def fields(self) -> tuple[str, ...]:
        """Names of the metadata that a document needs."""
        return ()


class Meco(Layout):
    """Metadata before each document, which the model reads and does not learn to predict."""

    paper: ClassVar[Paper] = Paper(
        "Metadata Conditioning Accelerates Language Model Pre-training", "2501.01956", number="4"
    )
    required: ClassVar[bool] = False
    name: Literal["meco"]
    field: str = "url"
    """Which of the documents' metadata, by its name in the corpus's `metadata`, or `domain`.
    Documents without it stay as they are."""
    label: str = "URL: "
    """What stands before the metadata; an empty line stands after it."""
    part: Literal["netloc", "whole"] = "netloc"
    """Of a URL or path, the host or first folder alone (`netloc`), as in the paper; or all of the
    metadata (`whole`)."""
    every: Literal["document", "sequence"] = "document"
    """`sequence` repeats the metadata where a long document is cut, so that every part has it;
    needs `packing: best_fit`."""

    @property
    def whole(self) -> bool:
        """As of all formats."""
        return self.every == "sequence"

    def fields(self) -> tuple[str, ...]:
        """As of all formats."""
        return (self.field,)


class Dialogue(Layout):
    """What conversations and pairs of answers share: our own template."""

    prompt: str | None = "prompt"
    """Which of the documents' metadata is the question; the text is the answer."""
    ask: str = "### Question\n"
    """What stands before a question."""
    answer: str = "\n\n### Answer\n"
    """What stands before an answer."""

    def fields(self) -> tuple[str, ...]:
        """As of all formats."""
        return () if self.prompt is None else (self.prompt,)


class Chat(Dialogue):
    """Questions and answers, for instruction tuning: answers and their ends alone are labels."""

    paper: ClassVar[Paper] = _PINTS
    name: Literal["chat"]
    prompt: str | None = "prompt"
    """Which of the documents' metadata is the question; the text is the answer. `null` takes the
    text for a list of messages, of a corpus with `conversations: true`."""


class Pairs(Dialogue):
    """A chosen and a rejected answer to each question, for `method: {name: dpo}`."""

    paper: ClassVar[Paper] = _PINTS
    labels: ClassVar[Literal["marked", "pairs"]] = "pairs"
    name: Literal["pairs"]
    prompt: str = "prompt"
    """Which of the documents' metadata is the question; the text is the chosen answer."""
    rejected: str = "rejected"
    """Which of the documents' metadata is the rejected answer."""

    @property
    def whole(self) -> bool:
        """As of all formats."""
        return True

    def fields(self) -> tuple[str, ...]:
        """As of all formats."""
        return (self.prompt, self.rejected)


Format = Annotated[Meco | Chat | Pairs, Field(discriminator="name")]
