"""The verb of synthesis: `synthesize(method, documents, desk)`, by the class of the method's word.

A method is a generator: it reads the stream once, asks the desk for what it wants written, and
gives the documents of the result in their order. What is asked, and what becomes of the answers,
never depends on how many requests are under way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import singledispatch
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from graftwork.spec.synthesis import Synthesis
from graftwork_train.data.documents import Batch, Document

if TYPE_CHECKING:
    # It needs torch, and most methods do not.
    from graftwork_train.synthesis._thinking import Thinker

__all__ = ["Answer", "Ask", "Desk", "Document", "Documents", "synthesize"]


class Documents(Protocol):
    """What a method reads: batches of documents, in one order, once."""

    def batches(self, doing: str) -> Iterator[Batch]:
        """One pass over all documents; `doing` is what the progress says."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Something to be written.

    Attributes:
        style: Name of the prompt, for provenance and for the writer by rules.
        text: The text that it is about.
        system: What a language model is told it is.
        prompt: What it is asked, the text included.
        origin: The document that the text is of.
        number: Tells answers to the same prompt apart.
        fits: Says `ok` of an answer, or what is wrong with it beyond its looks.
    """

    style: str
    text: str
    system: str
    prompt: str
    origin: Document
    number: int = 0
    fits: Callable[[str], str] | None = None


class Answer(NamedTuple):
    """What was written, or why it is of no use.

    Attributes:
        text: Empty where it is of no use.
        reason: `ok`, or a countable reason: one that begins with `failed_` is the writer's
            failure, any other stands for nonsense.
    """

    text: str
    reason: str = "ok"


Asking = Callable[[Iterable[Ask]], Iterator[tuple[Ask, Answer]]]


def _nobody() -> Thinker:
    raise AssertionError("a method wants a model that thinks, and its word does not say so")


@dataclass(slots=True)
class Desk:
    """Where a method has things written, and where it reports.

    Attributes:
        seed: Seed of what is left to chance.
        ask: Has asks answered, in their order; several are under way at once.
        writer: Name of the writer, for provenance.
        think: Gives the model that writes, for methods that sample and weigh by themselves.
        counts: By reason, what was left out.
        metrics: Scalars for the record.
        tables: Tables for the report.
        notes: Sentences for the report and the log.
        flops: Of what a model did that the method used by itself.
    """

    seed: int
    ask: Asking
    writer: str = ""
    think: Callable[[], Thinker] = _nobody
    counts: Counter[str] = field(default_factory=Counter)
    metrics: dict[str, float] = field(default_factory=dict)
    tables: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    flops: float = 0.0


@singledispatch
def synthesize(method: Synthesis, documents: Documents, desk: Desk) -> Iterator[Document]:
    """The documents that a method makes.

    Raises:
        graftwork.errors.RunError: the documents are broken or empty, or the writer fails beyond
            the stage's limits.
    """
    raise TypeError(f"nothing synthesizes by {type(method).__name__}; is its module imported?")
