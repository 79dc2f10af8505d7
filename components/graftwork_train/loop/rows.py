"""Given rows as an endless stream. Shapes: N rows or positions."""

from __future__ import annotations

from graftwork_train.loop.order import Integers
from graftwork_train.loop.permutation import permute


class Rows:
    """Some rows of some domains: shuffled anew in each epoch, or again and again as they stand.

    Args:
        domains_N: Positions in `TokenShards.domains` of the rows' domains.
        rows_N: The rows in them.
        seed: Of the shuffle; None for the given order.
    """

    def __init__(self, domains_N: Integers, rows_N: Integers, seed: int | None) -> None:
        if not len(rows_N):
            raise AssertionError("a stream has at least one row")
        self.length = len(rows_N)
        self._domains_N, self._rows_N, self._seed = domains_N, rows_N, seed

    def rows(self, positions_N: Integers) -> tuple[Integers, Integers]:
        """Domains and rows at some positions of the stream."""
        epochs_N, inside_N = positions_N // self.length, positions_N % self.length
        if self._seed is not None:
            for epoch in set(epochs_N.tolist()):
                mine = epochs_N == epoch
                inside_N[mine] = permute(inside_N[mine], self.length, self._seed, epoch)
        return self._domains_N[inside_N], self._rows_N[inside_N]
