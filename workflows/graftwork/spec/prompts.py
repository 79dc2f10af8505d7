"""Prompts: a template with places for a text and its label, and the word that says each label."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, NamedTuple, Self

from pydantic import Field, model_validator

from graftwork.spec.base import Strict

Word = Annotated[str, Field(pattern=r"^\S+$")]
_PLACE = re.compile(r"\{(\w*)\}")
_KNOWN = ("a", "b", "label")


class Part(NamedTuple):
    """A piece of a template: the name of a place, or none, and what is written there before it.

    Attributes:
        place: `a`, `b` or `label`; empty for text that stands as it is.
        text: Of a place, the space before it, if there is one; else the text.
    """

    place: str
    text: str


class Prompt(Strict):
    """How a text and its label are put into words."""

    template: str = "{a} It was {label} ."
    """Text with the places `{a}` for a document, `{label}` for the word of its label and, for
    pairs, `{b}` for the second text, as in `{a} ? {label} , {b}`. Signs that are in the tokenizer's
    `tokens` make a soft template, as in `{a}<s1><s2> {label}`: they are trained, and no text has
    them."""
    words: dict[str, Word] = Field(min_length=2)
    """The word that says each label, `{positive: good, negative: bad}`; one token each."""
    label: str = Field(default="label", min_length=1)
    """Name of the metadata that holds a document's label."""
    second: str = Field(default="second", min_length=1)
    """Name of the metadata that holds the second text of a pair."""

    @model_validator(mode="after")
    def _sound(self) -> Self:
        places = _PLACE.findall(self.template)
        strange = [name for name in places if name not in _KNOWN]
        if strange:
            raise ValueError(
                f"the template has a place {{{strange[0]}}}; its places are {{a}}, {{b}} and "
                f"{{label}}"
            )
        for name in _KNOWN:
            count = places.count(name)
            if count > 1 or (not count and name != "b"):
                raise ValueError(
                    f"the template has {{{name}}} {count} times; write it once, for example "
                    f"'{{a}} It was {{label}} .'"
                )
        if len(set(self.words.values())) < len(self.words):
            raise ValueError("two labels have the same word; give each a word of its own")
        return self

    @property
    def pair(self) -> bool:
        """Whether documents have a second text."""
        return "{b}" in self.template

    def parts(self) -> tuple[Part, ...]:
        """The template in order; a space before a place belongs to it, as to a token."""
        found: list[Part] = []
        for position, piece in enumerate(_PLACE.split(self.template)):
            if position % 2:
                found.append(Part(piece, ""))
            elif piece:
                found.append(Part("", piece))
        for at, part in enumerate(found[:-1]):
            following = found[at + 1]
            if not part.place and following.place and part.text.endswith(" "):
                found[at] = Part("", part.text[:-1])
                found[at + 1] = Part(following.place, " ")
        return tuple(part for part in found if part.place or part.text)

    def filled(self, text: str, metadata: Mapping[str, str], word: str | None) -> str:
        """The template with its places filled; without a word it ends before the label.

        Raises:
            KeyError: there is no second text for a pair.
        """
        written = ""
        for place, held in self.parts():
            if place == "label" and word is None:
                break
            values = {"a": text, "label": word or "", "b": ""}
            if place == "b":
                values["b"] = metadata[self.second]
            written += held + values.get(place, "")
        return written
