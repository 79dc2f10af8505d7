"""Ray Data, and nothing else of Ray: documents are read and worked on by a pool of workers.

Two operators in a row: the first reads files and gives blocks of documents, the second applies
the function to them. They are kept apart (by different demands on the CPU, or Ray would fuse
them), so that even one large file keeps all workers busy. Order is preserved.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import DataContext
from ray.exceptions import RayError

from graftwork.errors import GraftworkError, RunError
from graftwork_train.data.documents import Batch, Broken, Document
from graftwork_train.data.stream import Arrays, Function, Group

# Blocks between the two operators: small, so that a file is shared out while it is being read.
BLOCK_BYTES = 4 * 2**20
_FIELDS = ("id", "text", "domain", "metadata", "broken")
_BLOCK = pa.schema(
    [("group", pa.int64()), *((name, pa.large_string()) for name in ("corpus", *_FIELDS))]
)
_DONE = pa.schema([("summary", pa.large_string()), ("arrays", pa.large_binary())])


@dataclass(frozen=True, slots=True)
class Summary:
    """What the driver must know of a batch besides the function's arrays."""

    corpus: str
    group: int
    documents: int
    characters: int
    digest: int
    broken: tuple[Broken, ...]


def over_pool(groups: Sequence[Group], function: Function) -> Iterator[tuple[Summary, Arrays]]:
    """Read all groups and apply `function` to their batches, in order, on all of Ray's cores."""
    with _settings():
        known = ray.put(list(groups))
        numbers = ray.data.from_items(
            [{"group": number} for number in range(len(groups))],
            override_num_blocks=len(groups),
        )
        read: Any = _read  # Ray's types know no Arrow tables
        apply: Any = _apply
        blocks = numbers.map_batches(read, fn_args=[known], batch_size=1, num_cpus=0.5)
        done = blocks.map_batches(
            apply,
            fn_args=[function],
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=1,
        )
        try:
            table: Any
            for table in done.iter_batches(batch_size=None, batch_format="pyarrow"):
                for row in table.to_pylist():
                    yield _summary(row["summary"]), unpack(row["arrays"])
        except RayError as error:
            raise _cause(error) from error


def _cause(error: RayError) -> GraftworkError:
    """What a worker raised for the user; else what Ray knows of its end."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, GraftworkError):
            return cause
        cause = cause.__cause__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return RunError(
        f"a worker that read the documents failed: {lines[-1]}",
        "Run again. A worker that is killed over and over needs more memory.",
    )


def _read(
    numbers: dict[str, np.ndarray[Any, Any]], known: ray.ObjectRef[list[Group]]
) -> Iterator[pa.Table]:
    groups = ray.get(known)
    for number in numbers["group"]:
        for batch in groups[int(number)].batches():
            yield to_table(batch)


def _apply(table: pa.Table, function: Function) -> Iterator[pa.Table]:
    for batch in from_table(table):
        arrays = function(batch) if batch.documents else {}
        summary = {
            "corpus": batch.corpus,
            "group": batch.group,
            "documents": len(batch.documents),
            "characters": sum(map(len, batch.texts)),
            # As text: JSON readers are not bound to keep 128 bits of a number.
            "digest": str(batch.digest),
            "broken": [asdict(one) for one in batch.broken],
        }
        row = {"summary": [json.dumps(summary)], "arrays": [pack(arrays)]}
        yield pa.table(row, _DONE)


def to_table(batch: Batch) -> pa.Table:
    """A batch as a block; what is broken comes as rows after the documents."""
    rows: list[tuple[str | None, ...]] = [
        (d.id, d.text, d.domain, json.dumps(dict(d.metadata)), None) for d in batch.documents
    ]
    rows.extend((None, None, None, None, json.dumps(asdict(one))) for one in batch.broken)
    columns = dict(zip(_FIELDS, map(list, zip(*rows, strict=True)), strict=True))
    same = {"group": [batch.group] * len(rows), "corpus": [batch.corpus] * len(rows)}
    return pa.table({**same, **columns}, _BLOCK)


def from_table(table: pa.Table) -> Iterator[Batch]:
    """The batches of a block, one for each run of rows of the same group."""
    for (group, corpus), rows in groupby(table.to_pylist(), key=itemgetter("group", "corpus")):
        documents, broken = [], []
        for row in rows:
            if row["broken"] is None:
                kept = json.loads(row["metadata"])
                documents.append(Document(row["id"], row["text"], row["domain"], kept))
            else:
                broken.append(Broken(**json.loads(row["broken"])))
        yield Batch(corpus, tuple(documents), tuple(broken), group)


def pack(arrays: Arrays) -> bytes:
    """Arrays as the bytes of an .npz without pickled objects."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack(data: bytes) -> Arrays:
    """What `pack` has packed."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return dict(arrays)


def _summary(text: str) -> Summary:
    fields = json.loads(text)
    broken = tuple(Broken(**one) for one in fields.pop("broken"))
    return Summary(**fields | {"digest": int(fields["digest"])}, broken=broken)


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """Ray Data's settings for one pass: order kept, small blocks, no bars and no log lines."""
    context = DataContext.get_current()
    options = context.execution_options
    before = context.target_max_block_size, context.enable_progress_bars, options.preserve_order
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    context.target_max_block_size, context.enable_progress_bars = BLOCK_BYTES, False
    options.preserve_order = True
    try:
        yield
    finally:
        context.target_max_block_size, context.enable_progress_bars = before[:2]
        options.preserve_order = before[2]
