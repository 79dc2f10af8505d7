"""SimHash deduplication: of documents whose 64-bit hashes differ in few bits, the first is kept.

Albalak et al., A Survey on Data Selection for Language Models, arXiv:2402.16827, on data
deduplication; the hash is Charikar's (STOC 2002), the search for near ones by bands of bits that
of Manku et al. (WWW 2007).

    bit b of hash(d) = majority over d's runs of `ngram` words w of bit b of h(w)
    drop i  <=>  there is a kept j < i with popcount(hash(i) xor hash(j)) <= distance

Two documents whose counts of features make an angle a differ in 64 a / pi bits on average.
Memory: 8 bytes a document, and some 100 for each one that is kept.

Differs from the paper: it surveys the method and sets no parameters. Distance 3 is that of Manku et
al.; features are runs of words, each occurrence counted, without weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graftwork.spec.dedup import SimHash
from graftwork_train.data.documents import Batch
from graftwork_train.data.scoring.bits import BITS, cover, simhashes
from graftwork_train.data.stream import Arrays, Stream
from graftwork_train.selection.base import KEPT, Context, Verdicts, joined, select


@select.register
def simhash(method: SimHash, documents: Stream, context: Context) -> Verdicts:
    """Keep the first of near duplicates; the score is the share of bits that differ, 1 if kept."""
    parts = [arrays["hashes"] for arrays in documents.map(_Sign(method.ngram), "hashing")]
    hashes = joined(parts, np.uint64)
    exemplars = cover(hashes, method.distance)
    copies = exemplars != np.arange(len(hashes))
    apart = np.bitwise_count(hashes ^ hashes[exemplars]) / BITS
    return Verdicts(
        scores=np.where(copies, apart, 1.0).astype(np.float32),
        codes=copies.astype(np.int16),
        reasons=(KEPT, "near_duplicate"),
    )


@dataclass(frozen=True, slots=True)
class _Sign:
    """Hashes of a batch: uint64 (documents,)."""

    ngram: int

    def __call__(self, batch: Batch) -> Arrays:
        return {"hashes": simhashes(batch.texts, self.ngram)}
