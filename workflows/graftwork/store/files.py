"""The few operations that storage needs, and how a local folder does them.

Paths are whole URIs here: `runs/base/0a1b…` or `s3://bucket/runs/base/0a1b…`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from graftwork.artifact import RECORD
from graftwork.errors import RunError
from graftwork.spec.resources import Storage

# Larger writes and reads gain nothing, and some systems refuse those beyond 2 GiB.
_BLOCK = 2**26
_PAGE = 4096
Check = Callable[[], None]
Wait = Callable[[], object]


class Sending(Protocol):
    """A file that is sent in parts while it is written; nobody sees it before `finish`."""

    def reached(self, position: int, *, last: bool = False) -> None:
        """Send what is written, up to `position`; `last` where this is the whole file."""

    def finish(self) -> None:
        """Wait for the parts, and make the object of them; raises what the client does."""

    def abandon(self) -> None:
        """Send no more; what is not finished leaves nothing behind."""


class Files(Protocol):
    """A file system, local or not. Every method raises RunError where the user can help."""

    local: bool

    def read(self, uri: str) -> bytes | None:
        """The file's bytes, or None where there is no such file."""

    def open(self, uri: str) -> BinaryIO:
        """The file, opened for reading."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of every file under the folder, by relative path; empty where it is missing."""

    def sending(self, path: Path, uri: str, total: int) -> Sending | None:
        """Begin to send a file of `total` bytes that is still being written, where that is done."""

    def place(
        self,
        folder: Path,
        names: Sequence[str],
        uri: str,
        check: Check,
        recorded: Wait,
        sent: Mapping[str, Sending],
    ) -> None:
        """Put the files named in the local folder at `uri`; the record, last, makes them whole.

        `check` raises where they must not be put any more; it is asked before each change. The
        record lies in the folder once `recorded` returns. Of files in `sent` most is there.
        """

    def move(self, uri: str, target: str) -> None:
        """Rename a folder; `target` must not exist."""

    def write(self, uri: str, data: bytes, *, exclusive: bool = False) -> bool:
        """Write a small file. With `exclusive`, False where it is there already."""

    def delete(self, uri: str) -> None:
        """Delete one file; it is no error if there is none."""

    def save(self, uri: str, data: memoryview) -> None:
        """Write a file of any size: it is whole and durable when this returns, or not there."""

    def load(self, uri: str, start: int, into: memoryview) -> None:
        """Fill `into` with the file's bytes from `start` on; one that is too short is refused."""

    def clear(self, folder: str) -> None:
        """Delete everything under a folder, and the folder."""


def files_for(uri: str, storage: Storage) -> Files:
    """The file system that `uri` lies on; fsspec is loaded only for a URL with a scheme."""
    if is_local(uri):
        return LocalFiles()
    remote = importlib.import_module("graftwork.store.remote")
    return cast(Files, remote.RemoteFiles(uri, storage))


def is_local(uri: str) -> bool:
    """Whether `uri` is a path on this machine."""
    return "://" not in uri or uri.startswith("file://")


def local_path(uri: str) -> Path:
    """A local URI as a path, `~` resolved."""
    return Path(uri.removeprefix("file://")).expanduser()


