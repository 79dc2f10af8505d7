"""Blocks of files behind a URL: fetched when they are needed or before, verified, kept on disk.

All processes of a machine share one folder. Its size is bounded: the blocks that were not used for
the longest time are removed. A block is fetched by one process at a time, and is in the folder
whole or not at all.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash

from graftwork.errors import CorruptArtifactError, RunError
from graftwork.store.files import explained

Bytes = npt.NDArray[np.uint8]

# About two minutes in all, which is longer than a server takes to come back.
ATTEMPTS = 8
LONGEST_PAUSE = 30.0
THREADS = 4
# Files that processes lock so that each block is fetched once; blocks share them.
_LOCKS = 64
# Seconds after which the use of a block is noted again.
_TOUCH = 1.0
# Errors that another attempt does not help.
_FINAL = (FileNotFoundError, PermissionError)


@dataclass(frozen=True, slots=True)
class Block:
    """Bytes `start` to `stop` of a file, and what xxHash's XXH3 of 128 bits makes of them."""

    file: str
    number: int
    start: int
    stop: int
    digest: str


class BlockCache:
    """The blocks of one artifact.

    Args:
        uri: Where the artifact lies, for messages.
        read: Gives the bytes of a file between two positions.
        folder: Where blocks are kept, also those of other artifacts.
        key: Tells this artifact's blocks from others' in that folder.
        limit: Bytes that the folder may hold.
        pause: Waits some seconds between two attempts.
    """

    def __init__(
        self,
        uri: str,
        read: Callable[[str, int, int], bytes | bytearray],
        folder: Path,
        key: str,
        limit: int,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.uri, self._read, self._folder, self._key = uri, read, folder, key
        self._limit, self._pause = limit, pause
        self._maps: dict[Block, Bytes] = {}
        self._used: dict[Block, float] = {}
        self._pending: dict[Block, Future[Bytes]] = {}
        self._mutex = threading.Lock()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="blocks")
        with explained(str(folder)):
            folder.mkdir(parents=True, exist_ok=True)

    def get(self, block: Block) -> Bytes:
        """A block's bytes, fetched unless they are here.

        Raises:
            CorruptArtifactError: they are not what was written, however often they are fetched.
            RunError: the storage does not give them.
        """
        with self._mutex:
            found = self._maps.get(block)
            waiting = self._pending.pop(block, None)
        if found is not None and self._touch(block):
            return found
        made = waiting.result() if waiting is not None else self._load(block)
        with self._mutex:
            # A file that was removed takes room on the disk for as long as it is mapped.
            self._maps = {one: m for one, m in self._maps.items() if self._path(one).exists()}
            self._used = {one: self._used[one] for one in self._maps if one in self._used}
            self._maps[block] = made
        return made

    def ahead(self, blocks: Iterable[Block]) -> int:
        """Begin to fetch blocks that are needed soon; an error is raised by `get`.

        Returns:
            How many blocks are not in use yet.
        """
        with self._mutex:
            for block in blocks:
                if block not in self._maps and block not in self._pending:
                    self._pending[block] = self._threads.submit(self._load, block)
            return len(self._pending)

    def close(self) -> None:
        """Give up what is not fetched yet."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _path(self, block: Block) -> Path:
        return self._folder / f"{self._key}.{block.file}.{block.number:08d}"

    def _touch(self, block: Block) -> bool:
        """Note that a block was used; False, and out of memory, if it was removed meanwhile."""
        now = time.monotonic()
        if now - self._used.get(block, -_TOUCH) < _TOUCH:
            return True
        try:
            os.utime(self._path(block))
        except FileNotFoundError:
            with self._mutex:
                self._maps.pop(block, None)
            return False
        self._used[block] = now
        return True

    def _load(self, block: Block) -> Bytes:
        path = self._path(block)
        with explained(str(path)):
            found = _mapped(path, block)
            if found is None:
                with _locked(self._folder / str(block.number % _LOCKS)):
                    found = _mapped(path, block)
                    if found is None:
                        self._store(path, self._fetch(block))
                        found = _mapped(path, block)
        if found is None:
            raise RunError(
                f"{path}: a block cannot be kept there",
                "Another process removes it at once: raise the pool's 'data_cache'.",
            )
        return found

    def _fetch(self, block: Block) -> bytes | bytearray:
        failed: Exception | None = None
        for attempt in range(ATTEMPTS):
            if attempt:
                # Doubled each time; at random, so that many workers do not all come at once.
                longest = min(LONGEST_PAUSE, 2.0**attempt)
                self._pause(longest * random.uniform(0.5, 1.0))
            try:
                data = self._read(block.file, block.start, block.stop)
            except RunError as error:
                if isinstance(error.__cause__, _FINAL):
                    raise
                failed = error
                continue
            if len(data) == block.stop - block.start and _digest(data) == block.digest:
                return data
            told = f"block {block.number} of {block.file} is not what was written"
            failed = CorruptArtifactError(self.uri, told)
        if isinstance(failed, CorruptArtifactError):
            raise failed
        raise RunError(
            f"{self.uri}: block {block.number} of {block.file} could not be read in {ATTEMPTS} "
            f"attempts: {failed.what if isinstance(failed, RunError) else failed}",
            "Check the storage, then run the workflow again; training goes on from its last "
            "checkpoint.",
        ) from failed

    def _store(self, path: Path, data: bytes | bytearray) -> None:
        draft = path.with_name(f".{uuid.uuid4().hex}.draft")
        try:
            draft.write_bytes(data)
            draft.rename(path)
        finally:
            draft.unlink(missing_ok=True)
        with _locked(self._folder / "all"):
            self._evict(keep=path)

    def _evict(self, keep: Path) -> None:
        """Remove the blocks that were used the longest time ago, until the rest fits."""
        found = []
        for entry in os.scandir(self._folder):
            with contextlib.suppress(FileNotFoundError):
                if not entry.name.startswith("."):
                    status = entry.stat()
                    found.append((status.st_mtime_ns, status.st_size, entry.path))
        total = sum(size for _, size, _ in found)
        for _, size, name in sorted(found):
            if total <= self._limit:
                break
            if name != str(keep):
                Path(name).unlink(missing_ok=True)
                total -= size


def _mapped(path: Path, block: Block) -> Bytes | None:
    """A kept block, mapped into memory; None where it is missing or damaged."""
    try:
        data = np.memmap(path, dtype=np.uint8, mode="r")
        os.utime(path)
    except (FileNotFoundError, ValueError):  # numpy refuses an empty file by a ValueError
        return None
    if len(data) != block.stop - block.start or _digest(data.data) != block.digest:
        path.unlink(missing_ok=True)
        return None
    return data


def _digest(data: bytes | bytearray | memoryview) -> str:
    return xxhash.xxh3_128_hexdigest(data)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone among all threads and processes of this machine."""
    name = path.with_name(f".{path.name}.lock")
    handle = os.open(name, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
