"""Documents as directions: sums of hashed words and pairs, or a model's mean last state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from graftwork_train.data.documents import Batch
from graftwork_train.data.scoring.hashing import mix, ngram_hashes, word_hashes
from graftwork_train.data.scoring.passes import forward_flops
from graftwork_train.data.stream import Arrays, Stream
from graftwork_train.data.tokenizer import load_encoder
from graftwork_train.nn import Decoder, load_model

Vectors = npt.NDArray[np.float32]

# Of a document, a model reads this many tokens.
READ_TOKENS = 512
_CHARACTERS = 8 * READ_TOKENS


@dataclass(frozen=True, slots=True)
class Hashed:
    """Embeds by hashed words and pairs: each adds 1 or -1 to one dimension.

    Inner products estimate those of the counts (Weinberger et al. 2009, arXiv:0902.2206); counts
    enter by their square roots, so that a document is not its most frequent word.
    """

    dimensions: int
    word_ngrams: int = 2

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """float32 (texts, dimensions), of length 1; zeros for a text without words."""
        words, offsets = word_hashes(texts)
        sums = np.zeros(len(texts) * self.dimensions)
        for size in range(1, self.word_ngrams + 1):
            hashes, starts = ngram_hashes(words, offsets, size)
            owner = np.repeat(np.arange(len(texts), dtype=np.uint64), np.diff(starts))
            _, first, counts = np.unique(
                mix(hashes + owner * np.uint64(0x9E3779B97F4A7C15)),
                return_index=True,
                return_counts=True,
            )
            chosen = hashes[first]
            places = owner[first].astype(np.int64) * self.dimensions
            places += (chosen % np.uint64(self.dimensions)).astype(np.int64)
            signs = 1.0 - 2.0 * (chosen >> np.uint64(63)).astype(np.float64)
            sums += np.bincount(places, signs * np.sqrt(counts), len(sums))
        return unit(sums.reshape(len(texts), self.dimensions))


@dataclass(frozen=True, slots=True, eq=False)
class Pooled:
    """Embeds by the mean of a model's last states over a document's first tokens."""

    # Neither is compared: which model it is, its artifact says.
    model: Decoder = field(compare=False)
    encode: Callable[[Sequence[str]], Sequence[npt.NDArray[np.int64]]] = field(compare=False)

    @classmethod
    def load(cls, folder: Path, device: str) -> Pooled:
        """The model and the tokenizer in a folder.

        Raises:
            graftwork.errors.RunError: the tokenizer cannot be read.
        """
        encoder = load_encoder(folder)
        return cls(load_model(folder).to(device).eval(), encoder.each)

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """float32 (texts, width), of length 1; zeros for a text without tokens."""
        return self.read(texts)[0]

    @torch.no_grad()
    def read(self, texts: Sequence[str]) -> tuple[Vectors, int]:
        """The same, and the positions that the model went over."""
        device = next(self.model.parameters()).device
        most = min(READ_TOKENS, self.model.context)
        found = np.zeros((len(texts), self.model.architecture.width), np.float32)
        positions = 0
        for place, ids in enumerate(self.encode([text[:_CHARACTERS] for text in texts])):
            if len(ids) and int(ids.max()) < self.model.vocab:
                row = torch.from_numpy(ids[:most].astype(np.int64))[None].to(device)
                positions += row.shape[1]
                found[place] = self.model(row).hidden_BTD[0].float().mean(dim=0).cpu().numpy()
        return unit(found), positions


@dataclass(frozen=True, slots=True)
class _OfBatch:
    """Embeddings of a batch, and the positions that a model went over for them."""

    embed: Hashed | Pooled

    def __call__(self, batch: Batch) -> Arrays:
        if isinstance(self.embed, Hashed):
            return {"vectors": self.embed(batch.texts)}
        vectors, positions = self.embed.read(batch.texts)
        return {"vectors": vectors, "positions": np.array([positions])}


def embeddings(documents: Stream, embed: Hashed | Pooled) -> tuple[Vectors, dict[str, float]]:
    """Embeddings of all documents, float32 (documents, dimensions), and their cost as a metric.

    Hashed words are embedded by the pool's workers, a model's states in this process, which is
    the one that holds the model.
    """
    parts = list(documents.map(_OfBatch(embed), "embedding", here=not isinstance(embed, Hashed)))
    vectors = np.concatenate([arrays["vectors"] for arrays in parts])
    if isinstance(embed, Hashed):
        return vectors, {}
    positions = sum(int(arrays["positions"].sum()) for arrays in parts)
    return vectors, {"scoring_flops": forward_flops(embed.model, positions)}


def unit(vectors: npt.NDArray[np.floating]) -> Vectors:
    """Rows divided by their lengths; rows of zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Vectors = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return found


def clustered(
    vectors: Vectors, count: int, rounds: int = 8, sample: int = 20_000
) -> npt.NDArray[np.int64]:
    """Cluster of each vector by spherical k-means; what is equal is in one cluster.

    Args:
        vectors: (n, dimensions), of length 1.
        count: Clusters.
        rounds: Passes over the sample.
        sample: Vectors that the centres are made from.

    Returns:
        int64 (n,).
    """
    if count == 1:
        return np.zeros(len(vectors), np.int64)
    generator = np.random.default_rng(0xC1)
    some = vectors[generator.permutation(len(vectors))[:sample]]
    centres = some[:count].copy()
    for _ in range(rounds):
        own = (some @ centres.T).argmax(axis=1)
        sums = np.zeros_like(centres)
        np.add.at(sums, own, some)
        centres = np.where(sums.any(axis=1, keepdims=True), unit(sums), centres)
    blocks = [vectors[at : at + 8192] for at in range(0, len(vectors), 8192)]
    return np.concatenate([(block @ centres.T).argmax(axis=1) for block in blocks])
