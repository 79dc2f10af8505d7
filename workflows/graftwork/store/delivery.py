"""Large files of an artifact that are summed up, and sent on their way, while a stage writes them.

What a stage takes hours to write is then committed in seconds: digests are known when the last byte
is written, and most parts of an object are at the server. Nothing is seen there before the commit.
"""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

from graftwork.store.download import LARGE
from graftwork.store.files import Check, Files, Sending

_CHUNK = 2**20
Told = Callable[[int], None]
"""Is told how many bytes of a file are written, and in the file."""
Follow = Callable[[Path, int], AbstractContextManager[Told]]
"""Follows a file of so many bytes while a block writes it."""


@contextlib.contextmanager
def unfollowed(path: Path, total: int) -> Iterator[Told]:
    """For files that become no artifact."""
    yield _ignored


def _ignored(position: int) -> None:
    """A position that nobody needs to know."""


class Delivery:
    """The large files of one artifact in the making.

    Args:
        files: Where the artifact will lie.
        folder: Local folder that its files are written in.
        uri: The artifact's.
        check: Raises where the artifact must not be made any more.
    """

    def __init__(self, files: Files, folder: Path, uri: str, check: Check) -> None:
        self._files, self._folder, self._uri, self._check = files, folder, uri, check
        self._followed: dict[str, _Followed] = {}

    @contextlib.contextmanager
    def follow(self, path: Path, total: int) -> Iterator[Told]:
        """Follow a file in the folder, open and empty, that a block writes from begin to end.

        Raises:
            RunError: the storage refuses.
            SupersededError: another attempt has taken over.
        """
        if total < LARGE:
            yield _ignored
            return
        self._check()
        name = path.relative_to(self._folder).as_posix()
        sending = self._files.sending(path, posixpath.join(self._uri, name), total)
        followed = self._followed[name] = _Followed(path, total, sending)
        try:
            yield followed.reached
        except BaseException:
            followed.abandon()
            raise
        followed.end()

    def settle(self) -> tuple[dict[str, str], dict[str, Sending]]:
        """By name: SHA-256 of the files that were followed and not touched since, and their parts.

        What was changed afterwards is in neither.
        """
        for name in [name for name, one in self._followed.items() if not one.untouched()]:
            self._followed.pop(name).abandon()
        kept = self._followed
        sent = {name: one.sending for name, one in kept.items() if one.sending is not None}
        return {name: one.digest() for name, one in kept.items()}, sent

    def abandon(self) -> None:
        """Let nothing go on; for parts that were not placed, leave nothing at the server."""
        for followed in self._followed.values():
            followed.abandon()


class _Followed:
    """A file that is read by a thread as far as it is written."""

    def __init__(self, path: Path, total: int, sending: Sending | None) -> None:
        self.sending = sending
        self._path, self._total = path, total
        self._news = threading.Condition()
        self._written, self._over = 0, False
        self._mark: tuple[int, int] | None = None
        self._reader = ThreadPoolExecutor(1)
        self._sum = self._reader.submit(self._read_along)

    def reached(self, position: int) -> None:
        """So many bytes are in the file."""
        with self._news:
            self._written = position
            self._news.notify()
        if self.sending is not None:
            self.sending.reached(position)

    def end(self) -> None:
        """The file is whole."""
        self._mark = _mark(self._path)
        self._stop(self._total)
        if self.sending is not None:
            self.sending.reached(self._total, last=True)

    def abandon(self) -> None:
        """Stop, and leave nothing at the server if it has not become an object."""
        self._stop(0)
        if self.sending is not None:
            self.sending.abandon()

    def untouched(self) -> bool:
        """Whether the file still is what was followed, and of the length that was announced."""
        return self._mark == _mark(self._path) and self._path.stat().st_size == self._total

    def digest(self) -> str:
        """SHA-256, in hexadecimal."""
        return self._sum.result()

    def _stop(self, position: int) -> None:
        with self._news:
            self._written, self._over = position, True
            self._news.notify()
        self._reader.shutdown(wait=False)

    def _read_along(self) -> str:
        digest, read = hashlib.sha256(), 0
        with self._path.open("rb", buffering=0) as file:
            while (ahead := self._wait(read)) > 0 and (chunk := file.read(min(ahead, _CHUNK))):
                digest.update(chunk)
                read += len(chunk)
        return digest.hexdigest()

    def _wait(self, read: int) -> int:
        """Bytes that are written and not read; none once there will be no more."""
        with self._news:
            self._news.wait_for(lambda: self._written > read or self._over)
            return self._written - read


def _mark(path: Path) -> tuple[int, int]:
    """What changes when a file is written or replaced."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns
