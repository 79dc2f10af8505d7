"""Which sequences a step sees: a pure function of seed, step and data, whatever the workers.

A step takes the next `batch` sequences of a shuffled stream. Without a mixture, sequences of all
domains form one stream, so that domains are mixed by their sizes; with one, each domain is a
stream of its own and the mixture says whose turn it is. Of a batch's sequences the first ones are
new data and the last `replayed` come from older data, in an order and with a cursor of their own.
Workers take contiguous slices of the batch, which differ by one sequence where they must.

Shapes: B sequences of the batch or of a worker's slice, T tokens, N sequences of a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import xxhash
from torch import Tensor

from graftwork_train.data.index import Split
from graftwork_train.data.shards import TokenShards
from graftwork_train.loop.mixing import Mixing
from graftwork_train.loop.order import Integers, Order, Ordering
from graftwork_train.nn.loss import IGNORE


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences for one forward pass.

    `documents_BT` is None where attention may be plainly causal: every sequence is one document,
    or the document mask is off. `predicted` counts the labels that are not `IGNORE`. `digest`
    stands for the sequences of the whole batch, in order. `pieces` is into how many each of them
    was cut; B then counts pieces, and T is a piece's length.
    """

    tokens_BT: Tensor
    labels_BT: Tensor
    documents_BT: Tensor | None
    predicted: int
    digest: bytes = b""
    pieces: int = 1

    def split(self, size: int) -> Iterator[Batch]:
        """Micro-batches of at most `size` whole sequences, in order."""
        size *= self.pieces
        for start in range(0, len(self.tokens_BT), size):
            part = slice(start, start + size)
            documents = None if self.documents_BT is None else self.documents_BT[part]
            if documents is not None and _one_document(documents):
                documents = None
            labels = self.labels_BT[part]
            count = int((labels != IGNORE).sum())
            yield Batch(self.tokens_BT[part], labels, documents, count)

    def pinned(self) -> Batch:
        """The same in memory that a GPU copies from while it computes."""
        documents = None if self.documents_BT is None else self.documents_BT.pin_memory()
        tokens, labels = self.tokens_BT.pin_memory(), self.labels_BT.pin_memory()
        return Batch(tokens, labels, documents, self.predicted, self.digest, self.pieces)

    def cut(self, pieces: int) -> Batch:
        """The same tokens and labels, every sequence cut into so many that see less before them."""
        if pieces == 1:
            return self
        length = self.tokens_BT.shape[1] // pieces
        parts = [
            None if tensor is None else tensor.reshape(-1, length)
            for tensor in (self.tokens_BT, self.labels_BT, self.documents_BT)
        ]
        tokens, labels, documents = parts
        if tokens is None or labels is None:
            raise AssertionError("a batch has tokens and labels")
        return Batch(tokens, labels, documents, self.predicted, self.digest, pieces)


def _one_document(documents_BT: Tensor) -> bool:
    # Padding stands after the only document, where no label is asked for and nothing looks back.
    return bool((documents_BT <= 0).all())


def shuffled(
    shards: TokenShards, seed: int, split: Split = "train", *, apart: bool
) -> dict[str, Ordering]:
    """The orders of the streams: of all domains as one, under the empty name, or of each."""
    domains = shards.domains(split)
    if not apart:
        return {"": Order(shards, split, range(len(domains)), seed)}
    return {
        # A seed of its own for each, so that equal domains are not shuffled alike.
        name: Order(shards, split, [number], seed ^ xxhash.xxh3_64_intdigest(name.encode()))
        for number, name in enumerate(domains)
    }


class Source:
    """One tokens artifact, as an endless shuffled stream of sequences.

    Args:
        shards: The artifact.
        seed: Of the shuffle.
        cursor: Sequences of each domain that were consumed before, where there are `phases`;
            those of all domains together, under the empty name, where there are none.
        split: Which part to read.
        phases: The first sequence of each phase of a mixture, and its weights by domain.
        orders: By stream, another order than the shuffled one; where there are several streams,
            each is a domain, and `phases` are needed.

    Raises:
        KeyError: a mixture names a domain that has no sequence.
    """

    def __init__(
        self,
        shards: TokenShards,
        seed: int,
        cursor: Mapping[str, int] | None = None,
        split: Split = "train",
        phases: Sequence[tuple[int, Mapping[str, float]]] = (),
        orders: Mapping[str, Ordering] | None = None,
    ) -> None:
        cursor = cursor or {}
        self.shards, self.split = shards, split
        self.domains = shards.domains(split)
        self.length = shards.total(split)
        for name in sorted({name for _, weights in phases for name in weights}):
            if name not in self.domains:
                raise KeyError(name)
        self._mixing = Mixing(self.domains, phases) if phases else None
        if orders is None:
            orders = shuffled(shards, seed, split, apart=bool(phases))
        self.streams = tuple(orders)
        self.orders = tuple(orders.values())
        self._before = np.array([cursor.get(name, 0) for name in self.streams], dtype=np.int64)

    def positions(self, start: int, count: int) -> tuple[Integers, Integers]:
        """Where `count` sequences stand, from the `start`-th of this stage on.

        Returns:
            streams_N: Positions in `streams`.
            positions_N: Sequences of that stream before each, those of earlier stages included.
        """
        if self._mixing is None:
            streams_N = np.zeros(count, dtype=np.int64)
            positions_N: Integers = np.arange(start, start + count)
        else:
            streams_N, positions_N = self._mixing.domains(start, count)
        return streams_N, positions_N + self._before[streams_N]

    def rows(self, start: int, count: int) -> tuple[Integers, Integers]:
        """What `count` sequences are, from the `start`-th of this stage on.

        Returns:
            domains_N: Positions in `domains`.
            rows_N: Rows of those domains.
        """
        streams_N, positions_N = self.positions(start, count)
        if len(self.orders) == 1:
            return self.orders[0].rows(positions_N)
        rows_N = np.empty_like(positions_N)
        for stream in np.unique(streams_N):
            mine = streams_N == stream
            _, rows_N[mine] = self.orders[stream].rows(positions_N[mine])
        return streams_N, rows_N

    def places(self, start: int, count: int) -> list[tuple[str, int]]:
        """Domain and row of `count` sequences, from the `start`-th of this stage on."""
        domains_N, rows_N = self.rows(start, count)
        names = map(self.domains.__getitem__, domains_N.tolist())
        return list(zip(names, rows_N.tolist(), strict=True))

    def cursor(self, count: int) -> dict[str, int]:
        """Sequences consumed in all after `count` of this stage, by stream."""
        taken_S = np.array([count]) if self._mixing is None else self._mixing.taken(count)
        return dict(zip(self.streams, (self._before + taken_S).tolist(), strict=True))

    def lengths(self) -> dict[str, int]:
        """Sequences of an epoch of each stream."""
        lengths = (order.length for order in self.orders)
        return dict(zip(self.streams, lengths, strict=True))


