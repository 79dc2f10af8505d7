"""Embedding deduplication: of documents that point in nearly one direction, the first is kept.

Abbas et al., SemDeDup: Data-efficient learning at web-scale through semantic deduplication,
arXiv:2303.09540, section 3.

    e(d)      = embedding, of length 1
    clusters  : spherical k-means, so that only documents of one cluster are compared
    drop i  <=>  there is a kept j < i of its cluster with cosine e(i) . e(j) >= threshold

Shapes: embeddings (documents, dimensions), compared by blocks of 1024 documents against what is
kept of the cluster. Memory: 4 bytes a dimension and document.

Differs from the paper: of a group of duplicates it keeps the one farthest from the cluster's
centre, here it is the first of the stream, as in every deduplication of this project. The embedding
is the mean last state of a model that the spec names, or of hashed words and pairs of words, which
sees wording and no meaning.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from graftwork.spec.dedup import EmbeddingDedup
from graftwork_train.data.scoring.embedding import Hashed, Pooled, Vectors, clustered, embeddings
from graftwork_train.data.stream import Stream
from graftwork_train.selection.base import KEPT, Context, Verdicts, select

BLOCK = 1024
PER_CLUSTER = 4000
# Cosines are sums of float32 products; equal texts must be equal whatever their block.
_ROUNDING = 1e-5


@select.register
def embedding_dedup(method: EmbeddingDedup, documents: Stream, context: Context) -> Verdicts:
    """Keep the first of like documents; the score is 1 less the highest cosine to a kept one."""
    if method.model is None:
        vectors, spent = embeddings(documents, Hashed(method.dimensions))
    else:
        torch.set_num_threads(context.cores)
        device = "cuda" if context.gpu and torch.cuda.is_available() else "cpu"
        vectors, spent = embeddings(documents, Pooled.load(context.folder("model"), device))
    count = min(method.clusters or -(-len(vectors) // PER_CLUSTER), len(vectors))
    clusters = clustered(vectors, count)
    likeness = np.zeros(len(vectors), np.float32)
    for number in range(count):
        places = np.flatnonzero(clusters == number)
        likeness[places] = _likeness(vectors[places], method.threshold - _ROUNDING)
        context.progress(number + 1, count, "clusters")
    copies = likeness >= method.threshold - _ROUNDING
    return Verdicts(
        scores=np.float32(1) - likeness,
        codes=copies.astype(np.int16),
        reasons=(KEPT, "near_duplicate"),
        metrics={"clusters": float(count), **spent},
    )


def _likeness(vectors: Vectors, threshold: float) -> npt.NDArray[np.float32]:
    """Each vector's highest cosine to an earlier one that is kept; 0 without one."""
    kept = np.zeros_like(vectors)
    count = 0
    likeness = np.zeros(len(vectors), np.float32)
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK]
        best = (block @ kept[:count].T).max(axis=1, initial=0)
        own = block @ block.T
        here: list[int] = []
        for place in range(len(block)):
            best[place] = max(best[place], own[place, here].max(initial=0))
            if best[place] < threshold:
                here.append(place)
        kept[count : count + len(here)] = block[here]
        count += len(here)
        likeness[start : start + BLOCK] = best
    return likeness
