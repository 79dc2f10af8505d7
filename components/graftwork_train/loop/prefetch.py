"""Batches made in advance by a thread, so that a step does not wait for its data.

What a batch holds stays a function of its step alone: the thread only makes it earlier.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from graftwork_train.loop.ledger import Ledger
from graftwork_train.loop.loader import Batch, Loader
from graftwork_train.loop.order import WINDOW

# Batches that wait, at most: enough to ride out a slow read, little enough to keep in memory.
DEPTH = 4
# Steps whose blocks are looked up with each batch: the look-up runs ahead faster than training.
LOOKED_UP = 8


class Prefetch:
    """The batches of one worker, in order, made ahead of time; `ledger` has those that were given.

    Use it as a context, which ends the thread, or `close` it.

    Args:
        loader: Makes the batches.
        rank: This worker's.
        workers: How many there are.
        last: Steps of the training; no batch beyond is made.
        pin: Whether batches go to a GPU.
    """

    def __init__(
        self, loader: Loader, *, rank: int = 0, workers: int = 1, last: int, pin: bool = False
    ) -> None:
        self.ledger = Ledger(loader)
        self._loader, self._rank, self._workers = loader, rank, workers
        self._last, self._pin = last, pin
        self._next = self._looked = 0
        self._waiting: deque[tuple[int, Future[Batch]]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, step: int) -> Batch:
        """The batch of a step; steps are asked for in order, or from another one on.

        Raises:
            CorruptArtifactError, RunError: as `Loader.read`.
        """
        if not self._waiting or self._waiting[0][0] != step:
            self._seek(step)
        _, future = self._waiting.popleft()
        self._fill()
        batch = future.result()
        self.ledger.add(step, batch.digest)
        return batch

    def close(self) -> None:
        """End the thread, once the batch at hand is made; what waits is given up."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._loader.close()

    def _seek(self, step: int) -> None:
        for _, future in self._waiting:
            future.cancel()
        self._waiting.clear()
        self._next = self._looked = step
        # The step itself is made even beyond the last one, if somebody asks for it.
        self._last = max(self._last, step + 1)
        self._fill()

    def _fill(self) -> None:
        while len(self._waiting) < DEPTH and self._next < self._last:
            self._waiting.append((self._next, self._thread.submit(self._make, self._next)))
            self._next += 1

    def _make(self, step: int) -> Batch:
        if self._loader.streamed:
            self._look_ahead(step)
        batch = self._loader.read(step, self._rank, self._workers)
        batch = replace(batch, digest=self._loader.digest(step))
        return batch.pinned() if self._pin else batch

    def _look_ahead(self, step: int) -> None:
        """Have the blocks fetched that come next, up to as many as are shuffled together."""
        self._looked = max(self._looked, step)
        for _ in range(LOOKED_UP):
            if self._looked >= self._last:
                return
            mine = self._loader.mine(self._looked, self._rank, self._workers)
            if self._loader.ahead(mine) > WINDOW:
                return
            self._looked += 1
