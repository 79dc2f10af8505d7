"""Files from behind a URL onto the disk: fetched, summed up and written at the same time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graftwork.store.files import Files

# Bytes from which on a file travels in parts side by side, which is worth another client of S3.
LARGE = 32 * 2**20
# What is then fetched at once; two of them are in memory, whatever the file's size.
WINDOW = 64 * 2**20


def download(files: Files, uri: str, size: int, target: Path) -> str:
    """Copy a file of `size` bytes to the disk; returns its SHA-256, in hexadecimal.

    Raises:
        RunError: the storage refuses, or the file ends before.
        OSError: the disk does.
    """
    digest = hashlib.sha256()
    if size < LARGE:
        with files.open(uri) as source, target.open("wb") as copy:
            while chunk := source.read(2**20):
                digest.update(chunk)
                copy.write(chunk)
        return digest.hexdigest()
    buffers = [bytearray(min(WINDOW, size)) for _ in range(2)]
    with target.open("wb") as copy, ThreadPoolExecutor(2) as keepers:
        kept: list[Future[object]] = []
        for number, begin in enumerate(range(0, size, WINDOW)):
            part = memoryview(buffers[number % 2])[: size - begin]
            # The part before is kept meanwhile; its own buffer was free again one part ago.
            files.load(uri, begin, part)
            _wait(kept)
            kept = [keepers.submit(digest.update, part), keepers.submit(copy.write, part)]
        _wait(kept)
    return digest.hexdigest()


def _wait(futures: Iterable[Future[object]]) -> None:
    """Wait until all have ended; what one has raised is raised here."""
    for future in futures:
        future.result()
