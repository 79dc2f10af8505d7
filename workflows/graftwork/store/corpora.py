"""The files of corpora: finding them, opening them, and telling whether they have changed."""

from __future__ import annotations

import glob
import hashlib
import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from graftwork.artifact import fingerprint
from graftwork.errors import RunError
from graftwork.spec.resources import Storage
from graftwork.store.files import explained, is_local, local_path

# Corpora up to this size are told apart by their content, larger ones by size and time.
HASHED_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True, order=True)
class FileInfo:
    """A file of a corpus; `modified` is a time or an etag, whatever its file system knows."""

    url: str
    bytes: int
    modified: str = ""


def find(pattern: str, storage: Storage) -> list[FileInfo]:
    """The files that a file name, a folder or a pattern with `*` and `**` stands for, sorted.

    Hidden files (`.name`, `_SUCCESS`-like markers of `_name`) in folders are left out.

    Raises:
        RunError: the storage behind a URL cannot be read.
    """
    if not is_local(pattern):
        return cast(list[FileInfo], _remote().find(pattern, storage))
    with explained(pattern):
        return sorted(
            FileInfo(str(path), path.stat().st_size, str(path.stat().st_mtime_ns))
            for path in _local_files(pattern)
        )


def _local_files(pattern: str) -> Iterator[Path]:
    path = local_path(pattern)
    if path.is_file():
        yield path
        return
    names = str(path / "**") if path.is_dir() else str(path)
    base = path if path.is_dir() else path.parent
    for name in glob.iglob(names, recursive=True):
        found = Path(name)
        if found.is_file() and not is_hidden(os.path.relpath(found, base)):
            yield found


def is_hidden(relative: str) -> bool:
    """Whether a file is a marker of some tool and not data: `.crc`, `_SUCCESS`, `_temporary/…`."""
    return any(
        part.startswith(("_", ".")) for part in relative.split("/") if part not in (".", "..")
    )


def open_file(url: str, mode: str = "rb", storage: Storage | None = None) -> IO[Any]:
    """Open a file of a corpus, local or behind a URL.

    Raises:
        RunError: it is not there, or cannot be read.
    """
    if is_local(url):
        with explained(url):
            return local_path(url).open(mode)
    return cast(IO[Any], _remote().open_url(url, mode, storage or Storage()))


def corpus_digest(corpus: object, storage: Storage) -> str | None:
    """20 hexadecimal digits that change when local files of a corpus do.

    Up to 256 MiB count by their content, more by their sizes and times. None for corpora that
    are not local files, which are told apart by `version` in the spec.

    Raises:
        RunError: there are no such files, or they cannot be read.
    """
    entries = _entries(corpus, storage)
    return None if entries is None else _digest(entries)


def has_changed(corpus: object, digest: str, storage: Storage) -> bool:
    """Whether local files are no longer those of an earlier `corpus_digest`.

    Only content tells: a corpus that is told apart by its files' times is taken for unchanged,
    since a copy on another machine has other times.

    Raises:
        RunError: as `corpus_digest`.
    """
    entries = _entries(corpus, storage)
    return entries is not None and _is_small(entries) and _digest(entries) != digest


def _entries(corpus: object, storage: Storage) -> list[tuple[str, FileInfo]] | None:
    """The local files of a corpus, each with the pattern that found it; None if not local."""
    uris = getattr(corpus, "uri", None)
    if not uris:
        return None
    patterns = [uris] if isinstance(uris, str) else list(uris)
    if not all(is_local(pattern) for pattern in patterns):
        return None
    entries: list[tuple[str, FileInfo]] = []
    for pattern in patterns:
        found = find(pattern, storage)
        if not found:
            raise RunError(
                f"no file matches {pattern!r}",
                "Check the uri; a relative path starts at the current folder.",
            )
        entries += [(pattern, info) for info in found]
    return entries


def _is_small(entries: list[tuple[str, FileInfo]]) -> bool:
    return sum(info.bytes for _, info in entries) <= HASHED_BYTES


def _digest(entries: list[tuple[str, FileInfo]]) -> str:
    by_content = _is_small(entries)
    return fingerprint(
        [[_short(pattern, info), info.bytes, _mark(info, by_content)] for pattern, info in entries]
    )


def _short(pattern: str, info: FileInfo) -> str:
    """The file's name as seen from the pattern, so that moving the corpus changes nothing."""
    plain = str(local_path(pattern))
    base = plain if os.path.isdir(plain) else os.path.dirname(plain.split("*", 1)[0])
    return os.path.relpath(info.url, base or ".")


def _mark(info: FileInfo, by_content: bool) -> str:
    if not by_content:
        return info.modified
    with explained(info.url), open(info.url, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remote() -> Any:  # noqa: ANN401 - a module that only some runs load
    return importlib.import_module("graftwork.store.remote")
