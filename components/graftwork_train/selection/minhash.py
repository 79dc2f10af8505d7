"""MinHash deduplication with banding: of near duplicates, the first is kept.

Lee et al., Deduplicating Training Data Makes Language Models Better, arXiv:2107.06499, section 4.2
and appendix A.

    shingles(d)  = hashes of all runs of `ngram` words
    signature(d) = (min over shingles s of h_k(s)),  k = 1 .. bands * rows
    candidates   : two documents that agree on all `rows` values of at least one band
    similarity   = share of the signature's values on which two documents agree, which estimates
                   the Jaccard index of their shingles
    drop i  <=>  there is a kept candidate j < i with similarity >= threshold

h_k(s) = a_k * s + b_k modulo 2**64 with odd a_k, of which the upper 32 bits are kept. Two
documents of Jaccard index J become candidates with probability 1 - (1 - J^rows)^bands.
Memory: (4 * rows + 8) * bands bytes a document, 560 by default.

Differs from the paper: it takes the hashes of tokens, clusters all matches transitively and checks
their edit similarity; here a document is dropped for its likeness to one that is kept, never by a
chain of ever less alike ones.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from graftwork.spec.dedup import MinHash
from graftwork_train.data.documents import Batch
from graftwork_train.data.scoring.hashing import Hashes, mix, shingle_hashes, stretches, word_hashes
from graftwork_train.data.stream import Arrays, Stream
from graftwork_train.selection.base import KEPT, Context, Verdicts, joined, select

_Signatures = npt.NDArray[np.uint32]


@select.register
def minhash(method: MinHash, documents: Stream, context: Context) -> Verdicts:
    """Keep the first of near duplicates; the score is 1 less the likeness to what is kept."""
    sign = _Sign(method.ngram, method.bands * method.rows)
    parts = [arrays["signatures"] for arrays in documents.map(sign, "hashing")]
    signatures = joined(parts, np.uint32)
    likeness = _likeness(signatures, method.bands, method.rows, method.threshold)
    copies = likeness >= method.threshold
    return Verdicts(
        scores=(1 - likeness).astype(np.float32),
        codes=copies.astype(np.int16),
        reasons=(KEPT, "near_duplicate"),
    )


@dataclass(frozen=True, slots=True)
class _Sign:
    """_Signatures of a batch: uint32 (documents, size)."""

    ngram: int
    size: int

    def __call__(self, batch: Batch) -> Arrays:
        shingles, offsets = shingle_hashes(*word_hashes(batch.texts), self.ngram)
        signatures = np.full((len(batch.documents), self.size), 2**32 - 1, np.uint32)
        permutations = _permutations(self.size)
        for some, here, starts in stretches(shingles, offsets):
            hashed = np.empty_like(some)
            for place, (a, b) in enumerate(permutations):
                np.multiply(some, a, out=hashed)
                hashed += b
                smallest = np.minimum.reduceat(hashed, starts) >> np.uint64(32)
                signatures[here, place] = np.minimum(signatures[here, place], smallest)
        return {"signatures": signatures}


def _permutations(size: int) -> Hashes:
    draws = np.random.default_rng(0xD0C5).integers(0, 2**64, (size, 2), dtype=np.uint64)
    draws[:, 0] |= np.uint64(1)
    return draws


def _likeness(
    signatures: _Signatures, bands: int, rows: int, threshold: float
) -> npt.NDArray[np.float64]:
    """Each document's highest similarity to an earlier candidate that is kept; 0 without one."""
    keys = _band_keys(signatures, bands, rows)
    likeness = np.zeros(len(signatures))
    kept: defaultdict[int, list[int]] = defaultdict(list)
    # Only documents that share a band with another one can be dropped or be a reason to drop.
    for one in np.flatnonzero(_shared(keys)).tolist():
        own = keys[one].tolist()
        candidates = sorted({other for key in own for other in kept.get(key, ())})
        if candidates:
            likeness[one] = (signatures[candidates] == signatures[one]).mean(axis=1).max()
        if likeness[one] < threshold:
            for key in own:
                kept[key].append(one)
    return likeness


def _band_keys(signatures: _Signatures, bands: int, rows: int) -> Hashes:
    """One hash for each band, the band's number mixed in: uint64 (documents, bands)."""
    keys = np.broadcast_to(np.arange(bands, dtype=np.uint64), (len(signatures), bands)).copy()
    for row in range(rows):
        values = signatures[:, row::rows][:, :bands].astype(np.uint64)
        keys = mix(keys * np.uint64(0x9E3779B97F4A7C15) + values)
    return keys


def _shared(keys: Hashes) -> npt.NDArray[np.bool_]:
    """Documents with a band key that another document has too."""
    shared = np.zeros(len(keys), dtype=bool)
    for column in keys.T:
        _, inverse, counts = np.unique(column, return_inverse=True, return_counts=True)
        shared |= counts[inverse] > 1
    return shared