@contextlib.contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn the operating system's refusals into errors that say what to do.

    Raises:
        RunError: the disk is full, the folder is read-only or not ours, a path is a file, …
    """
    try:
        yield
    except OSError as error:
        raise explain(uri, error) from error


def explain(uri: str, error: OSError) -> RunError:
    """`error`, met at `uri`, in words."""
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    remedies = {
        errno.ENOSPC: "Free some space, or choose another place with --set storage.root=FOLDER.",
        errno.EDQUOT: "Your quota is used up: free some space, or choose another storage.root.",
        errno.EFBIG: "The file is larger than this system allows: raise the limit (ulimit -f).",
        errno.EROFS: "It is read-only: choose another place with --set storage.root=FOLDER.",
        errno.EACCES: "Ask for access, or choose another place with --set storage.root=FOLDER.",
        errno.EPERM: "Ask for access, or choose another place with --set storage.root=FOLDER.",
        errno.ENOTDIR: "A part of this path is a file: choose another storage.root.",
        errno.EEXIST: "A file is in the way: move it, or choose another storage.root.",
        errno.ENOENT: "Check that the path exists.",
    }
    remedy = remedies.get(error.errno or 0, "Check the storage, then run the workflow again.")
    return RunError(f"{error.filename or uri}: {reason}", remedy)


class LocalFiles:
    """A folder on this machine, by the standard library."""

    local = True

    def read(self, uri: str) -> bytes | None:
        """The file's bytes, or None where there is no such file."""
        with explained(uri):
            try:
                return local_path(uri).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def open(self, uri: str) -> BinaryIO:
        """The file, opened for reading."""
        with explained(uri):
            return local_path(uri).open("rb")

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of every file under the folder, by relative path."""
        root = local_path(folder)
        with explained(folder):
            return {
                path.relative_to(root).as_posix(): path.stat().st_size
                for path in root.rglob("*")
                if path.is_file()
            }

    def sending(self, path: Path, uri: str, total: int) -> None:
        """Nothing is sent: the folder will be renamed."""

    def place(
        self,
        folder: Path,
        names: Sequence[str],
        uri: str,
        check: Check,
        recorded: Wait,
        sent: Mapping[str, Sending],
    ) -> None:
        """Rename the folder into place, once its record is on the disk."""
        target = local_path(uri)
        recorded()
        with explained(uri):
            for name in (*names, RECORD):
                _sync(folder / name)
            _sync(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            check()
            outdated = folder.with_name(folder.name + ".outdated")
            # A folder cannot be renamed onto another. Between the two lines there is no artifact,
            # which is the truth: the old one is outdated, the new one is not there yet.
            with contextlib.suppress(FileNotFoundError):
                target.rename(outdated)
            folder.rename(target)
            _sync(target.parent)
            shutil.rmtree(outdated, ignore_errors=True)

    def move(self, uri: str, target: str) -> None:
        """Rename a folder."""
        with explained(uri):
            local_path(target).parent.mkdir(parents=True, exist_ok=True)
            local_path(uri).rename(local_path(target))

    def write(self, uri: str, data: bytes, *, exclusive: bool = False) -> bool:
        """Write a small file, whole or not at all; an exclusive one may be cut off by a crash."""
        path = local_path(uri)
        draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
        with explained(uri):
            path.parent.mkdir(parents=True, exist_ok=True)
            if exclusive:
                return _create(path, data)
            try:
                draft.write_bytes(data)
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)
        return True

    def delete(self, uri: str) -> None:
        """Delete one file."""
        with explained(uri):
            local_path(uri).unlink(missing_ok=True)

    def save(self, uri: str, data: memoryview) -> None:
        """Write, flush to the disk, and rename."""
        path = local_path(uri)
        draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
        with explained(uri):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                _write(draft, data)
                draft.replace(path)
                _sync(path.parent)
            finally:
                draft.unlink(missing_ok=True)

    def load(self, uri: str, start: int, into: memoryview) -> None:
        """Read straight into the memory that is given."""
        with explained(uri), local_path(uri).open("rb", buffering=0) as file:
            file.seek(start)
            while into:
                count = file.readinto(into[:_BLOCK])
                if not count:
                    raise RunError(f"{uri}: it ends too early", "Delete it; it is not whole.")
                into = into[count:]

    def clear(self, folder: str) -> None:
        """Delete a folder."""
        with explained(folder), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(local_path(folder))


def _write(path: Path, data: memoryview) -> None:
    """Write a file and flush it to the disk.

    Large data at a page's beginning goes past the page cache, which on two cores is three times
    as fast; file systems that cannot do that say so, and get it the usual way.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    direct = getattr(os, "O_DIRECT", 0) if len(data) >= _PAGE else 0
    try:
        _write_to(path, flags | direct, data, direct)
    except OSError as error:
        if not direct or error.errno != errno.EINVAL:
            raise
        _write_to(path, flags, data, 0)


def _write_to(path: Path, flags: int, data: memoryview, direct: int) -> None:
    handle = os.open(path, flags, 0o644)
    try:
        while len(data) >= _PAGE:
            whole = len(data) // _PAGE * _PAGE
            data = data[os.write(handle, data[: min(whole, _BLOCK)]) :]
        if direct:
            fcntl.fcntl(handle, fcntl.F_SETFL, fcntl.fcntl(handle, fcntl.F_GETFL) & ~direct)
        while data:
            data = data[os.write(handle, data) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _create(path: Path, data: bytes) -> bool:
    try:
        with path.open("xb") as file:
            file.write(data)
    except FileExistsError:
        return False
    return True


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
