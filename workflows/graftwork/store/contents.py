"""What an artifact's folder holds: its files, and the sizes and digests that its record tells."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from graftwork.artifact import RECORD, FileEntry, Record, content_digest
from graftwork.errors import CorruptArtifactError
from graftwork.store.files import explained


def total_bytes(record: Record) -> int:
    """Bytes of all files."""
    return sum(entry.bytes for entry in record.files)


def check_size(uri: str, entry: FileEntry, found: int | None) -> None:
    """Make sure that a file is there, in its whole length.

    Raises:
        CorruptArtifactError: it is not.
    """
    if found is None:
        raise CorruptArtifactError(uri, f"{entry.path} is missing")
    if found != entry.bytes:
        raise CorruptArtifactError(
            uri, f"{entry.path} has {found} bytes, and {entry.bytes} were written"
        )


def check_digest(uri: str, entry: FileEntry, found: str) -> None:
    """Make sure that a file is what was written.

    Raises:
        CorruptArtifactError: it is not.
    """
    if found != entry.sha256:
        raise CorruptArtifactError(
            uri, f"{entry.path} has the digest {found[:12]}…, and {entry.sha256[:12]}… was written"
        )


def regular_files(folder: Path) -> list[Path]:
    """The files of a folder that becomes an artifact, sorted; its record is none of them."""
    found = [path for path in sorted(folder.rglob("*")) if not path.is_dir() or path.is_symlink()]
    for path in found:
        if path.is_symlink() or not path.is_file():
            raise AssertionError(f"a stage left {path.name}, which is not a regular file")
    return [path for path in found if path != folder / RECORD]


def entry_of(folder: Path, path: Path, digests: Mapping[str, str]) -> FileEntry:
    """What the record tells of a file; those in `digests` are not read."""
    name = path.relative_to(folder).as_posix()
    digest = digests.get(name)
    if digest is None:
        with path.open("rb") as file:
            digest = digest_of(file)
    return FileEntry(path=name, bytes=path.stat().st_size, sha256=digest)


def write_record(
    folder: Path, paths: Sequence[Path], record: Record, digests: Mapping[str, str]
) -> Record:
    """Fill in what the record tells of the files, and write it beside them."""
    with explained(str(folder)):
        files = [entry_of(folder, path, digests) for path in paths]
        whole = record.model_copy(update={"files": files, "content": content_digest(files)})
        (folder / RECORD).write_text(whole.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return whole


def digest_of(file: BinaryIO) -> str:
    """SHA-256, in hexadecimal."""
    digest = hashlib.sha256()
    while chunk := file.read(2**20):
        digest.update(chunk)
    return digest.hexdigest()


def is_safe(relative: str) -> bool:
    """Whether a path stays inside the folder that it is relative to."""
    parts = relative.split("/")
    return bool(relative) and "\\" not in relative and not {"", ".", ".."} & set(parts)