Row = tuple[np.ndarray, np.ndarray]
"""As `TokenShards.read` gives it: tokens (T + 1,) and the document of each."""
Pose = Callable[[Sequence[Row], Sequence[int]], Batch]
"""Makes a batch of rows: what the model is given and what it is asked for. Each row comes with a
number, from which chance draws if there is any: the same row and number give the same."""


def _whole(step: int) -> int:
    return 1


@dataclass(frozen=True, slots=True)
class Loader:
    """Batches by step.

    Attributes:
        new: The stage's own data.
        batch: Sequences of a batch, over all workers.
        document_mask: Whether attention and labels stop at the end of a document.
        replay: Older data.
        replayed: Sequences of each batch that come from it.
        cut: Into how many pieces a step cuts each sequence.
        pose: What is asked. Default: the next token, as `document_mask` says.
    """

    new: Source
    batch: int
    document_mask: bool
    replay: Source | None = None
    replayed: int = 0
    cut: Callable[[int], int] = _whole
    pose: Pose | None = None

    def sources(self) -> Iterator[tuple[Source, int]]:
        """Each source, and how many sequences of a batch come from it."""
        yield self.new, self.batch - self.replayed
        if self.replay is not None:
            yield self.replay, self.replayed

    def places(self, step: int) -> list[tuple[Source, tuple[str, int]]]:
        """Every sequence of a step's batch, in order."""
        return [
            (source, place)
            for source, count in self.sources()
            for place in source.places(step * count, count)
        ]

    def digest(self, step: int) -> bytes:
        """16 bytes that stand for the sequences of a step's batch, in order."""
        made = xxhash.xxh3_128()
        for source, count in self.sources():
            for numbers in source.rows(step * count, count):
                made.update(numbers.astype("<i8").tobytes())
        return made.digest()

    @property
    def streamed(self) -> bool:
        """Whether any of the data lies behind a URL."""
        return any(source.shards.streamed for source, _ in self.sources())

    def mine(
        self, step: int, rank: int = 0, workers: int = 1
    ) -> list[tuple[Source, tuple[str, int]]]:
        """A worker's slice of `places`."""
        first, last = rank * self.batch // workers, (rank + 1) * self.batch // workers
        return self.places(step)[first:last]

    def read(self, step: int, rank: int = 0, workers: int = 1) -> Batch:
        """A worker's slice of a step's batch.

        Raises:
            CorruptArtifactError: a token is not in the vocabulary, or a block is damaged.
            RunError: the storage does not give the tokens.
        """
        rows = [
            source.shards.read(source.split, *place)
            for source, place in self.mine(step, rank, workers)
        ]
        pose = self.pose or partial(next_tokens, document_mask=self.document_mask)
        first = step * self.batch + rank * self.batch // workers
        return pose(rows, range(first, first + len(rows))).cut(self.cut(step))

    def ahead(self, places: Iterable[tuple[Source, tuple[str, int]]]) -> int:
        """Begin to fetch what lies behind a URL; how many blocks were fetched but not used."""
        places = list(places)
        return sum(
            source.shards.ahead(source.split, (place for of, place in places if of is source))
            for source, _ in self.sources()
        )

    def close(self) -> None:
        """Stop fetching."""
        for source, _ in self.sources():
            source.shards.close()


def next_tokens(rows: Sequence[Row], numbers: Sequence[int], *, document_mask: bool) -> Batch:
    """Of every token the next one is asked for; chance has no part in it."""
    return collate(rows, document_mask=document_mask)


def collate(rows: Sequence[Row], *, document_mask: bool) -> Batch:
    """Rows of T + 1 tokens as inputs and labels.

    A label is ignored if it is padding and, with `document_mask`, if it belongs to another
    document than the token before it.
    """
    tokens = np.stack([tokens for tokens, _ in rows])
    documents = np.stack([documents for _, documents in rows])
    labels = tokens[:, 1:].copy()
    ignored = documents[:, 1:] < 0
    if document_mask:
        ignored |= documents[:, 1:] != documents[:, :-1]
    labels[ignored] = IGNORE
    inside = torch.from_numpy(documents[:, :-1])
    alone = not document_mask or _one_document(inside)
    return Batch(
        torch.from_numpy(tokens[:, :-1].copy()),
        torch.from_numpy(labels),
        None if alone else inside,
        int(labels.size - ignored.sum()),
    )
