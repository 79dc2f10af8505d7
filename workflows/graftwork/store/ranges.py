"""An artifact behind a URL whose large files are read in parts, as they are needed.

A description of it is small and can be sent to any worker, which opens it there.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from pathlib import Path

from graftwork.spec.resources import Storage
from graftwork.store.artifacts import Store
from graftwork.store.cache import cache_folder


@dataclass(frozen=True, slots=True)
class RemoteArtifact:
    """Where an artifact lies, and how much disk its parts may take.

    Attributes:
        storage: The storage that it lies in.
        uri: Where.
        small: Files that are fetched whole.
        limit: Bytes of disk for parts of the others, on each machine.
    """

    storage: Storage
    uri: str
    small: tuple[str, ...]
    limit: int

    @classmethod
    def of(cls, store: Store, uri: str, limit: int, large: tuple[str, ...]) -> RemoteArtifact:
        """The artifact at `uri`; files whose names end in one of `large` are read in parts.

        Raises:
            CorruptArtifactError: its record cannot be read.
        """
        record = store.read_record(uri)
        files = record.files if record else []
        small = tuple(entry.path for entry in files if not entry.path.endswith(large))
        return cls(store.storage, uri, small, limit)

    def open(self) -> RangeReader:
        """A reader for this process."""
        return RangeReader(self)


class RangeReader:
    """Reads an artifact's small files whole and its large ones in parts."""

    def __init__(self, artifact: RemoteArtifact) -> None:
        self._artifact = artifact
        self._store = Store(artifact.storage)

    def small(self) -> Path:
        """A local folder with the small files, digests verified.

        Raises:
            CorruptArtifactError, RunError: as `Store.fetch`.
        """
        return self._store.fetch(self._artifact.uri, only=self._artifact.small)[1]

    def whole(self) -> Path:
        """A local folder with all files, digests verified.

        Raises:
            CorruptArtifactError, RunError: as `Store.fetch`.
        """
        return self._store.fetch(self._artifact.uri)[1]

    def sizes(self) -> dict[str, int]:
        """Bytes of every file in storage."""
        return self._store.files.sizes(self._artifact.uri)

    def read(self, name: str, start: int, stop: int) -> bytearray:
        """Bytes `start` to `stop` of a file, not verified.

        Raises:
            RunError: the storage refuses, or the file ends before.
        """
        data = bytearray(stop - start)
        uri = posixpath.join(self._artifact.uri, name)
        self._store.files.load(uri, start, memoryview(data))
        return data

    def cache(self) -> Path:
        """A local folder for parts of files, shared by all processes of this machine."""
        return cache_folder() / "blocks"
