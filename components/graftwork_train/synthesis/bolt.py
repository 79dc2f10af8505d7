"""BoLT: what a text leaves unsaid is written down, and a model learns to do so by itself.

"Reasoning to Learn from Latent Thoughts", arXiv:2503.18866, sections 3 and 4. Documents are cut
into pieces x of some sentences, each with the pieces before it as a prefix c. A latent z stands

    before   c <latent><prior> z </latent> x                       p(z, x | c)
    after    c <latent></latent> x <latent><posterior> z </latent>   q(z | x, c)

in every other piece at random. Warm start: a writer is asked for z. E-step: K latents are drawn
from q by the model so far, weighed by w = p(z, x | c) / q(z | x, c), and one is kept with a
probability that goes with w. M-step: `continue` from the base model, never from the one that
sampled, on what was kept.

As in the paper, but for what is learned from: the prefix counts in the loss as the rest does. The
prompt is our own. A sample without an end, or with another sign in it, has the weight 0, with which
the bound stays one. Documents that hold a sign of latents are left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import count, islice

import xxhash

from graftwork.spec.latents import Bolt
from graftwork_train.synthesis import _prompts
from graftwork_train.synthesis._latents import (
    NEVER,
    Piece,
    bound,
    marked,
    pieces,
    resampled,
    weights,
    with_posterior,
    with_prior,
)
from graftwork_train.synthesis._thinking import Thinker, Thoughts
from graftwork_train.synthesis.base import Ask, Desk, Document, Documents, synthesize

_AT_ONCE, _FIRST = 64, 4


@synthesize.register
def bolt(method: Bolt, documents: Documents, desk: Desk) -> Iterator[Document]:
    """Pieces with their latents, each a document with its prefix."""
    if method.latents == "written":
        asked: deque[Piece] = deque()
        for _, answer in desk.ask(_asks(method, documents, desk, asked)):
            piece = asked.popleft()
            if answer.reason == "ok":
                yield _made(method, piece, answer.text.strip(), desk, "written")
        return
    thinker = desk.think()
    told = _Told()
    for turn in count():
        before = thinker.passed
        yield from _turn(method, documents, desk, thinker, turn, told)
        if thinker.passed == before or thinker.passed >= _tokens(method):
            break
    desk.flops = thinker.flops
    told.report(desk, thinker.passed)


def fits(answer: str) -> str:
    """`ok`, or what is wrong with a written latent."""
    return "holds_signs" if marked(answer) else "ok"


class _Told:
    """What the record says of an E-step."""

    def __init__(self) -> None:
        self.pieces = self.samples = self.unfinished = 0
        self.whole = self.effective = 0.0

    def add(self, thoughts: Thoughts) -> None:
        """Count one piece's samples, one of which has a weight."""
        self.pieces += 1
        self.samples += len(thoughts.logs)
        self.unfinished += sum(log == NEVER for log in thoughts.logs)
        self.whole += bound(thoughts.logs)
        self.effective += 1 / sum(weight**2 for weight in weights(thoughts.logs))

    def report(self, desk: Desk, passed: int) -> None:
        """Means over pieces, in nats, and the tokens."""
        each = max(1, self.pieces)
        desk.metrics |= {
            "elbo": self.whole / each,
            "effective_samples": self.effective / each,
            "unfinished_share": self.unfinished / max(1, self.samples),
            "tokens_passed": float(passed),
        }
        desk.notes.append(
            f"{self.pieces:,} pieces were thought about, over {passed:,} tokens; of "
            f"{self.samples:,} samples {self.unfinished:,} had no end."
        )


def _turn(
    method: Bolt, documents: Documents, desk: Desk, thinker: Thinker, turn: int, told: _Told
) -> Iterator[Document]:
    """One pass over the documents, or as much of it as the budget pays for."""
    fitting = _fitting(method, documents, desk, thinker, turn)
    size = _FIRST
    while some := list(islice(fitting, size)):
        marks = [f"{desk.seed}\0{one.document.id}\0{one.number}\0{turn}" for one in some]
        seeds = [[_seed(f"{mark}\0{k}") for k in range(method.samples)] for mark in marks]
        for piece, mark, found in zip(
            some, marks, thinker.think(some, method.samples, seeds), strict=True
        ):
            if max(found.logs) == NEVER:
                desk.counts["no_latent"] += 1
                continue
            told.add(found)
            kept = resampled(found.logs, _seed(mark) / 2**63)
            yield _made(method, piece, found.latents[kept], desk, f"sampled-{turn}")
        left = _tokens(method) - thinker.passed
        if left <= 0:
            return
        tried = told.pieces + desk.counts["no_latent"]
        size = max(1, min(_AT_ONCE, int(left * tried / thinker.passed)))


def _fitting(
    method: Bolt, documents: Documents, desk: Desk, thinker: Thinker, turn: int
) -> Iterator[Piece]:
    for piece in _pieces(method, documents, desk, "thinking", turn):
        if thinker.fits(piece):
            yield piece
        elif not turn:
            desk.counts["too_long"] += 1


def _pieces(
    method: Bolt, documents: Documents, desk: Desk, doing: str, turn: int = 0
) -> Iterator[Piece]:
    """All pieces; what is left out is counted in the first turn alone."""
    for batch in documents.batches(doing):
        for document in batch.documents:
            if not marked(document.text):
                yield from pieces(document, method)
            elif not turn:
                desk.counts["holds_signs"] += 1


def _asks(method: Bolt, documents: Documents, desk: Desk, asked: deque[Piece]) -> Iterator[Ask]:
    for piece in _pieces(method, documents, desk, "asking"):
        text = f"{piece.prefix.strip() or '(nothing)'}\n\nPassage:\n{piece.text.strip()}"
        asked.append(piece)
        yield _prompts.ask("latent", text, piece.document, piece.number, fits)


def _made(method: Bolt, piece: Piece, latent: str, desk: Desk, how: str) -> Document:
    """The document of a piece and its latent, in one of the two formats."""
    shares = {"prior": 1 - method.posterior, "posterior": method.posterior}
    form = _prompts.drawn(shares, f"{desk.seed}\0{piece.document.id}\0{piece.number}\0{how}\0form")
    text = (with_prior if form == "prior" else with_posterior)(piece, latent)
    origin = piece.document
    known = {
        "source": origin.id,
        "source_domain": origin.domain,
        "style": form,
        "latent": how.partition("-")[0],
        "prompt": _prompts.digest("latent") if how == "written" else "",
        "writer": desk.writer,
    }
    kept = {name: value for name, value in origin.metadata.items() if name not in known}
    place = f"{form}-{piece.number}-{how}"
    return Document(f"{origin.id}#{place}", text, "synthetic", {**kept, **known})


def _tokens(method: Bolt) -> float:
    if method.budget is None:
        raise AssertionError("the word asks for a budget where latents are sampled")
    return method.budget.amount


def _seed(mark: str) -> int:
    return xxhash.xxh3_64_intdigest(mark.encode()) % 2**63
