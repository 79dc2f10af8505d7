"""Prompts as tokens: a document in its template, and where in it the label's word stands.

Shapes: B documents, T tokens, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from graftwork.errors import RunError
from graftwork.spec.prompts import Prompt
from graftwork_train.data.documents import Document
from graftwork_train.data.index import Ids
from graftwork_train.data.tokenizer import Encoder


class Asked(NamedTuple):
    """A document as it is put to a model: its tokens, closed by eos, and the label's place."""

    ids: Ids
    at: int


@dataclass(frozen=True, slots=True)
class Prompter:
    """Puts documents into a template, in tokens.

    Attributes:
        prompt: The template and its words.
        encoder: The tokenizer.
        context: Longest sequence; texts are cut at their ends so that the template fits.
        blank: Token in the label's place.
        words_C: Token of each label's word, in the order of `labels`.
    """

    prompt: Prompt
    encoder: Encoder
    context: int
    blank: int
    words_C: tuple[int, ...]

    @classmethod
    def of(cls, prompt: Prompt, encoder: Encoder, context: int, blank: int) -> Prompter:
        """Look the words up.

        Raises:
            RunError: a word is no single token, two words are the same one, or the template alone
                is longer than a sequence.
        """
        space = next(text for place, text in prompt.parts() if place == "label")
        words = [f"{space}{word}" for word in prompt.words.values()]
        found = encoder.each(words)
        for (label, word), ids in zip(prompt.words.items(), found, strict=True):
            if len(ids) != 1:
                raise RunError(
                    f"the word {word!r} of the label {label!r} is {len(ids)} tokens to this "
                    f"tokenizer",
                    "Give words that are one token each: common ones of the text that the "
                    "tokenizer was trained on.",
                )
        made = cls(prompt, encoder, context, blank, tuple(int(ids[0]) for ids in found))
        if made.room() < 1:
            raise RunError(
                f"the template is longer than a sequence of {context} tokens",
                "Shorten it, or prepare the tokens with a longer context.",
            )
        return made

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels."""
        return tuple(self.prompt.words)

    def room(self) -> int:
        """Tokens that are left for the texts."""
        fixed = self.encoder.each([text for place, text in self.prompt.parts() if not place])
        return self.context - sum(map(len, fixed)) - 2

    def ask(self, documents: Sequence[Document]) -> list[Asked]:
        """Every document in the template, the label's place blank.

        Raises:
            RunError: a document of a pair has no second text.
        """
        parts, room = self.prompt.parts(), self.room()
        firsts = [document.text for document in documents]
        seconds = [self._second(document) for document in documents]
        columns = [self._column(place, text, firsts, seconds) for place, text in parts]
        return [self._joined(row, parts, room) for row in zip(*columns, strict=True)]

    def label_of(self, document: Document) -> int:
        """Number of a document's label.

        Raises:
            RunError: it has none, or one without a word.
        """
        label = document.metadata.get(self.prompt.label)
        if label in self.prompt.words:
            return self.labels.index(label)
        told = f"the label {label!r}" if label is not None else "no label"
        raise RunError(
            f"document {document.id} has {told} in its metadata {self.prompt.label!r}",
            f"Documents to learn from or to be judged need one of {', '.join(self.labels)}; keep "
            f"the field in the corpus's 'metadata', or name it in the prompt's 'label'.",
        )

    def _second(self, document: Document) -> str:
        if not self.prompt.pair:
            return ""
        if self.prompt.second not in document.metadata:
            raise RunError(
                f"document {document.id} has no second text in its metadata {self.prompt.second!r}",
                "Keep the field in the corpus's 'metadata', or take {b} out of the template.",
            )
        return document.metadata[self.prompt.second]

    def _column(
        self, place: str, text: str, firsts: Sequence[str], seconds: Sequence[str]
    ) -> list[Ids]:
        """One part of the template for every document."""
        if place == "label":
            return [np.array([self.blank], dtype=np.int64)] * len(firsts)
        if not place:
            return self.encoder.each([text]) * len(firsts)
        return self.encoder.each([text + one for one in (firsts if place == "a" else seconds)])

    def _joined(self, row: Sequence[Ids], parts: Sequence[tuple[str, str]], room: int) -> Asked:
        places = [place for place, _ in parts]
        lengths = fitting([len(row[places.index(name)]) for name in "ab" if name in places], room)
        kept = dict(zip((name for name in "ab" if name in places), lengths, strict=True))
        pieces = [ids[: kept.get(place, len(ids))] for place, ids in zip(places, row, strict=True)]
        at = sum(map(len, pieces[: places.index("label")]))
        return Asked(np.concatenate([*pieces, [self.encoder.eos]]), at)


def fitting(lengths: Sequence[int], room: int) -> list[int]:
    """Lengths of texts cut so that they fit into the room: the longest is cut first."""
    kept = list(lengths)
    while sum(kept) > room:
        longest = kept.index(max(kept))
        others = [length for at, length in enumerate(kept) if at != longest]
        least = max(others, default=0)
        # Down to the next longest, and from there on all of that length alike.
        kept[longest] = max(room - sum(others), min(least, kept[longest] - 1), 0)
    return kept


def without_label(document: Document, label: str) -> Document:
    """The document as it is given to whoever must not know its label, which is not even read."""
    kept = {name: document.metadata[name] for name in document.metadata if name != label}
    return Document(document.id, document.text, document.domain, kept)
