"""The verb of formats: `lay_out(method, document)`, by the class of the method's word."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import NamedTuple

from graftwork.spec.formats import Dialogue, Layout
from graftwork_train.data.documents import Document


class Span(NamedTuple):
    """A piece of text, tokenized for itself, and whether its tokens are labels."""

    text: str
    predicted: bool


@dataclass(frozen=True, slots=True)
class Laid:
    """A document as it is written.

    Attributes:
        versions: Its spans, end to end; each version is closed by the end of a document, which is
            a label. Most formats write one; none of a document that they cannot use.
        mark: The text by whose hash it is held out or trained on.
        written: Whether the format has changed anything.
    """

    versions: tuple[tuple[Span, ...], ...]
    mark: str
    written: bool = True


@singledispatch
def lay_out(method: Layout, document: Document) -> Laid:
    """Write a document as the format says. Pure: it is called in other processes, too."""
    raise TypeError(f"no format is a {type(method).__name__}; is it imported in formats?")


def question(method: Dialogue, text: str) -> Span:
    """A question, and what stands before its answer."""
    return Span(f"{method.ask}{text}{method.answer}", predicted=False)
