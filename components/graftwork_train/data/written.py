"""Writes the documents of an artifact, in parts that several workers can read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from graftwork_train.data.corpora.artifact import FOLDER
from graftwork_train.data.documents import Document

# A part is closed beyond this many characters, so that several workers can read the artifact.
PART_CHARACTERS = 256_000_000
_DOCUMENTS = pa.schema([(name, pa.string()) for name in ("id", "text", "domain", "metadata")])


class DocumentsWriter:
    """Writes documents in their order; close it.

    Args:
        out: Folder of the artifact.
        part_characters: Characters of a part at least, before the next begins.

    Attributes:
        documents: Documents written.
        size: Bytes of their texts.
    """

    def __init__(self, out: Path, part_characters: int = PART_CHARACTERS) -> None:
        self.documents = 0
        self.size = 0
        self._folder = out / FOLDER
        self._folder.mkdir()
        self._most = part_characters
        self._parts = 0
        self._characters = 0
        self._part: pq.ParquetWriter | None = None

    def add(self, documents: Sequence[Document]) -> None:
        """Append some documents."""
        if not documents:
            return
        if self._characters > self._most:
            self.close()
        if self._part is None:
            path = self._folder / f"part-{self._parts:05d}.parquet"
            self._part = pq.ParquetWriter(path, _DOCUMENTS, compression="zstd")
            self._parts += 1
            self._characters = 0
        self._characters += sum(len(document.text) for document in documents)
        self.documents += len(documents)
        self.size += sum(len(document.text.encode()) for document in documents)
        columns = {
            "id": [document.id for document in documents],
            "text": [document.text for document in documents],
            "domain": [document.domain for document in documents],
            "metadata": [json.dumps(dict(d.metadata), sort_keys=True) for d in documents],
        }
        self._part.write_table(pa.table(columns, _DOCUMENTS))

    def close(self) -> None:
        """Close the part that is open."""
        if self._part is not None:
            self._part.close()
            self._part = None
