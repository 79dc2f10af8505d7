"""All that a model has read so far, as one stream: several tokens artifacts, what was read of each.

Shapes: N positions of the stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from graftwork_train.data.index import Split
from graftwork_train.data.marks import Row
from graftwork_train.data.shards import TokenShards
from graftwork_train.loop.loader import shuffled
from graftwork_train.loop.order import Integers, Ordering
from graftwork_train.loop.permutation import permute


@dataclass(frozen=True, slots=True)
class Past:
    """One stream of an earlier training.

    Attributes:
        order: Its order, as that training had it.
        first: Position of the first of its domains among those of all artifacts.
        seen: Sequences of it that were read at least once.
    """

    order: Ordering
    first: int
    seen: int


def past(
    artifacts: Sequence[TokenShards], cursors: Sequence[Mapping[str, int]], seed: int
) -> list[Past]:
    """The streams that were read of some artifacts.

    Args:
        artifacts: Tokens.
        cursors: For each, the sequences consumed by stream: all domains as one, under the empty
            name, or each domain. Streams in an order that a method made are left out.
        seed: Of the orders.
    """
    found, first = [], 0
    for shards, cursor in zip(artifacts, cursors, strict=True):
        whole = shuffled(shards, seed, apart=False)
        streams = whole | shuffled(shards, seed, apart=True)
        for name, order in streams.items():
            seen = min(cursor.get(name, 0), order.length)
            if seen:
                found.append(Past(order, first, seen))
        first += len(shards.domains("train"))
    return found


class Everything:
    """A shuffle of all sequences that were read, anew in each pass: every one once a pass.

    Args:
        streams: What was read.
        seed: Of the shuffle.
    """

    def __init__(self, streams: Sequence[Past], seed: int) -> None:
        self._streams, self._seed = streams, seed
        self._ends = np.array([*accumulate(stream.seen for stream in streams)], dtype=np.int64)
        self.length = int(self._ends[-1])

    def rows(self, positions_N: Integers) -> tuple[Integers, Integers]:
        """Domains, counted over all artifacts, and rows at some positions."""
        epochs_N, inside_N = positions_N // self.length, positions_N % self.length
        for epoch in set(epochs_N.tolist()):
            mine = epochs_N == epoch
            inside_N[mine] = permute(inside_N[mine], self.length, self._seed, epoch)
        domains_N, rows_N = np.empty_like(inside_N), np.empty_like(inside_N)
        of_N = np.searchsorted(self._ends, inside_N, side="right")
        for number, stream in enumerate(self._streams):
            mine = of_N == number
            if mine.any():
                at = inside_N[mine] - (self._ends[number] - stream.seen)
                domains_N[mine], rows_N[mine] = stream.order.rows(at)
                domains_N[mine] += stream.first
        return domains_N, rows_N


class Together(TokenShards):
    """Several tokens artifacts as one: the domain `code` of the second is `1/code`.

    Args:
        parts: They, of one vocabulary and context.
    """

    def __init__(self, parts: Sequence[TokenShards]) -> None:
        self._parts = list(parts)
        super().__init__(parts[0].folder, parts[0]._index)

    @property
    def streamed(self) -> bool:
        """Whether any of the tokens lie behind a URL."""
        return any(part.streamed for part in self._parts)

    def domains(self, split: Split) -> tuple[str, ...]:
        """Those of all artifacts, in their order."""
        return tuple(
            f"{number}/{name}"
            for number, part in enumerate(self._parts)
            for name in part.domains(split)
        )

    def sequences(self, split: Split, domain: str) -> int:
        """Rows of a domain."""
        part, name = self._of(domain)
        return part.sequences(split, name)

    def tokens(self, split: Split, domain: str) -> int:
        """Tokens of a domain."""
        part, name = self._of(domain)
        return part.tokens(split, name)

    def total(self, split: Split) -> int:
        """Rows of all domains of all artifacts."""
        return sum(part.total(split) for part in self._parts)

    def read(self, split: Split, domain: str, index: int) -> Row:
        """One row, as `TokenShards.read`."""
        part, name = self._of(domain)
        return part.read(split, name, index)

    def ahead(self, split: Split, rows: Iterable[tuple[str, int]]) -> int:
        """Begin to fetch what is read soon, as `TokenShards.ahead`."""
        wanted: dict[int, list[tuple[str, int]]] = {}
        for domain, index in rows:
            number, _, name = domain.partition("/")
            wanted.setdefault(int(number), []).append((name, index))
        return sum(self._parts[number].ahead(split, some) for number, some in wanted.items())

    def close(self) -> None:
        """Stop fetching."""
        for part in self._parts:
            part.close()

    def _of(self, domain: str) -> tuple[TokenShards, str]:
        number, _, name = domain.partition("/")
        return self._parts[int(number)], name
