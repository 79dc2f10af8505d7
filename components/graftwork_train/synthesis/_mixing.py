"""Synthetic and real text in given shares of tokens, streamed.

What is ahead of its share waits, up to a bound; what waits beyond it, or at the end, is left out
and counted. So the shares hold to within one document at any moment, whatever the writer's length.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator

from graftwork_train.data.documents import Document
from graftwork_train.synthesis._text import tokens

WAITING_TOKENS = 2_000_000


class Mixer:
    """Takes documents of both kinds as they come and gives them back in their shares.

    Args:
        synthetic: Share of the synthetic tokens, above 0 and at most 1.

    Attributes:
        written: Tokens given back, by kind (True is synthetic).
        left_out: Documents left out, by kind.
    """

    def __init__(self, synthetic: float) -> None:
        self._share = {True: synthetic, False: 1 - synthetic}
        self._waiting: dict[bool, deque[tuple[int, Document]]] = {True: deque(), False: deque()}
        self._held = Counter({True: 0, False: 0})
        self.written = Counter({True: 0, False: 0})
        self.left_out = Counter({True: 0, False: 0})

    def add(self, document: Document, *, synthetic: bool) -> Iterator[Document]:
        """Take one document; gives those whose turn it is."""
        size = max(1, tokens(document.text))
        if not self._share[synthetic] or self._held[synthetic] + size > WAITING_TOKENS:
            self.left_out[synthetic] += 1
        else:
            self._waiting[synthetic].append((size, document))
            self._held[synthetic] += size
        yield from self._due()

    def finish(self) -> None:
        """Count what still waits as left out."""
        for kind, waiting in self._waiting.items():
            self.left_out[kind] += len(waiting)
            waiting.clear()

    def share(self) -> float:
        """Share of the synthetic tokens in what was given back."""
        return self.written[True] / max(1, self.written.total())

    def next_kind(self) -> bool:
        """The kind that is behind its share; the other waits for it."""
        lag = self.written[True] * self._share[False] - self.written[False] * self._share[True]
        return lag <= 0

    def _due(self) -> Iterator[Document]:
        while True:
            kind = self.next_kind()
            if not self._waiting[kind]:
                return
            size, document = self._waiting[kind].popleft()
            self._held[kind] -= size
            self.written[kind] += size
            yield document


def mixed(
    real: Iterable[Document], synthetic: Iterable[Document], mixer: Mixer
) -> Iterator[Document]:
    """Two streams in the mixer's shares: of the one that is behind, a document is taken next.

    Ends where the mix cannot go on; what is left of the other stream is read and counted.
    """
    streams = {True: iter(synthetic), False: iter(real)}
    kind = True
    while (document := next(streams[kind], None)) is not None:
        yield from mixer.add(document, synthetic=kind)
        kind = mixer.next_kind()
    for other, stream in streams.items():
        mixer.left_out[other] += sum(1 for _ in stream)
    mixer.finish()
