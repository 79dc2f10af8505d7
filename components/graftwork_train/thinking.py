"""How likely pieces of documents are to a model, with a latent before each or without."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import xxhash

from graftwork.errors import RunError
from graftwork.spec.latents import Latents
from graftwork_train.data.documents import Document
from graftwork_train.data.tokenizer import Encoder
from graftwork_train.nn.transformer import Decoder
from graftwork_train.synthesis._latents import NEVER, Piece, bound, marked, pieces
from graftwork_train.synthesis._thinking import Thinker

_AT_ONCE = 64


@dataclass(slots=True)
class Measured:
    """Pieces that were measured.

    Attributes:
        pieces: How many.
        tokens: Their tokens.
        nats: Minus their log-probability, or its bound.
        thoughtless: Pieces all of whose samples were none, which count as a mere guess.
        left_out: Pieces and documents that have no room in the context, or hold signs.
    """

    pieces: int = 0
    tokens: int = 0
    nats: float = 0.0
    thoughtless: int = 0
    left_out: int = 0

    @property
    def each(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens

    def table(self, samples: int) -> dict[str, Any]:
        """For the report."""
        how = f"at most, by {samples} latents each" if samples else "without latents"
        columns = ["pieces", "tokens", "nats per token", "without a latent", "left out"]
        row = [self.pieces, self.tokens, self.each, self.thoughtless, self.left_out]
        return {"title": f"Pieces of documents, {how}", "columns": columns, "rows": [row]}


def measure(
    word: Latents, model: Decoder, encoder: Encoder, documents: Iterable[Document], seed: int
) -> Measured:
    """Minus log p(x | prefix) of the pieces, or minus ELBO_K, which is at least as large.

    A piece for which no latent came to an end counts as a guess among all tokens.

    Raises:
        RunError: no piece could be measured, or the tokenizer does not know the signs of latents.
    """
    thinker = Thinker(model, encoder, 1.0, word.tokens, weighs=bool(word.samples))
    found = Measured()
    fitting = _fitting(word, islice(documents, word.documents), thinker, found)
    while some := list(islice(fitting, _AT_ONCE)):
        for nats, length in _each(word, some, thinker, seed):
            found.pieces += 1
            found.tokens += length
            found.thoughtless += nats == NEVER
            found.nats -= thinker.guess(length) if nats == NEVER else nats
    if not found.pieces:
        raise RunError(
            f"no piece of these documents could be measured; {found.left_out:,} were left out",
            "Give documents of more than 'given' pieces that fit into the model's context, and say "
            "how they are cut: 'latents: {unit: ..., ends: ..., given: ...}'.",
        )
    return found


def _each(
    word: Latents, some: list[Piece], thinker: Thinker, seed: int
) -> Iterator[tuple[float, int]]:
    if not word.samples:
        yield from thinker.plain(some)
        return
    seeds = [
        [_seed(f"{seed}\0{one.document.id}\0{one.number}\0{k}") for k in range(word.samples)]
        for one in some
    ]
    for thoughts in thinker.think(some, word.samples, seeds):
        yield bound(thoughts.logs), thoughts.length


def _fitting(
    word: Latents, documents: Iterable[Document], thinker: Thinker, found: Measured
) -> Iterator[Piece]:
    for document in documents:
        if marked(document.text):
            found.left_out += 1
            continue
        for piece in pieces(document, word):
            if piece.prefix and thinker.fits(piece):
                yield piece
            else:
                found.left_out += 1


def _seed(mark: str) -> int:
    return xxhash.xxh3_64_intdigest(mark.encode()) % 2**63
