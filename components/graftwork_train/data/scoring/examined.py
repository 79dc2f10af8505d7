"""A sample of documents that models score, and, apart from it, text for models to learn from."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import xxhash

from graftwork_train.data.stream import Stream

# Of every document, models read this much; it is the same for all models.
READ_CHARACTERS = 512
LEARN_CHARACTERS = 8_000_000


@dataclass(frozen=True, slots=True)
class Examined:
    """Texts by the hashes of their documents, so that no order of the corpus shows.

    Attributes:
        scored: Texts for the models to score, whole.
        learned: Text for models to learn from, none of it in `scored`.
    """

    scored: list[str]
    learned: list[str]


def examine(stream: Stream, sample: int, *, learn: bool) -> Examined:
    """Draw `sample` documents to be scored and, if `learn`, others to learn from.

    With `learn`, documents whose hash is in the upper half are learned from and never scored: a
    model that has seen a document ranks it by memory.
    """
    scored: list[tuple[int, str]] = []  # heaps, highest hash first
    learned: list[tuple[int, str]] = []
    size = 0
    for mark, text in _marked(stream):
        if learn and mark >= 2**63:
            heapq.heappush(learned, (-mark, text))
            size += len(text)
            while size > LEARN_CHARACTERS and len(learned) > 1:
                size -= len(heapq.heappop(learned)[1])
        else:
            heapq.heappush(scored, (-mark, text))
            if len(scored) > sample:
                heapq.heappop(scored)
    return Examined(_in_order(scored), _in_order(learned))


def _marked(stream: Stream) -> Iterator[tuple[int, str]]:
    for batch in stream.batches("sampling"):
        for document in batch.documents:
            yield xxhash.xxh3_64_intdigest(document.text.encode()), document.text


def _in_order(heap: list[tuple[int, str]]) -> list[str]:
    return [text for _, text in sorted(heap, key=lambda pair: (-pair[0], pair[1]))]
