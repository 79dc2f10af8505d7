"""Exact deduplication: of documents with the same text, the first is kept.

Longpre et al., A Pretrainer's Guide to Training Data, arXiv:2305.13169, section 2 (the filters
that its corpora have been through); the rule itself is common.

    key(text) = xxh3_128(text, case folded, every run of white space made one blank)
    keep document i  <=>  no j < i with key(j) = key(i)

Memory: 16 bytes a document. Two different texts share a key with a probability of about
n^2 / 2^129 for n documents, 1e-21 for a billion.

Differs from the paper: nothing is said there of what counts as equal; folding is our choice.
"""

from __future__ import annotations

import numpy as np
import xxhash

from graftwork.spec.dedup import ExactDedup
from graftwork_train.data.documents import Batch
from graftwork_train.data.stream import Arrays, Stream
from graftwork_train.selection.base import KEPT, Context, Verdicts, joined, select


@select.register
def exact_dedup(method: ExactDedup, documents: Stream, context: Context) -> Verdicts:
    """Keep first occurrences; the score is 1 for them and 0 for copies."""
    keys = joined([arrays["keys"] for arrays in documents.map(_keys, "hashing")], np.uint64)
    copies = np.ones(len(keys), dtype=bool)
    copies[_first_of_each(keys)] = False
    return Verdicts(
        scores=(~copies).astype(np.float32),
        codes=copies.astype(np.int16),
        reasons=(KEPT, "duplicate"),
    )


def _keys(batch: Batch) -> Arrays:
    """Keys: uint64 (documents, 2)."""
    digests = [xxhash.xxh3_128_digest(_folded(text).encode()) for text in batch.texts]
    return {"keys": np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2)}


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


def _first_of_each(
    keys: np.ndarray[tuple[int, int], np.dtype[np.uint64]],
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Positions of the first of each group of equal keys."""
    order = np.lexsort((keys[:, 1], keys[:, 0]))  # stable: equal keys stay in the stream's order
    ranked = keys[order]
    new = np.ones(len(keys), dtype=bool)
    new[1:] = (ranked[1:] != ranked[:-1]).any(axis=1)
    return order[new]
