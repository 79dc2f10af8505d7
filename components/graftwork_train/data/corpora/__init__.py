"""Where text comes from: one file per source, found by the class of its word."""

from graftwork_train.data.corpora import (
    arithmetic,
    artifact,
    huggingface,
    jsonl,
    parquet,
    reviews,
    stdlib,
    text,
)
from graftwork_train.data.corpora.base import Part, documents, parts, read

__all__ = [
    "Part",
    "arithmetic",
    "artifact",
    "documents",
    "huggingface",
    "jsonl",
    "parquet",
    "parts",
    "read",
    "reviews",
    "stdlib",
    "text",
]
