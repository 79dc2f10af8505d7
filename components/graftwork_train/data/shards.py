"""Shards of tokens: what `prepare` writes and every stage that trains or evaluates reads.

A tokens artifact holds `index.json` and, per domain and split, one flat file of little-endian
token ids, documents end to end, each closed by the end-of-document token (eos):

    index.json              vocab, eos, context, packing, dtype, and per domain its two parts
    prose.train.bin         uint16 or uint32, memory-mapped
    prose.train.rows        int64 offsets of the rows (packing best_fit only)
    prose.held_out.bin

A row is what a model sees at once: `context + 1` tokens, of which the first `context` are inputs
and the last `context` are labels. With `concatenate`, row i begins at token `i * context`, so
neighbouring rows share one token and every token but the first is a label exactly once. With
`best_fit`, the offsets say where each row begins and ends; rows shorter than `context + 1` are
padded when they are read.

Where the index has `labels`, an id's top bit says that it is not predicted (`data/marks.py`).

`block_rows` rows together are a block, of 8 MiB at most. The index has a digest of each, so that
tokens that lie behind a URL are read and verified block by block, as training needs them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt
import xxhash

from graftwork.errors import CorruptArtifactError, RunError
from graftwork.store.ranges import RangeReader, RemoteArtifact
from graftwork_train.data.blocks import Block, BlockCache
from graftwork_train.data.index import (
    BLOCK_BYTES,
    INDEX,
    Ids,
    Index,
    Labels,
    Offsets,
    Packing,
    Part,
    Split,
    block_span,
    check_sizes,
    read_index,
    rows_in,
)
from graftwork_train.data.marks import Marks, Row, plain, stored, unmarked, width_for

# A domain costs two files; a field of ids taken for a domain field is found before the disk is.
MOST_DOMAINS = 1000


class TokenShards:
    """Reader of a tokens artifact. Files are mapped into memory, never loaded whole.

    Args:
        folder: With the index and, unless there are `blocks`, the tokens.
        index: What it says.
        blocks: Gives the tokens of an artifact behind a URL.
    """

    def __init__(self, folder: Path, index: Index, blocks: BlockCache | None = None) -> None:
        self.folder = folder
        self._index = index
        self._blocks = blocks
        self._maps: dict[str, npt.NDArray[np.unsignedinteger]] = {}
        self._spans: dict[tuple[str, int], Block] = {}
        self._offsets: dict[str, Offsets] = {}

    @classmethod
    def open(cls, place: Path | str | RemoteArtifact) -> TokenShards:
        """Open the artifact in a folder, or behind a URL.

        Raises:
            CorruptArtifactError: the index is missing or of another form, or a file has another
                size than the index says.
            RunError: the storage refuses.
        """
        if isinstance(place, RemoteArtifact):
            return _open_remote(place)
        folder = Path(place)
        index = read_index(folder, str(folder))
        found = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
        check_sizes(str(folder), index, found)
        return cls(folder, index)

    @property
    def vocab(self) -> int:
        """Entries of the models' vocabulary; every id is below it."""
        return self._index.vocab

    @property
    def eos(self) -> int:
        """Id of the token that ends a document."""
        return self._index.eos

    @property
    def context(self) -> int:
        """Tokens that a model sees at once."""
        return self._index.context

    @property
    def packing(self) -> Packing:
        """How documents were put into rows."""
        return self._index.packing

    @property
    def labels(self) -> Labels | None:
        """Whether some tokens are not predicted, and whether documents come in pairs."""
        return self._index.labels

    @property
    def streamed(self) -> bool:
        """Whether the tokens lie behind a URL."""
        return self._blocks is not None

    @property
    def block_rows(self) -> int:
        """Rows of a block: those that are fetched together, where the tokens lie behind a URL."""
        return self._index.block_rows

    def domains(self, split: Split) -> tuple[str, ...]:
        """Names of the domains that have at least one sequence in `split`, in order."""
        return tuple(name for name in self._index.domains if self.sequences(split, name))

    def sequences(self, split: Split, domain: str) -> int:
        """Rows of a domain; 0 for one that is not there."""
        part = self._index.domains.get(domain, {}).get(split)
        return part.sequences if part else 0

    def tokens(self, split: Split, domain: str) -> int:
        """Tokens of a domain, ends of documents included; 0 for one that is not there."""
        part = self._index.domains.get(domain, {}).get(split)
        return part.tokens if part else 0

    def total(self, split: Split) -> int:
        """Rows of all domains."""
        return sum(self.sequences(split, name) for name in self._index.domains)

    def read(self, split: Split, domain: str, index: int) -> Row:
        """One row: its tokens, padded with eos, each with the number of its document.

        Raises:
            IndexError: there is no such row.
            CorruptArtifactError: the row holds an id that is not in the vocabulary.
        """
        if not 0 <= index < self.sequences(split, domain):
            count = self.sequences(split, domain)
            raise IndexError(f"row {index} of {domain}/{split}, which has {count}")
        row, marks = self._row(self._index.domains[domain][split], index)
        tokens = np.full(self.context + 1, self.eos, dtype=np.int64)
        tokens[: len(row)] = row
        documents = np.full(self.context + 1, -1, dtype=np.int32)
        documents[0] = 0
        documents[1 : len(row)] = np.cumsum(row[:-1] == self.eos, dtype=np.int32)
        if marks is None:
            return Row(tokens, documents)
        predicted = np.ones(self.context + 1, dtype=np.bool_)
        predicted[: len(row)] = ~marks
        return Row(tokens, documents, predicted)

    def ahead(self, split: Split, rows: Iterable[tuple[str, int]]) -> int:
        """Begin to fetch the blocks of rows that are read soon; how many that begins.

        Args:
            split: Split of the rows.
            rows: Domain and index of each, in the order of need.
        """
        if self._blocks is None:
            return 0
        wanted = dict.fromkeys((domain, index // self.block_rows) for domain, index in rows)
        return self._blocks.ahead(
            self._block(self._index.domains[domain][split], number) for domain, number in wanted
        )

    def close(self) -> None:
        """Stop fetching."""
        if self._blocks is not None:
            self._blocks.close()

    def _row(self, part: Part, index: int) -> tuple[npt.NDArray[np.integer], Marks | None]:
        start, stop = self._span(part, index)
        if self._blocks is None:
            row: npt.NDArray[np.integer] = self._map(part)[start:stop]
        else:
            block = self._block(part, index // self.block_rows)
            skipped = start - block.start // self._index.width
            ids = self._blocks.get(block).view(self._dtype)
            row = ids[skipped : skipped + stop - start]
        row, marks = unmarked(row) if self.labels else (row, None)
        if row.max() >= self.vocab:
            raise CorruptArtifactError(
                self._blocks.uri if self._blocks else str(self.folder),
                f"{part.file} holds token {row.max()}, above {self.vocab - 1}",
            )
        return row, marks

    def _block(self, part: Part, number: int) -> Block:
        key = part.file, number
        if key not in self._spans:
            start, stop = block_span(self._index, part, self._offsets_of(part), number)
            width, digest = self._index.width, part.blocks[number]
            self._spans[key] = Block(part.file, number, start * width, stop * width, digest)
        return self._spans[key]

    def _span(self, part: Part, index: int) -> tuple[int, int]:
        offsets = self._offsets_of(part)
        if offsets is None:
            start = index * self.context
            return start, min(start + self.context + 1, part.tokens)
        return int(offsets[index]), int(offsets[index + 1])

    def _offsets_of(self, part: Part) -> Offsets | None:
        if part.rows is None:
            return None
        if part.rows not in self._offsets:
            path = self.folder / part.rows
            self._offsets[part.rows] = np.memmap(path, dtype="<i8", mode="r")
        return self._offsets[part.rows]

    @property
    def _dtype(self) -> np.dtype[np.unsignedinteger]:
        return np.dtype(self._index.dtype).newbyteorder("<")

    def _map(self, part: Part) -> npt.NDArray[np.unsignedinteger]:
        if part.file not in self._maps:
            path = self.folder / part.file
            self._maps[part.file] = np.memmap(path, dtype=self._dtype, mode="r")
        return self._maps[part.file]


class ShardWriter:
    """Writes a tokens artifact bit by bit. Use one writer for one artifact, then `close`.

    Args:
        folder: To write into.
        vocab: Entries of the models' vocabulary.
        eos: Id of the token that ends a document.
        context: Tokens that a model sees at once.
        packing: How documents are put into rows.
        block_bytes: Largest block.
        labels: Whether ids may be marked as not predicted (`data/marks.py`).
    """

    def __init__(
        self,
        folder: Path,
        vocab: int,
        eos: int,
        context: int,
        packing: Packing,
        block_bytes: int = BLOCK_BYTES,
        labels: Labels | None = None,
    ) -> None:
        self._folder = folder
        self._head = {"vocab": vocab, "eos": eos, "context": context, "packing": packing}
        self._labels = labels
        self._vocab = vocab
        self._context = context
        self._packing = packing
        self._block_bytes = block_bytes
        self._dtype = width_for(vocab, marked=labels is not None)
        self._parts: dict[str, dict[Split, Part]] = {}

    def add(self, split: Split, domain: str, ids: Ids, documents: int) -> None:
        """Append tokens of whole documents, as one stream (packing `concatenate`).

        Args:
            split: Split to append to.
            domain: Domain to append to.
            ids: int64 (n,), `documents` documents end to end, each closed by eos.
            documents: How many they are.

        Raises:
            RunError: an id is not below the vocabulary's size, or there are too many domains.
        """
        part = self._append(split, domain, ids, documents)
        rows = -(-(part.tokens - 1) // self._context) if part.tokens > 1 else 0
        self._parts[domain][split] = part.model_copy(update={"sequences": rows})

    def add_rows(self, split: Split, domain: str, rows: Iterable[Ids], documents: int) -> None:
        """Append rows of at most `context + 1` tokens each (packing `best_fit`).

        Args:
            split: Split to append to.
            domain: Domain to append to.
            rows: int64 (at most context + 1,) each.
            documents: How many documents end in them.

        Raises:
            RunError: as `add`.
        """
        rows = list(rows)
        if not rows:
            return
        start = self._part(split, domain).tokens
        part = self._append(split, domain, np.concatenate(rows), documents)
        if part.rows is None:
            raise AssertionError("rows are added to a writer of another packing")
        ends = start + np.cumsum([len(row) for row in rows], dtype="<i8")
        with open(self._folder / part.rows, "ab") as file:
            file.write(ends.astype("<i8").tobytes())
        update = {"sequences": part.sequences + len(rows)}
        self._parts[domain][split] = part.model_copy(update=update)

    def close(self) -> Index:
        """Write `index.json` and give it back. Domains come in alphabetical order."""
        domains = {name: self._parts[name] for name in sorted(self._parts)}
        rows = rows_in(self._block_bytes, self._context, np.dtype(self._dtype).itemsize)
        known = {"dtype": self._dtype, "rows_per_block": rows, "domains": domains}
        index = Index.model_validate({**self._head, **known, "labels": self._labels})
        signed = {
            name: {split: self._signed(index, part) for split, part in parts.items()}
            for name, parts in domains.items()
        }
        index = index.model_copy(update={"domains": signed})
        text = json.dumps(index.model_dump(mode="json", exclude_none=True), indent=1)
        (self._folder / INDEX).write_text(text + "\n", encoding="utf-8")
        return index

    def _signed(self, index: Index, part: Part) -> Part:
        """The part with the digests of its blocks."""
        if not part.sequences:
            return part
        offsets = np.memmap(self._folder / part.rows, dtype="<i8", mode="r") if part.rows else None
        digests = []
        # Read and not mapped: pages that are mapped count as memory of the process.
        with open(self._folder / part.file, "rb") as file:
            for number in range(-(-part.sequences // index.block_rows)):
                start, stop = block_span(index, part, offsets, number)
                file.seek(start * index.width)
                digests.append(xxhash.xxh3_128_hexdigest(file.read((stop - start) * index.width)))
        return part.model_copy(update={"blocks": tuple(digests)})

    def _append(self, split: Split, domain: str, ids: Ids, documents: int) -> Part:
        part = self._part(split, domain)
        bare = plain(ids) if self._labels else ids
        if len(ids) and (bare.max() >= self._vocab or bare.min() < 0):
            raise RunError(
                f"the tokenizer gave token {bare.max()}, but the vocabulary has {self._vocab}",
                f"Set the tokenizer's 'vocab' to {int(bare.max()) + 1} or more.",
            )
        if self._labels:
            ids = stored(ids, self._dtype)
        with open(self._folder / part.file, "ab") as file:
            file.write(ids.astype(np.dtype(self._dtype).newbyteorder("<")).tobytes())
        update = {"tokens": part.tokens + len(ids), "documents": part.documents + documents}
        self._parts[domain][split] = part.model_copy(update=update)
        return self._parts[domain][split]

    def _part(self, split: Split, domain: str) -> Part:
        if domain not in self._parts:
            if len(self._parts) >= MOST_DOMAINS:
                raise RunError(
                    f"there are more than {MOST_DOMAINS} domains, {domain!r} among them",
                    "Name a 'domain_field' with few values, or none.",
                )
            self._parts[domain] = {name: self._begin(name, domain) for name in get_args(Split)}
        return self._parts[domain][split]

    def _begin(self, split: Split, domain: str) -> Part:
        stem = f"{file_stem(domain)}.{split}"
        (self._folder / f"{stem}.bin").touch()
        if self._packing == "concatenate":
            return Part(file=f"{stem}.bin")
        (self._folder / f"{stem}.rows").write_bytes(np.zeros(1, dtype="<i8").tobytes())
        return Part(file=f"{stem}.bin", rows=f"{stem}.rows")


def file_stem(domain: str) -> str:
    """A file name for a domain: itself where that is safe, else its safe part and a digest."""
    if re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,60}", domain):
        return domain
    safe = re.sub(r"[^a-z0-9_-]+", "-", domain.lower()).strip("-")[:40]
    return f"{safe or 'domain'}.{sha256(domain.encode('utf-8', 'replace')).hexdigest()[:8]}"


def _open_remote(artifact: RemoteArtifact) -> TokenShards:
    reader = artifact.open()
    folder = reader.small()
    index = read_index(folder, artifact.uri)
    check_sizes(artifact.uri, index, reader.sizes())
    parts = [part for parts in index.domains.values() for part in parts.values()]
    if any(part.sequences and not part.blocks for part in parts):
        # Tokens of an earlier version: without digests of blocks they can only be read whole.
        return TokenShards.open(reader.whole())
    return TokenShards(folder, index, _cache(artifact, reader, folder))


def _cache(artifact: RemoteArtifact, reader: RangeReader, folder: Path) -> BlockCache:
    # The index names all digests, so its own tells the blocks of one artifact from another's.
    key = sha256((folder / INDEX).read_bytes()).hexdigest()[:16]
    return BlockCache(artifact.uri, reader.read, reader.cache(), key, artifact.limit)
