"""Pieces of documents, latents around them, and the weights of sampled ones.

With z a latent of the piece x after the prefix c, q(z | x, c) what it was drawn from, and
p(z, x | c) the same model thinking first:

    w_k      = p(z_k, x | c) / q(z_k | x, c)
    ELBO_K   = log(mean of w_1 ... w_K), in expectation at most log p(x | c), rising with K
    one z_k  is kept with probability w_k / sum of w
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from graftwork.spec.latents import BEGIN, END, POSTERIOR, PRIOR, SIGNS, Pieces
from graftwork_train.data.documents import Document
from graftwork_train.synthesis._text import sentence_ends

NEVER = -math.inf
"""Log-weight of a sample that is no latent: it was cut, or holds a sign."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a document.

    Attributes:
        document: Where it is from.
        number: Its place there, from 0.
        prefix: The pieces before it that are given.
        text: The piece.
    """

    document: Document
    number: int
    prefix: str
    text: str


def cut(text: str, word: Pieces) -> list[str]:
    """The text in pieces; joined they are the text again."""
    ends = sentence_ends(text) if not word.ends else _places(text, word.ends)
    borders = [0, *ends[word.unit - 1 :: word.unit], len(text)]
    parts = [text[a:b] for a, b in pairwise(borders)]
    return [part for part in parts if part]


def pieces(document: Document, word: Pieces) -> Iterator[Piece]:
    """The pieces of a document that get latents."""
    parts = cut(document.text, word)
    for number in range(word.given, len(parts)):
        prefix = "".join(parts[max(0, number - word.prefix) : number])
        if parts[number].strip():
            yield Piece(document, number, prefix, parts[number])


def marked(text: str) -> bool:
    """Whether a text holds a sign that stands around latents."""
    return any(sign in text for sign in SIGNS)


def with_prior(piece: Piece, latent: str) -> str:
    """Think, then write."""
    return f"{piece.prefix}{BEGIN}{PRIOR}{latent}{END}{piece.text}"


def with_posterior(piece: Piece, latent: str) -> str:
    """Write, then say what was thought; the thought before it is empty."""
    return f"{piece.prefix}{BEGIN}{END}{piece.text}{BEGIN}{POSTERIOR}{latent}{END}"


def weights(logs: Sequence[float]) -> list[float]:
    """Normalised weights of log-weights: their softmax, the largest subtracted.

    Raises:
        ValueError: none is above minus infinity.
    """
    largest = max(logs)
    if largest == NEVER:
        raise ValueError("no sample has a weight")
    raised = [math.exp(log - largest) for log in logs]
    total = math.fsum(raised)
    return [one / total for one in raised]


def bound(logs: Sequence[float]) -> float:
    """ELBO of these samples: the log of the mean weight, in nats."""
    largest = max(logs)
    if largest == NEVER:
        return NEVER
    return largest + math.log(math.fsum(math.exp(log - largest) for log in logs) / len(logs))


def resampled(logs: Sequence[float], draw: float) -> int:
    """The place of one sample, drawn by the weights; `draw` is uniform from 0 to 1.

    Raises:
        ValueError: none has a weight.
    """
    share = weights(logs)
    left = draw
    for place, weight in enumerate(share):
        left -= weight
        if left < 0:
            return place
    return max(range(len(share)), key=share.__getitem__)


def _places(text: str, end: str) -> list[int]:
    """Places after every occurrence of `end`."""
    found = []
    at = text.find(end)
    while at >= 0:
        found.append(at + len(end))
        at = text.find(end, at + len(end))
    return found
