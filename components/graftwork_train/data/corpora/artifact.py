"""Documents that an earlier `select` stage chose: read like a corpus, ids and domains as there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow.parquet as pq

from graftwork import store
from graftwork.spec.resources import Storage
from graftwork_train.data.corpora import parquet
from graftwork_train.data.corpora.base import Part, file_parts, parts, read
from graftwork_train.data.documents import Broken, Document, Item

FOLDER = "documents"


@dataclass(frozen=True, slots=True)
class DocumentsArtifact:
    """A documents artifact at `uri`. Not one of its rows may be broken: we wrote them."""

    uri: str
    broken_limit: float = 0.0


@parts.register
def artifact_parts(corpus: DocumentsArtifact, name: str, storage: Storage) -> list[Part]:
    """Every file is a piece."""
    return file_parts(name, f"{corpus.uri.rstrip('/')}/{FOLDER}", storage, (".parquet",))


@read.register
def read_artifact(corpus: DocumentsArtifact, part: Part, storage: Storage) -> Iterator[Item]:
    """The file's rows as the documents that were written."""
    try:
        with store.open_file(part.url, "rb", storage) as file:
            for batch in pq.ParquetFile(file).iter_batches(512):
                for row in batch.to_pylist():
                    kept = json.loads(row["metadata"])
                    yield Document(row["id"], row["text"], row["domain"], kept)
    except parquet.DAMAGE as error:
        yield Broken("not_readable", part.url, str(error).splitlines()[0], "file")
