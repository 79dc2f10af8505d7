"""Less is More: within a group, keep exemplars and drop what is within some bits of one.

Wolf et al., Less is More: Selective Reduction of CT Data for Self-Supervised Pre-Training of Deep
Learning Models with Contrastive Learning, arXiv:2410.14524, section 2.

    hash of an image   its 64-bit difference hash: grey, reduced to 9 x 8, bit = a pixel is brighter
                       than its left neighbour
    in each volume, in the order of its slices: the first that is left is kept; all that are left
    and differ from it in at most 6 bits are dropped; and so on

An image is a document whose text is a plain PGM (`P2`, width, height, maximum, then the pixels),
so that slices flow like other documents; anything else is dropped as `not_an_image`. The group is a
field of the metadata. `every: n` is the paper's control, each n-th slice.

Differs from the paper: on text (ours, `hash: simhash`) the hash is the SimHash of pairs of words
and the group the domain. Images are reduced by the means of areas, where the paper's library
resamples; its comparisons by SSIM, mutual information and deep features are not here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from graftwork.spec.dedup import HashCover
from graftwork_train.data.documents import Batch, Document
from graftwork_train.data.scoring.bits import BITS, cover, dhash, plain_image, simhashes
from graftwork_train.data.stream import Arrays, Stream
from graftwork_train.selection.base import KEPT, Context, Verdicts, joined, select

REASONS = (KEPT, "near_an_exemplar", "not_an_image", "between_the_nth")
_COVERED, _NO_IMAGE, _BETWEEN = 1, 2, 3
_NGRAM = 2


@select.register
def hash_cover(method: HashCover, documents: Stream, context: Context) -> Verdicts:
    """Keep exemplars; the score is the share of bits in which a document differs from its one."""
    parts = list(documents.map(_Sign(method), "hashing"))
    hashes = joined([arrays["hashes"] for arrays in parts], np.uint64)
    groups = joined([arrays["groups"] for arrays in parts], np.uint64)
    codes = joined([arrays["codes"] for arrays in parts], np.int16)
    scores = np.ones(len(codes), np.float32)
    readable = np.flatnonzero(codes == 0)
    for places in _by_group(groups, readable):
        if method.every is not None:
            codes[places[np.arange(len(places)) % method.every > 0]] = _BETWEEN
            continue
        exemplars = places[cover(hashes[places], method.distance)]
        covered = exemplars != places
        codes[places[covered]] = _COVERED
        apart = np.bitwise_count(hashes[places] ^ hashes[exemplars]) / BITS
        scores[places[covered]] = apart[covered]
    return Verdicts(scores, codes, REASONS, {"groups": float(len(np.unique(groups)))})


@dataclass(frozen=True, slots=True)
class _Sign:
    """Hashes, groups and codes of a batch, (documents,) each."""

    method: HashCover

    def __call__(self, batch: Batch) -> Arrays:
        groups = [xxhash.xxh3_64_intdigest(self._group(one).encode()) for one in batch.documents]
        hashes, codes = self._hashes(batch.texts)
        return {"groups": np.array(groups, np.uint64), "hashes": hashes, "codes": codes}

    def _group(self, document: Document) -> str:
        if self.method.group_by is None:
            return document.domain
        return document.metadata.get(self.method.group_by, "")

    def _hashes(self, texts: list[str]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int16]]:
        if self.method.hash == "simhash":
            return simhashes(texts, _NGRAM), np.zeros(len(texts), np.int16)
        images = [plain_image(text) for text in texts]
        codes = [_NO_IMAGE if image is None else 0 for image in images]
        hashes = [0 if image is None else dhash(image) for image in images]
        return np.array(hashes, np.uint64), np.array(codes, np.int16)


def _by_group(
    groups: npt.NDArray[np.uint64], some: npt.NDArray[np.int64]
) -> list[npt.NDArray[np.int64]]:
    """Positions of each group's documents among `some`, in the stream's order."""
    if not len(some):
        return []
    order = some[np.argsort(groups[some], kind="stable")]
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
