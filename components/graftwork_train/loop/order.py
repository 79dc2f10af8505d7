"""The order in which rows are read: shuffled, endless, and found for any position at once.

Rows lie in blocks (`TokenShards.block_rows`), which is what is fetched where the tokens lie behind
a URL. A shuffle over everything would fetch a block for every row. So each epoch shuffles the
blocks, takes them in windows of `WINDOW` blocks, and shuffles the rows within a window. What is
smaller than two windows, half a gigabyte, is shuffled as a whole. Every block that is not
full, one for each domain, belongs to the last window.

Shapes: N positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol

import numpy as np
import numpy.typing as npt

from graftwork_train.data.index import Split
from graftwork_train.data.shards import TokenShards
from graftwork_train.loop.permutation import permute

Integers = npt.NDArray[np.int64]

# Blocks whose rows are shuffled together: 256 MiB, so that a small disk holds two windows.
WINDOW = 32


class Ordering(Protocol):
    """Rows as an endless stream."""

    length: int
    """Rows until they come again."""

    def rows(self, positions_N: Integers) -> tuple[Integers, Integers]:
        """Domains and rows at some positions of the stream, as `Order.rows`."""


class Order:
    """The rows of some domains, as an endless shuffled stream.

    Args:
        shards: The tokens.
        split: Which part to read.
        domains: Positions in `shards.domains(split)` of the domains to read.
        seed: Of the shuffle.
    """

    def __init__(
        self, shards: TokenShards, split: Split, domains: Sequence[int], seed: int
    ) -> None:
        names = shards.domains(split)
        lengths = [shards.sequences(split, names[number]) for number in domains]
        self.length = sum(lengths)
        self._rows = shards.block_rows
        self._seed = seed
        self._domains = np.array(domains, dtype=np.int64)
        full = [length // self._rows for length in lengths]
        self._full = np.array(full, dtype=np.int64)
        # Before each domain: its full blocks, and its rows that fill no block.
        self._blocks = np.array([0, *accumulate(full)], dtype=np.int64)
        self._tails = np.array(
            [0, *accumulate(length % self._rows for length in lengths)], dtype=np.int64
        )
        self._windows = max(1, int(self._blocks[-1]) // WINDOW)

    def rows(self, positions_N: Integers) -> tuple[Integers, Integers]:
        """What stands at some positions of the stream.

        Returns:
            domains_N: Positions in `shards.domains(split)`.
            rows_N: Rows of those domains.
        """
        found_N = np.empty_like(positions_N)
        epochs_N, inside_N = np.divmod(positions_N, self.length)
        for epoch in np.unique(epochs_N):
            mine = epochs_N == epoch
            found_N[mine] = self._shuffled(inside_N[mine], int(epoch))
        return self._place(found_N)

    def _shuffled(self, inside_N: Integers, epoch: int) -> Integers:
        """Numbers of rows, full blocks first, at positions of one epoch."""
        if self._windows == 1:
            return permute(inside_N, self.length, self._seed, epoch)
        size = WINDOW * self._rows
        windows_N = np.minimum(inside_N // size, self._windows - 1)
        found_N = np.empty_like(inside_N)
        for window in np.unique(windows_N):
            mine = windows_N == window
            begin = int(window) * size
            length = self.length - begin if window == self._windows - 1 else size
            # Another seed for every window, so that no two are shuffled alike.
            seed = self._seed + (int(window) + 1) * 2**32
            found_N[mine] = begin + permute(inside_N[mine] - begin, length, seed, epoch)
        count = int(self._blocks[-1])
        full = found_N < count * self._rows
        slots, rows = np.divmod(found_N[full], self._rows)
        found_N[full] = permute(slots, count, self._seed, epoch) * self._rows + rows
        return found_N

    def _place(self, numbers_N: Integers) -> tuple[Integers, Integers]:
        """Domains and rows of numbers that count the full blocks' rows first."""
        edge = int(self._blocks[-1]) * self._rows
        full_N = numbers_N < edge
        blocks_N, rows_N = np.divmod(numbers_N, self._rows)
        tails_N = numbers_N - edge
        at_N = np.where(
            full_N,
            np.searchsorted(self._blocks, blocks_N, side="right") - 1,
            np.searchsorted(self._tails, tails_N, side="right") - 1,
        ).clip(0, len(self._domains) - 1)
        inside_N = np.where(
            full_N,
            (blocks_N - self._blocks[at_N]) * self._rows + rows_N,
            self._full[at_N] * self._rows + tails_N - self._tails[at_N],
        )
        return self._domains[at_N], inside_N
