"""Files of corpora: found, opened and decompressed, wherever they lie."""

from __future__ import annotations

import gzip
import io
import os
import posixpath
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, cast

import zstandard

from graftwork import store
from graftwork.errors import RunError
from graftwork.spec.resources import Storage
from graftwork.store.files import explain, is_local, local_path

# A line beyond this is no line of text: a file without line ends, or not a text file at all.
LONGEST_LINE = 64 * 2**20
_BUFFER = 2**20

# What decompressing a damaged file raises. Any other OSError is the storage's fault.
DAMAGE = (gzip.BadGzipFile, EOFError, zlib.error, zstandard.ZstdError)


def find(uri: str, storage: Storage, suffixes: Sequence[str], corpus: str) -> list[store.FileInfo]:
    """Files that `uri` names (a file, a folder or a pattern), sorted by their URLs.

    In a folder, files with another suffix than those given are left out.

    Raises:
        RunError: there are none.
    """
    found = store.find(uri, storage)
    if suffixes and not re.search(r"[*?\[]", uri) and not _is_one_file(uri, found):
        found = [file for file in found if file.url.endswith(tuple(suffixes))]
    if not found:
        kinds = f" ending in {', '.join(suffixes)}" if suffixes else ""
        raise RunError(
            f"corpus {corpus}: no file{kinds} at {uri}",
            "Check the uri: it is a file, a folder or a pattern with * and **, and a relative "
            "path begins where the command is run.",
        )
    return sorted(found, key=lambda file: file.url)


def relative(url: str, uri: str) -> str:
    """The name of a file as seen from the pattern that found it, so that ids outlive a move."""
    base, name = _plain(_fixed_prefix(uri)), _plain(url)
    inside = name.startswith(base.rstrip("/") + "/")
    return name[len(base) :].lstrip("/") if inside else posixpath.basename(name)


def _fixed_prefix(uri: str) -> str:
    """The part of a pattern before its first wildcard, up to the last slash."""
    wild = re.search(r"[*?\[]", uri)
    return uri if wild is None else uri[: uri.rfind("/", 0, wild.start()) + 1]


def _plain(url: str) -> str:
    """A URL without its scheme, a path without `.`, `~` and doubled slashes."""
    if is_local(url):
        return os.path.abspath(local_path(url))
    return posixpath.normpath(url.split("://", 1)[1]).lstrip("/")


def _is_one_file(uri: str, found: Sequence[store.FileInfo]) -> bool:
    return len(found) == 1 and _plain(found[0].url) == _plain(uri)


@contextmanager
def open_data(url: str, storage: Storage) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes, decompressed by its suffix (.gz, .zst).

    Raises:
        RunError: the storage cannot give it.
    """
    try:
        with store.open_file(url, "rb", storage) as file:
            if url.endswith(".gz"):
                with gzip.open(file, "rb") as plain:
                    yield cast(IO[bytes], plain)
            elif url.endswith(".zst"):
                yield io.BufferedReader(_Zstd(file), _BUFFER)
            elif is_local(url):
                yield file
            else:
                # fsspec's files give bytes, and no lines of a limited length.
                yield io.BufferedReader(cast(io.RawIOBase, file), _BUFFER)
    except gzip.BadGzipFile:
        raise
    except OSError as error:
        raise explain(url, error) from error


def lines(file: IO[bytes]) -> Iterator[bytes | None]:
    """Lines with their ends; None for one that is longer than any line of text."""
    while line := file.readline(LONGEST_LINE):
        if len(line) < LONGEST_LINE or line.endswith(b"\n"):
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(LONGEST_LINE)
        yield None


class _Zstd(io.RawIOBase):
    """Decompressed bytes of one or more zstd frames; a cut frame is an error, not an end."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._compressed = b""
        self._plain = b""
        self._begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        while not self._plain:
            if self._frame.eof:
                self._compressed = self._frame.unused_data
                self._frame = zstandard.ZstdDecompressor().decompressobj()
                self._begun = False
            data = self._compressed or self._file.read(2**18)
            self._compressed = b""
            if not data:
                if self._begun:
                    raise EOFError("the compressed file ends in the middle")
                return 0
            self._begun = True
            self._plain = self._frame.decompress(data)
        size = min(len(buffer), len(self._plain))
        buffer[:size] = self._plain[:size]
        self._plain = self._plain[size:]
        return size
