"""Packing: how documents become rows of `context + 1` tokens.

`concatenate`: one stream, cut every `context` tokens. Nothing is lost and nothing padded, but
documents are cut wherever a row ends.

`best_fit`: a document that fits into a row stays whole. Documents are taken longest first, each
into the row where it leaves the least room (best-fit decreasing), over a window of some hundred
rows, so that memory stays flat. What is longer than a row is cut into full rows, and only its rest
is packed with others. No token is cropped; rows are padded where nothing fits. Tokens that are
marked as not predicted, at a document's head, may be repeated in each of its rows.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np

from graftwork_train.data.index import Ids, Packing, Split
from graftwork_train.data.marks import leading
from graftwork_train.data.shards import ShardWriter

# Rows that best-fit looks at together; of these, the emptiest eighth waits for the next window.
WINDOW_ROWS = 256


class Packer:
    """Packs the documents of one domain and split, and writes them.

    Attributes:
        cut: Documents that no single row holds whole.
        cropped: Tokens of such documents beyond their first row: they do not see where it begins.
        documents: Documents in all.
    """

    def __init__(
        self,
        writer: ShardWriter,
        split: Split,
        domain: str,
        context: int,
        packing: Packing,
        *,
        heads: bool = False,
    ) -> None:
        self.cut = 0
        self.cropped = 0
        self.documents = 0
        self._writer, self._split, self._domain = writer, split, domain
        self._context = context
        self._packing = packing
        self._heads = heads
        self._tokens = 0
        self._waiting: list[Ids] = []
        self._waiting_tokens = 0

    def add(self, documents: Sequence[Ids]) -> None:
        """Pack documents, each int64 (n,) with its eos; n is at least 2."""
        self.documents += len(documents)
        if self._packing == "concatenate":
            self._concatenate(documents)
            return
        for ids in documents:
            self._fit(ids)

    def close(self) -> None:
        """Write what is still waiting."""
        if self._waiting:
            self._write_rows(best_fit(self._waiting, self._context + 1))

    def _concatenate(self, documents: Sequence[Ids]) -> None:
        ends = self._tokens + np.cumsum([len(ids) for ids in documents])
        starts = np.concatenate([[self._tokens], ends[:-1]])
        # Row r holds the tokens r * context to r * context + context, the last one included.
        # A row's last label is the next row's first token: labels beyond it do not see the start.
        borders = (starts // self._context + 1) * self._context
        self.cut += int(np.sum(ends - 1 > borders))
        self.cropped += int(np.maximum(ends - 1 - borders, 0).sum())
        self._tokens = int(ends[-1])
        self._writer.add(self._split, self._domain, np.concatenate(documents), len(documents))

    def _fit(self, ids: Ids) -> None:
        room = self._context + 1
        if len(ids) > room:
            self.cut += 1
            *full, rest = self._pieces(ids)
            self.cropped += len(ids) - room
            self._writer.add_rows(self._split, self._domain, full, 0)
            ids = rest
        self._waiting.append(ids.copy())
        self._waiting_tokens += len(ids)
        if self._waiting_tokens >= WINDOW_ROWS * room:
            rows = best_fit(self._waiting, room)
            rows.sort(key=_length, reverse=True)
            kept = max(1, len(rows) // 8)
            self._write_rows(rows[:-kept])
            self._waiting = [ids for row in rows[-kept:] for ids in row]
            self._waiting_tokens = sum(len(ids) for ids in self._waiting)

    def _pieces(self, ids: Ids) -> list[Ids]:
        """Full rows and a rest, in which each token but the first is a label once."""
        room = self._context + 1
        head = leading(ids) if self._heads else 0
        if not 0 < head < room - 1:
            # They overlap by one token.
            return [ids[at : at + room] for at in range(0, len(ids) - 1, self._context)]
        size, body = room - head, ids[head:]
        return [
            np.concatenate([ids[:head], body[at : at + size]]) for at in range(0, len(body), size)
        ]

    def _write_rows(self, rows: Sequence[Sequence[Ids]]) -> None:
        documents = sum(len(row) for row in rows)
        joined = [np.concatenate(row) for row in rows]
        self._writer.add_rows(self._split, self._domain, joined, documents)


def best_fit(documents: Sequence[Ids], room: int) -> list[list[Ids]]:
    """Best-fit decreasing: rows of documents whose lengths add up to at most `room`."""
    rows: list[list[Ids]] = []
    open_rows: list[tuple[int, int]] = []  # (room left, row), sorted
    for ids in sorted(documents, key=len, reverse=True):
        at = bisect.bisect_left(open_rows, (len(ids), -1))
        if at == len(open_rows):
            left, row = room, len(rows)
            rows.append([])
        else:
            left, row = open_rows.pop(at)
        rows[row].append(ids)
        bisect.insort(open_rows, (left - len(ids), row))
    return rows


def _length(row: Sequence[Ids]) -> int:
    return sum(len(ids) for ids in row)
