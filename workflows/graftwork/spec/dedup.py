"""Words for deduplication: of documents that are alike by some measure, the first is kept."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from graftwork.spec.base import Method, ModelRef, Paper
from graftwork.units import Share


def _some_likeness(threshold: float) -> float:
    if not threshold:
        raise ValueError("0% makes duplicates of all documents; write for example 70%")
    return threshold


Likeness = Annotated[Share, AfterValidator(_some_likeness)]
"""From which two documents count as duplicates; above 0%."""


class ExactDedup(Method):
    """Keep the first of documents that are equal after white space and case are folded."""

    paper: ClassVar[Paper] = Paper(
        "A Pretrainer's Guide to Training Data", "2305.13169", "2", number="15"
    )
    name: Literal["exact_dedup"]


class MinHash(Method):
    """Keep the first of documents that are near duplicates by MinHash with banding."""

    paper: ClassVar[Paper] = Paper(
        "Deduplicating Training Data Makes Language Models Better", "2107.06499", "4.2"
    )
    name: Literal["minhash"]
    ngram: int = Field(default=5, ge=1)
    """Words in a shingle."""
    bands: int = Field(default=14, ge=1)
    """Bands of the signature; documents that agree on one band are candidates."""
    rows: int = Field(default=8, ge=1)
    """Hashes in a band."""
    threshold: Likeness = 0.7
    """Estimated Jaccard similarity from which two candidates count as duplicates."""


class SimHash(Method):
    """Keep the first of documents whose 64-bit SimHashes differ in few bits."""

    paper: ClassVar[Paper] = Paper(
        "A Survey on Data Selection for Language Models", "2402.16827", "data deduplication"
    )
    name: Literal["simhash"]
    ngram: int = Field(default=2, ge=1)
    """Words in a feature."""
    distance: int = Field(default=3, ge=0, le=16)
    """Bits in which two documents may differ and still count as duplicates."""


class EmbeddingDedup(Method):
    """Keep the first of documents whose embeddings point in nearly the same direction."""

    paper: ClassVar[Paper] = Paper(
        "SemDeDup: Data-efficient learning at web-scale through semantic deduplication",
        "2303.09540",
        "3",
    )
    name: Literal["embedding_dedup"]
    threshold: Likeness = 0.95
    """Cosine from which two documents count as duplicates."""
    model: ModelRef | None = None
    """Model whose mean last state is a document's embedding. Default: hashed words and pairs."""
    dimensions: int = Field(default=256, ge=16, le=8192)
    """Dimensions of the embedding of hashed words, where there is no `model`."""
    clusters: int | None = Field(default=None, ge=1)
    """Documents are compared within clusters. Default: one for each 4000 documents."""


class HashCover(Method):
    """Keep exemplars: within a group, drop all that are within some bits of one that is kept."""

    paper: ClassVar[Paper] = Paper(
        "Less is More: Selective Reduction of CT Data for Self-Supervised Pre-Training of Deep "
        "Learning Models with Contrastive Learning Improves Downstream Classification Performance",
        "2410.14524",
        "2",
        number="28",
    )
    name: Literal["hash_cover"]
    hash: Literal["simhash", "dhash"] = "simhash"
    """`simhash` of a text's words; `dhash` of an image, whose text is a plain PGM (`P2 ...`)."""
    distance: int = Field(default=6, ge=0, le=64)
    """Bits in which a document may differ from an exemplar that stands for it."""
    group_by: str | None = None
    """Metadata field whose value is the group, such as a volume. Default: the domain."""
    every: int | None = Field(default=None, ge=1)
    """The paper's control: keep each group's every n-th document, whatever its hash."""

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.every is not None and "distance" in self.model_fields_set:
            raise ValueError("every is the control without hashes; leave distance out")
        return self
