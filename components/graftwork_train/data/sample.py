"""A sample of documents, spread evenly over the domains, whatever their order."""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass, field

import xxhash

from graftwork_train.data.stream import Stream

# A longer text is represented by its beginning, so that one document is not the whole sample.
LONGEST = 1_000_000


@dataclass(slots=True)
class _Bowl:
    """Texts of one domain with the lowest hashes, up to a size in bytes."""

    size: int = 0
    texts: list[tuple[int, str]] = field(default_factory=list)  # a heap, highest hash first

    def add(self, mark: int, text: str) -> None:
        heapq.heappush(self.texts, (-mark, text))
        self.size += len(text)

    def shrink(self, size: int) -> None:
        while self.size > size and len(self.texts) > 1:
            self.size -= len(heapq.heappop(self.texts)[1])


def sample_texts(stream: Stream, size: int) -> list[str]:
    """Texts of about `size` characters in all, the domains' shares as even as they can be."""
    return [text for texts in sample_by_domain(stream, size).values() for text in texts]


def sample_by_domain(stream: Stream, size: int) -> dict[str, list[str]]:
    """By domain, texts of about `size` characters in all, the shares as even as they can be.

    Of every domain those texts are taken whose hashes are lowest, so neither the order of the
    documents nor the number of workers matters. At most `size` characters are held, and one text
    more for each domain.
    """
    bowls: dict[str, _Bowl] = defaultdict(_Bowl)
    for batch in stream.batches("sampling"):
        for document in batch.documents:
            mark = xxhash.xxh3_64_intdigest(document.text.encode())
            bowl = bowls[document.domain]
            bowl.add(mark, document.text[: min(LONGEST, size)])
        for bowl in bowls.values():
            bowl.shrink(size // len(bowls))
    return {
        domain: [text for _, text in sorted(bowls[domain].texts, key=lambda pair: -pair[0])]
        for domain in sorted(bowls)
    }
