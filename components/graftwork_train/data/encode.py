"""From a stream of documents to shards: encode, split, pack, write; memory stays flat."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xxhash

from graftwork.spec.formats import Format
from graftwork_train.data.documents import Batch
from graftwork_train.data.index import Ids, Index, Labels, Packing, Split
from graftwork_train.data.marks import MARK
from graftwork_train.data.packing import Packer
from graftwork_train.data.shards import ShardWriter
from graftwork_train.data.split import Splitter
from graftwork_train.data.stream import Arrays, Stream
from graftwork_train.data.tokenizer import Encoder
from graftwork_train.formats import Laid, Span, lay_out


@dataclass(frozen=True, slots=True)
class Encode:
    """Function of a batch for `Stream.map`: tokens, and what deciding on the split needs."""

    encoder: Encoder
    format: Format | None = None

    def __call__(self, batch: Batch) -> Arrays:
        """Arrays: ids (total,), and per document lengths, marks, bytes and domains.

        With a format, ids may have marks, a document that it cannot use has no tokens, and
        `written` says which ones it has changed.
        """
        if self.format is not None:
            laid = [lay_out(self.format, document) for document in batch.documents]
            return _written(self.encoder, laid, batch)
        texts = batch.texts
        data = [text.encode() for text in texts]
        ids, lengths = self.encoder.encode(texts)
        return {
            "ids": ids.astype(np.uint32),
            "lengths": lengths,
            "marks": np.array([xxhash.xxh3_64_intdigest(one) for one in data], np.uint64),
            "bytes": np.array([len(one) for one in data], np.int64),
            "domains": np.array([document.domain for document in batch.documents]),
        }


def _written(encoder: Encoder, laid: Sequence[Laid], batch: Batch) -> Arrays:
    """As `Encode` gives it, of documents in a format."""
    pieces = iter(encoder.each([s.text for one in laid for v in one.versions for s in v]))
    end, parts = np.array([encoder.eos]), [np.zeros(0, dtype=np.int64)]
    lengths: list[int] = []
    sizes: list[int] = []
    for one in laid:
        ids = [
            part
            for version in one.versions
            for part in (*(_marked(span, next(pieces)) for span in version), end)
        ]
        parts += ids
        lengths.append(sum(map(len, ids)))
        sizes.append(sum(len(span.text.encode()) for v in one.versions for span in v))
    return {
        "ids": np.concatenate(parts).astype(np.uint32),
        "lengths": np.array(lengths, np.int64),
        "marks": np.array([xxhash.xxh3_64_intdigest(one.mark.encode()) for one in laid], np.uint64),
        "bytes": np.array(sizes, np.int64),
        "domains": np.array([document.domain for document in batch.documents]),
        "written": np.array([one.written for one in laid], np.bool_),
    }


def _marked(span: Span, ids: Ids) -> Ids:
    return ids if span.predicted else ids | MARK


@dataclass(slots=True)
class Shards:
    """What was written.

    Attributes:
        index: The artifact's index.
        bytes: Bytes of text by domain.
        tokens: Tokens of text by domain, without ends of documents.
        cut: Documents that no single row holds whole, by domain and split.
        cropped: Tokens of theirs beyond the first row, by domain and split.
        empty: Documents without a token.
        unfit: Documents that the format could not use.
        long: Pairs that no row holds.
        plain: Documents that the format has left as they were.
        single: Domains of one text only, whose end is held out.
    """

    index: Index
    bytes: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    cut: Counter[tuple[str, Split]] = field(default_factory=Counter)
    cropped: Counter[tuple[str, Split]] = field(default_factory=Counter)
    empty: int = 0
    unfit: int = 0
    long: int = 0
    plain: int = 0
    single: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """How shards are to be made."""

    folder: Path
    context: int
    packing: Packing
    held_out: float
    format: Format | None = None

    @property
    def labels(self) -> Labels | None:
        """What the format makes of labels."""
        return self.format.labels if self.format else None


def write_shards(stream: Stream, encoder: Encoder, plan: Plan) -> Shards:
    """Encode all documents and write the artifact's shards and index.

    Raises:
        graftwork.errors.RunError: a source is broken, empty or changes; an id is too large.
    """
    work = _Work(encoder, plan)
    for arrays in stream.map(Encode(encoder, plan.format), "tokenizing"):
        work.add(arrays)
    return work.close()


class _Work:
    """The state of one pass: the splitter, and one packer for each domain and split."""

    def __init__(self, encoder: Encoder, plan: Plan) -> None:
        self._plan = plan
        self._writer = ShardWriter(
            plan.folder,
            encoder.vocab,
            encoder.eos,
            plan.context,
            plan.packing,
            labels=plan.labels,
        )
        whole = plan.format is not None and plan.format.required
        self._splitter = Splitter(plan.held_out, encoder.eos, whole=whole)
        self._packers: dict[tuple[str, Split], Packer] = {}
        self._bytes: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._empty = self._unfit = self._long = self._plain = 0

    def add(self, arrays: Arrays) -> None:
        """Split and pack one batch."""
        decided: dict[tuple[str, Split], list[Ids]] = defaultdict(list)
        ids = arrays["ids"].astype(np.int64)
        ends = np.cumsum(arrays["lengths"]).tolist()
        start = 0
        if "written" in arrays:
            self._plain += int((~arrays["written"]).sum())
        columns = (arrays[name].tolist() for name in ("domains", "marks", "bytes"))
        for domain, mark, size, end in zip(*columns, ends, strict=True):
            if end == start:
                self._unfit += 1
                continue
            if self._plan.labels == "pairs" and end - start > self._plan.context + 1:
                self._long += 1
                start = end
                continue
            self._bytes[domain] += size
            self._tokens[domain] += end - start - 1
            if end - start < 2:
                self._empty += 1
            else:
                for split, tokens in self._splitter.place(domain, mark, ids[start:end]):
                    decided[domain, split].append(tokens)
            start = end
        for key, documents in decided.items():
            self._packer(*key).add(documents)

    def close(self) -> Shards:
        """Write what is left and the index."""
        single = []
        for domain, placed in self._splitter.finish():
            for split, tokens in placed:
                self._packer(domain, split).add([tokens])
            single += [domain] if placed[-1][0] == "held_out" else []
        for packer in self._packers.values():
            packer.close()
        cut = Counter({key: packer.cut for key, packer in self._packers.items()})
        cropped = Counter({key: packer.cropped for key, packer in self._packers.items()})
        index = self._writer.close()
        return Shards(
            index,
            self._bytes,
            self._tokens,
            cut,
            cropped,
            empty=self._empty,
            unfit=self._unfit,
            long=self._long,
            plain=self._plain,
            single=tuple(single),
        )

    def _packer(self, domain: str, split: Split) -> Packer:
        if (domain, split) not in self._packers:
            plan = self._plan
            repeated = plan.format is not None and plan.format.whole and plan.labels == "marked"
            packer = Packer(self._writer, split, domain, plan.context, plan.packing, heads=repeated)
            self._packers[domain, split] = packer
        return self._packers[domain, split]
