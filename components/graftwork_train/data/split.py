"""The held-out part: chosen by a hash of the text, so that no text is ever on both sides.

A document is held out when its hash, as a share of all hashes, lies below `held_out`. Two rules
see to it that every domain has something to validate on:

- Of a domain's first two different texts, the one with the lower hash is held out and the other
  is trained on, and so are their copies.
- A domain of one text only is cut: its end is held out. Questions and answers are not cut, but
  trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from graftwork_train.data.index import Ids, Split
from graftwork_train.data.marks import leading

Placed = tuple[Split, Ids]


@dataclass(slots=True)
class _First:
    """A domain's first text, kept until a different one comes."""

    mark: int
    ids: Ids
    copies: int = 1


class Splitter:
    """Says for every document which split it belongs to, in the order of the documents."""

    def __init__(self, held_out: float, eos: int, *, whole: bool = False) -> None:
        self._share = held_out
        self._whole = whole
        self._eos = eos
        self._below = int(held_out * 2**64)
        self._first: dict[str, _First | None] = {}
        self._forced: dict[int, Split] = {}

    def place(self, domain: str, mark: int, ids: Ids) -> list[Placed]:
        """Where a document goes; a domain's first one waits for the second.

        Args:
            domain: The document's domain.
            mark: 64-bit hash of its text.
            ids: int64 (n,), its tokens with eos.

        Returns:
            Documents that are decided now, with their splits, in the order they came.
        """
        if domain not in self._first:
            self._first[domain] = _First(mark, ids.copy())
            return []
        first = self._first[domain]
        if first is None:
            return [(self._side(mark), ids)]
        if first.mark == mark:
            first.copies += 1
            return []
        self._first[domain] = None
        lower, upper = sorted((first.mark, mark))
        self._forced.setdefault(lower, "held_out")
        self._forced.setdefault(upper, "train")
        return [(self._side(first.mark), first.ids)] * first.copies + [(self._side(mark), ids)]

    def finish(self) -> Iterator[tuple[str, list[Placed]]]:
        """By domain of one text only: the text, cut in two where it is long enough."""
        for domain, first in self._first.items():
            if first is None:
                continue
            # Of the text alone, so that metadata before it change nothing.
            size = round(self._share * (len(first.ids) - leading(first.ids)))
            if self._whole or size < 2 or len(first.ids) - size < 2:
                placed: list[Placed] = [("train", first.ids)] * first.copies
            else:
                head = np.append(first.ids[:-size], self._eos)
                placed = [("train", head)] * first.copies
                placed.append(("held_out", first.ids[-size:]))
            yield domain, placed

    def _side(self, mark: int) -> Split:
        if mark in self._forced:
            return self._forced[mark]
        return "held_out" if mark < self._below else "train"
