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
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from graftwork.artifact import Plain
from graftwork.errors import CorruptArtifactError, RunError

INDEX = "index.json"
FORMAT: Literal[1] = 1
# A domain costs two files; a field of ids taken for a domain field is found before the disk is.
MOST_DOMAINS = 1000

Split = Literal["train", "held_out"]
Packing = Literal["concatenate", "best_fit"]
Ids = npt.NDArray[np.int64]


class Part(Plain):
    """One domain's share of one split. `rows` names the file of offsets, where there is one."""

    file: str
    rows: str | None = None
    tokens: int = Field(default=0, ge=0)
    documents: int = Field(default=0, ge=0)
    sequences: int = Field(default=0, ge=0)


class Index(Plain):
    """What `index.json` says."""

    format: Literal[1] = FORMAT
    vocab: int = Field(ge=2)
    eos: int = Field(ge=0)
    context: int = Field(ge=1)
    packing: Packing
    dtype: Literal["uint16", "uint32"]
    domains: dict[str, dict[Split, Part]]


class TokenShards:
    """Reader of a tokens artifact. Files are mapped into memory, never loaded whole."""

    def __init__(self, folder: Path, index: Index) -> None:
        self._folder = folder
        self._index = index
        self._maps: dict[str, npt.NDArray[np.unsignedinteger]] = {}
        self._offsets: dict[str, npt.NDArray[np.int64]] = {}

    @classmethod
    def open(cls, path: Path | str) -> TokenShards:
        """Open the artifact in folder `path`.

        Raises:
            CorruptArtifactError: the index is missing or of another form, or a file has another
                size than the index says.
        """
        folder = Path(path)
        try:
            index = Index.model_validate_json((folder / INDEX).read_bytes())
        except (OSError, ValidationError) as error:
            raise CorruptArtifactError(str(folder), f"{INDEX} cannot be read: {error}") from error
        width = np.dtype(index.dtype).itemsize
        for parts in index.domains.values():
            for part in parts.values():
                _check_size(folder, part.file, part.tokens * width)
                if part.rows is not None:
                    _check_size(folder, part.rows, (part.sequences + 1) * 8)
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

    def read(self, split: Split, domain: str, index: int) -> tuple[Ids, npt.NDArray[np.int32]]:
        """One row: its tokens and, for each, the number of its document within the row.

        Returns:
            tokens: int64 (context + 1,), padded with eos.
            documents: int32 (context + 1,), counting from 0; -1 on padding.

        Raises:
            IndexError: there is no such row.
            CorruptArtifactError: the row holds an id that is not in the vocabulary.
        """
        if not 0 <= index < self.sequences(split, domain):
            count = self.sequences(split, domain)
            raise IndexError(f"row {index} of {domain}/{split}, which has {count}")
        part = self._index.domains[domain][split]
        start, stop = self._span(part, index)
        row = self._map(part)[start:stop]
        if row.max() >= self.vocab:
            raise CorruptArtifactError(
                str(self._folder), f"{part.file} holds token {row.max()}, above {self.vocab - 1}"
            )
        tokens = np.full(self.context + 1, self.eos, dtype=np.int64)
        tokens[: len(row)] = row
        documents = np.full(self.context + 1, -1, dtype=np.int32)
        documents[0] = 0
        documents[1 : len(row)] = np.cumsum(row[:-1] == self.eos, dtype=np.int32)
        return tokens, documents

    def _span(self, part: Part, index: int) -> tuple[int, int]:
        if part.rows is None:
            start = index * self.context
            return start, min(start + self.context + 1, part.tokens)
        if part.rows not in self._offsets:
            path = self._folder / part.rows
            self._offsets[part.rows] = np.memmap(path, dtype="<i8", mode="r")
        offsets = self._offsets[part.rows]
        return int(offsets[index]), int(offsets[index + 1])

    def _map(self, part: Part) -> npt.NDArray[np.unsignedinteger]:
        if part.file not in self._maps:
            dtype = np.dtype(self._index.dtype).newbyteorder("<")
            self._maps[part.file] = np.memmap(self._folder / part.file, dtype=dtype, mode="r")
        return self._maps[part.file]


class ShardWriter:
    """Writes a tokens artifact bit by bit. Use one writer for one artifact, then `close`."""

    def __init__(self, folder: Path, vocab: int, eos: int, context: int, packing: Packing) -> None:
        self._folder = folder
        self._head = {"vocab": vocab, "eos": eos, "context": context, "packing": packing}
        self._vocab = vocab
        self._context = context
        self._packing = packing
        self._dtype: Literal["uint16", "uint32"] = "uint16" if vocab <= 2**16 else "uint32"
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
        index = Index.model_validate(self._head | {"dtype": self._dtype, "domains": domains})
        text = json.dumps(index.model_dump(mode="json", exclude_none=True), indent=1)
        (self._folder / INDEX).write_text(text + "\n", encoding="utf-8")
        return index

    def _append(self, split: Split, domain: str, ids: Ids, documents: int) -> Part:
        part = self._part(split, domain)
        if len(ids) and (ids.max() >= self._vocab or ids.min() < 0):
            raise RunError(
                f"the tokenizer gave token {ids.max()}, but the vocabulary has {self._vocab}",
                f"Set the tokenizer's 'vocab' to {int(ids.max()) + 1} or more.",
            )
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


def tokens_by_domain(index: Index, split: Split) -> Mapping[str, int]:
    """Tokens per domain of one split."""
    return {name: parts[split].tokens for name, parts in index.domains.items()}


def _check_size(folder: Path, name: str, expected: int) -> None:
    path = folder / name
    size = path.stat().st_size if path.is_file() else -1
    if size != expected:
        found = "is missing" if size < 0 else f"has {size} bytes"
        raise CorruptArtifactError(str(folder), f"{name} {found}; the index says {expected}")
