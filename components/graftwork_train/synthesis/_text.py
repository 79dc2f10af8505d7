"""Cutting and measuring text, without a tokenizer: that comes later, in `prepare`."""

from __future__ import annotations

import re
from collections.abc import Iterator

_TOKEN = re.compile(r"\w+|[^\w\s]")
_PARAGRAPH = re.compile(r"\n\s*\n")
_SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])|\n{2,}")


def tokens(text: str) -> int:
    """Words and signs: near enough to tokens to cut pieces and to mix by."""
    return sum(1 for _ in _TOKEN.finditer(text))


def sentences(text: str) -> list[str]:
    """Sentences by their full stops, white space folded; never an empty one."""
    found = (" ".join(part.split()) for part in _SENTENCE.split(text))
    return [part for part in found if part]


def sentence_ends(text: str) -> list[int]:
    """Where sentences end, the white space after them included; the last one's end is left out."""
    return [found.end() for found in _SENTENCE.finditer(text)]


def chunks(text: str, most: int) -> Iterator[str]:
    """Pieces of at most `most` words and signs, cut between paragraphs, else sentences, else words.

    Nothing of the text is lost but white space between pieces.
    """
    held: list[str] = []
    size = 0
    for part in _parts(text, most):
        count = tokens(part)
        if held and size + count > most:
            yield "\n\n".join(held)
            held, size = [], 0
        held.append(part)
        size += count
    if held:
        yield "\n\n".join(held)


def _parts(text: str, most: int) -> Iterator[str]:
    for paragraph in _PARAGRAPH.split(text):
        paragraph = paragraph.strip()
        if not paragraph:
            continue
        if tokens(paragraph) <= most:
            yield paragraph
            continue
        for sentence in sentences(paragraph):
            words = sentence.split()
            while words:
                taken = _fitting(words, most)
                yield " ".join(words[:taken])
                words = words[taken:]


def _fitting(words: list[str], most: int) -> int:
    """How many words fit; at least one, which may be longer."""
    size = 0
    for count, word in enumerate(words):
        size += max(1, tokens(word))
        if size > most and count:
            return count
    return len(words)


def overlap(text: str, source: str, size: int = 5) -> float:
    """Share of a text's runs of `size` words that are in the source; 1 for a copy.

    A text of fewer words is one run.
    """
    runs, known = (_runs(one, size) for one in (text, source))
    return len(runs & known) / len(runs) if runs else 0.0


def _runs(text: str, size: int) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[at : at + size]) for at in range(max(1, len(words) - size + 1))}
