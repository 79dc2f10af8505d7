"""Which sequences a step sees: a pure function of seed, step and data, whatever the workers.

Sequences of all domains form one list, shuffled anew for every epoch, so that domains are mixed
by their sizes. A step takes the next `batch` sequences of that order; of a batch's sequences the
first ones are new data and the last `replayed` come from older data, in an order and with a
cursor of their own. Workers take contiguous slices of the batch.

Shapes: B sequences of the batch or of a worker's slice, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from graftwork_train.data.shards import Split, TokenShards
from graftwork_train.loop.permutation import permute
from graftwork_train.nn.loss import IGNORE


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences for one forward pass.

    `documents_BT` is None where attention may be plainly causal: every sequence is one document,
    or the document mask is off. `predicted` counts the labels that are not `IGNORE`.
    """

    tokens_BT: Tensor
    labels_BT: Tensor
    documents_BT: Tensor | None
    predicted: int

    def split(self, size: int) -> Iterator[Batch]:
        """Micro-batches of at most `size` sequences, in order."""
        for start in range(0, len(self.tokens_BT), size):
            part = slice(start, start + size)
            documents = None if self.documents_BT is None else self.documents_BT[part]
            if documents is not None and _one_document(documents):
                documents = None
            labels = self.labels_BT[part]
            count = int((labels != IGNORE).sum())
            yield Batch(self.tokens_BT[part], labels, documents, count)


def _one_document(documents_BT: Tensor) -> bool:
    # Padding stands after the only document, where no label is asked for and nothing looks back.
    return bool((documents_BT <= 0).all())


class Source:
    """One tokens artifact, as an endless shuffled stream of sequences.

    Args:
        shards: The artifact.
        seed: Of the shuffle.
        cursor: Sequences that were consumed before.
        split: Which part to read.
    """

    def __init__(
        self, shards: TokenShards, seed: int, cursor: int = 0, split: Split = "train"
    ) -> None:
        self.shards = shards
        self.length = shards.total(split)
        self._split: Split = split
        self._seed = seed
        self._cursor = cursor
        self._domains = shards.domains(split)
        self._ends = list(accumulate(shards.sequences(split, name) for name in self._domains))

    def places(self, start: int, count: int) -> list[tuple[str, int]]:
        """Domain and index of `count` sequences, from the `start`-th of this stage on."""
        wanted = np.arange(self._cursor + start, self._cursor + start + count)
        places: list[tuple[str, int]] = []
        for epoch in np.unique(wanted // self.length):
            inside = wanted[wanted // self.length == epoch] % self.length
            places += map(self._place, permute(inside, self.length, self._seed, int(epoch)))
        return places

    def _place(self, index: int) -> tuple[str, int]:
        domain = int(np.searchsorted(self._ends, index, side="right"))
        before = self._ends[domain - 1] if domain else 0
        return self._domains[domain], int(index) - before

    def rows(self, places: list[tuple[str, int]]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Tokens and document numbers of sequences."""
        return [self.shards.read(self._split, domain, index) for domain, index in places]


@dataclass(frozen=True, slots=True)
class Loader:
    """Batches by step.

    Attributes:
        new: The stage's own data.
        batch: Sequences of a batch, over all workers.
        document_mask: Whether attention and labels stop at the end of a document.
        replay: Older data.
        replayed: Sequences of each batch that come from it.
    """

    new: Source
    batch: int
    document_mask: bool
    replay: Source | None = None
    replayed: int = 0

    def places(self, step: int) -> list[tuple[Source, tuple[str, int]]]:
        """Every sequence of a step's batch, in order."""
        fresh = self.batch - self.replayed
        places = [(self.new, place) for place in self.new.places(step * fresh, fresh)]
        if self.replay is not None:
            older = self.replay.places(step * self.replayed, self.replayed)
            places += [(self.replay, place) for place in older]
        return places

    def read(self, step: int, rank: int = 0, workers: int = 1) -> Batch:
        """A worker's slice of a step's batch."""
        size = self.batch // workers
        mine = self.places(step)[rank * size : (rank + 1) * size]
        rows = [source.rows([place])[0] for source, place in mine]
        return collate(rows, document_mask=self.document_mask)


def collate(rows: list[tuple[np.ndarray, np.ndarray]], *, document_mask: bool) -> Batch:
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
