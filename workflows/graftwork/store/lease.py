"""Leases: of two runs that want the same artifact, one works and the other waits.

On a local folder a lease is a lock of the operating system (flock): it goes with the last
process that holds it, however that ends, so there is nothing stale to clean up. Behind a URL it
is an object made with an exclusive write and kept alive by rewriting it; one that has not changed
for `STALE` seconds by the waiting reader's own clock is taken over. Where a server ignores the
condition of an exclusive write, two runs may both work: that wastes time, and the one that lost
its lease notices before it commits.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from graftwork.errors import RunError
from graftwork.store.files import Files, explained, local_path

BEAT = 20.0
STALE = 90.0
Waiting = Callable[[str], None]


class Lease:
    """A lease that is held. `handle` is the lock's file, to be inherited by a child process."""

    def __init__(self, handle: int | None, is_held: Callable[[], bool]) -> None:
        self.handle = handle
        self._is_held = is_held

    def check(self) -> None:
        """Make sure that the lease is still ours.

        Raises:
            RunError: another run took it over, because this one was not heard of for too long.
        """
        if not self._is_held():
            raise RunError(
                "another run took this stage over while this one was out of reach",
                "Run the workflow again: it takes up what the other run made.",
            )


def owner() -> dict[str, object]:
    """Who asks for a lease, for the message to whoever waits."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}


@contextlib.contextmanager
def local_lease(uri: str, waiting: Waiting, poll: float = 0.2) -> Iterator[Lease]:
    """Hold the lock file `uri`; `waiting` is called once if another process has it.

    Raises:
        RunError: the folder cannot be written to.
    """
    path = local_path(uri)
    with explained(uri):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _lock(path, waiting, poll)
    try:
        yield Lease(handle, lambda: True)
    finally:
        with contextlib.suppress(OSError):  # the lock itself goes with the handle
            path.unlink(missing_ok=True)
        os.close(handle)


def _lock(path: Path, waiting: Waiting, poll: float) -> int:
    told = False
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not told:
                waiting(_describe(os.pread(handle, 4096, 0)))
                told = True
            os.close(handle)
            time.sleep(poll)
            continue
        # The holder deletes the file when done: a lock on a deleted file would exclude nobody.
        if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(owner()).encode(), 0)
            return handle
        os.close(handle)


def _describe(data: bytes) -> str:
    try:
        found = json.loads(data)
        return f"process {found['pid']} on {found['host']}"
    except (ValueError, KeyError, TypeError):
        return "another run"


@contextlib.contextmanager
def remote_lease(
    uri: str,
    files: Files,
    waiting: Waiting,
    *,
    holder: str = "",
    beat: float = BEAT,
    stale: float = STALE,
) -> Iterator[Lease]:
    """Hold the object `uri`, rewriting it every `beat` seconds.

    Args:
        uri: The object.
        files: Where it lies.
        waiting: Called once with who has it, if somebody else does.
        holder: Our name; a lease that is held under it is taken over without waiting.
        beat: Seconds between two signs of life.
        stale: Seconds without one after which anybody may take the lease over.

    Raises:
        RunError: the storage cannot be written to.
    """
    claim = _Claim(uri, files, uuid.uuid4().hex, holder)
    claim.take(waiting, beat, stale)
    stop = threading.Event()
    lost = threading.Event()

    def keep() -> None:
        while not stop.wait(beat):
            try:
                if not claim.is_ours():
                    lost.set()
                    return
                claim.write()
            except RunError:
                continue  # a short outage; whoever waits gives us `stale` seconds

    thread = threading.Thread(target=keep, daemon=True, name="graftwork-lease")
    thread.start()
    try:
        yield Lease(None, lambda: not lost.is_set() and claim.is_ours())
    finally:
        stop.set()
        thread.join(timeout=beat)
        if not lost.is_set() and claim.is_ours():
            files.delete(uri)


def end_lease_of(holder: str, uri: str, files: Files) -> None:
    """Remove the lease object that a lost process held under this name; any other one stays."""
    if holder and _field(files.read(uri), "holder") == holder:
        files.delete(uri)


@dataclass(frozen=True, slots=True)
class _Claim:
    """Our wish to hold an object lease: `token` is this one's alone, `holder` its successors' too.

    The object is written whole and read back, so that of several claims one is seen to have won,
    also where the server does not know exclusive writes.
    """

    uri: str
    files: Files
    token: str
    holder: str

    def write(self, *, exclusive: bool = False) -> bool:
        """Write the lease as ours; False where an exclusive write found one."""
        body = {**owner(), "token": self.token, "holder": self.holder, "beat": time.time()}
        return self.files.write(self.uri, json.dumps(body).encode(), exclusive=exclusive)

    def is_ours(self) -> bool:
        """Whether the lease that is there is this claim's."""
        return _field(self.files.read(self.uri), "token") == self.token

    def take(self, waiting: Waiting, beat: float, stale: float) -> None:
        """Wait until the lease is ours."""
        seen: bytes | None = None
        changed = time.monotonic()
        while True:
            # Ours it may be also where it was found there: an answer may have been lost on its way.
            self.write(exclusive=True)
            if self.is_ours():
                return
            found = self.files.read(self.uri)
            if self._is_predecessor_s(found):
                self.write()
                if self.is_ours():
                    return
            elif found != seen:
                if seen is None and found is not None:
                    waiting(_describe(found))
                seen, changed = found, time.monotonic()
            elif found is not None and time.monotonic() - changed > stale:
                self.files.delete(self.uri)
                continue
            time.sleep(min(beat, 2.0))

    def _is_predecessor_s(self, found: bytes | None) -> bool:
        return bool(self.holder) and _field(found, "holder") == self.holder


def _field(data: bytes | None, key: str) -> str:
    try:
        return str(json.loads(data or b"{}").get(key, ""))
    except (ValueError, AttributeError):
        return ""
