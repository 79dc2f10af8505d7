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
    uri: str, files: Files, waiting: Waiting, beat: float = BEAT, stale: float = STALE
) -> Iterator[Lease]:
    """Hold the object `uri`, rewriting it every `beat` seconds.

    Raises:
        RunError: the storage cannot be written to.
    """
    token = uuid.uuid4().hex
    _claim(uri, files, token, waiting, beat, stale)
    stop = threading.Event()
    lost = threading.Event()

    def keep() -> None:
        while not stop.wait(beat):
            try:
                if not _is_ours(files.read(uri), token):
                    lost.set()
                    return
                files.write(uri, _body(token))
            except RunError:
                continue  # a short outage; whoever waits gives us `stale` seconds

    thread = threading.Thread(target=keep, daemon=True, name="graftwork-lease")
    thread.start()
    try:
        yield Lease(None, lambda: not lost.is_set() and _is_ours(files.read(uri), token))
    finally:
        stop.set()
        thread.join(timeout=beat)
        if not lost.is_set() and _is_ours(files.read(uri), token):
            files.delete(uri)


def _body(token: str) -> bytes:
    return json.dumps({**owner(), "token": token, "beat": time.time()}).encode()


def _is_ours(data: bytes | None, token: str) -> bool:
    return data is not None and token.encode() in data


def _claim(uri: str, files: Files, token: str, waiting: Waiting, beat: float, stale: float) -> None:
    seen: bytes | None = None
    changed = time.monotonic()
    while True:
        # Reading back shows who won where the server does not know exclusive writes.
        if files.write(uri, _body(token), exclusive=True) and _is_ours(files.read(uri), token):
            return
        found = files.read(uri)
        if found != seen:
            if seen is None and found is not None:
                waiting(_describe(found))
            seen, changed = found, time.monotonic()
        elif found is not None and time.monotonic() - changed > stale:
            files.delete(uri)
            continue
        time.sleep(min(beat, 2.0))
