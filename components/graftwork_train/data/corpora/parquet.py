"""Parquet: one document a row, read a batch of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from graftwork import store
from graftwork.spec.data import ParquetCorpus
from graftwork.spec.resources import Storage
from graftwork_train.data.corpora.base import Part, file_parts, parts, read
from graftwork_train.data.corpora.fields import Fields, columns, to_document
from graftwork_train.data.documents import Broken, Item

SUFFIXES = (".parquet",)
ROWS = 512

# pyarrow tells damage in a file as an error of its own or of the operating system.
DAMAGE = (OSError, pa.ArrowException)


@parts.register
def parquet_parts(corpus: ParquetCorpus, name: str, storage: Storage) -> list[Part]:
    """Every file is a piece."""
    return file_parts(name, corpus.uri, storage, SUFFIXES)


@read.register
def read_parquet(corpus: ParquetCorpus, part: Part, storage: Storage) -> Iterator[Item]:
    """The file's rows as documents."""
    yield from read_table(corpus, part, storage)


def read_table(corpus: Fields, part: Part, storage: Storage) -> Iterator[Item]:
    """The rows of one Parquet file; `corpus` says which column is what."""
    row = 0
    try:
        with store.open_file(part.url, "rb", storage) as file:
            table = pq.ParquetFile(file)
            names = table.schema_arrow.names
            missing = [name for name in columns(corpus) if name not in names]
            if missing:
                yield missing_columns(part, missing, names)
                return
            for batch in table.iter_batches(ROWS, columns=columns(corpus)):
                yield from rows(corpus, part, batch, row)
                row += batch.num_rows
    except DAMAGE as error:
        what = str(error).splitlines()[0]
        yield Broken("not_readable", part.url, f"after row {row}: {what}", "file")


def missing_columns(part: Part, missing: list[str], names: list[str]) -> Broken:
    """What is wrong with a table that lacks columns."""
    lacks, has = ", ".join(missing), ", ".join(names) or "none"
    return Broken("no_column", part.url, f"no column {lacks}; the columns are {has}", "file")


def rows(corpus: Fields, part: Part, batch: pa.RecordBatch, start: int) -> Iterator[Item]:
    """The rows of a batch as documents, numbered from `start` + 1."""
    for number, record in enumerate(batch.to_pylist(), start=start + 1):
        yield to_document(corpus, record, f"{part.name}:{number}", part.corpus)
