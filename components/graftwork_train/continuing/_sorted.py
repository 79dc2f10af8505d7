"""A stage's sequences in an order of their own, which count towards their domains' cursors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graftwork_train.data.shards import TokenShards
from graftwork_train.loop.loader import Source
from graftwork_train.loop.order import Integers
from graftwork_train.loop.rows import Rows


class Sorted(Source):
    """The stage's sequences in an order of their own; each domain's cursor counts.

    Args:
        shards: The tokens.
        domains_N, rows_N: The stage's sequences in their order.
        cursor: Sequences of each domain that were consumed before.
    """

    def __init__(
        self, shards: TokenShards, domains_N: Integers, rows_N: Integers, cursor: Mapping[str, int]
    ) -> None:
        super().__init__(shards, 0, orders={"curriculum": Rows(domains_N, rows_N, None)})
        self._domains_N, self._cursor = domains_N, dict(cursor)

    def cursor(self, count: int) -> dict[str, int]:
        """Sequences consumed of each domain after `count` of this stage."""
        counts = np.bincount(self._domains_N[:count], minlength=len(self.domains))
        return {
            name: self._cursor.get(name, 0) + int(counts[number])
            for number, name in enumerate(self.domains)
        }
