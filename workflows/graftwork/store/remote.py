"""Storage behind a URL, through fsspec: s3, gs, abfs, http, memory, … The only importer of fsspec.

An object store has no rename: an artifact's files are written first and its record last, so that
a reader who finds a record finds all files.
"""

from __future__ import annotations

import contextlib
import importlib
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import fsspec

from graftwork.artifact import RECORD
from graftwork.errors import GraftworkError, RunError
from graftwork.spec.resources import Storage
from graftwork.store.corpora import FileInfo, is_hidden
from graftwork.store.download import LARGE
from graftwork.store.files import Check, Sending, Wait
from graftwork.store.patience import patient


def filesystem(uri: str, storage: Storage) -> Any:  # noqa: ANN401 - fsspec has no types
    """The fsspec file system for a URL, with the storage's endpoint and region.

    Raises:
        RunError: the scheme is unknown, or its package is not installed.
    """
    scheme = uri.split("://", 1)[0]
    options: dict[str, Any] = {}
    if scheme == "minio":
        _know_minio()
    if scheme in ("s3", "s3a", "minio"):
        # A listing kept from before another process wrote would hide its artifact from us.
        options = {"use_listings_cache": False}
        if storage.endpoint:
            options["endpoint_url"] = storage.endpoint
        if storage.region:
            options["client_kwargs"] = {"region_name": storage.region}
    try:
        return fsspec.filesystem(scheme, **options)
    except (ImportError, ValueError) as error:
        raise RunError(
            f"{uri}: {error}",
            "Use a URL that fsspec knows, such as s3://bucket/prefix, and install its package.",
        ) from error


def _know_minio() -> None:
    """Teach fsspec the scheme that Kubeflow Pipelines has for S3 servers with their own endpoint.

    On a cluster the launcher puts `s3://` and that endpoint in its place; elsewhere it is the one
    in AWS_ENDPOINT_URL.
    """
    s3 = fsspec.get_filesystem_class("s3")
    fsspec.register_implementation("minio", type("Minio", (s3,), {"protocol": ("minio",)}), True)


@contextlib.contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn whatever a client library raises into an error that says what to do.

    Raises:
        RunError: always when the block raises, except for errors that are ours already.
    """
    try:
        yield
    except (GraftworkError, AssertionError):
        raise
    except Exception as error:  # each protocol's client has exceptions of its own
        raise _explain(uri, error) from error


def _explain(uri: str, error: Exception) -> RunError:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    bucket = uri.split("://", 1)[-1].split("/", 1)[0]
    hints = {
        ("NoCredentials", "PartialCredentials"): (
            "No credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or name a secret in storage.secret."
        ),
        ("PermissionError", "Forbidden", "AccessDenied", "InvalidAccessKey", "SignatureDoesNot"): (
            f"The credentials do not open {bucket}: check them and the bucket's policy."
        ),
        ("NoSuchBucket", "bucket does not exist", "FileNotFoundError"): (
            f"Check that the bucket {bucket} and the path exist."
        ),
        ("EndpointConnection", "ConnectTimeout", "ConnectionError", "ClientConnector"): (
            "The server cannot be reached: check storage.endpoint and the network."
        ),
    }
    for words, hint in hints.items():
        if any(word in text for word in words):
            return RunError(f"{uri}: {text}", hint)
    return RunError(f"{uri}: {text}", "Check the storage, then run the workflow again.")


class RemoteFiles:
    """Files behind a URL."""

    local = False

    def __init__(self, uri: str, storage: Storage) -> None:
        self.system = filesystem(uri, storage)
        self._s3 = uri.startswith(("s3://", "s3a://"))
        self._storage = storage
        self._bulk: Any = None

    @patient
    def read(self, uri: str) -> bytes | None:
        """The file's bytes, or None where there is no such file."""
        with explained(uri):
            try:
                return cast(bytes, self.system.cat_file(uri))
            except FileNotFoundError as error:
                if "bucket" in str(error).lower():
                    raise
                return None

    @patient
    def open(self, uri: str) -> BinaryIO:
        """The file, opened for reading."""
        with explained(uri):
            return cast(BinaryIO, self.system.open(uri, "rb"))

    @patient
    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of every file under the folder, by relative path."""
        with explained(folder):
            base = self.system._strip_protocol(folder).rstrip("/") + "/"
            try:
                found = self.system.find(folder, detail=True)
            except FileNotFoundError:
                return {}
            return {name.removeprefix(base): int(info["size"]) for name, info in found.items()}

    @patient
    def sending(self, path: Path, uri: str, total: int) -> Sending | None:
        """Begin to send a file in parts, where the storage takes parts."""
        if not self._s3:
            return None
        with explained(uri):
            return cast(Sending, self._objects().sending(uri, path, total))

    def place(
        self,
        folder: Path,
        names: Sequence[str],
        uri: str,
        check: Check,
        recorded: Wait,
        sent: Mapping[str, Sending],
    ) -> None:
        """Upload the files, then the record; an outdated record goes first."""
        record = posixpath.join(uri, RECORD)
        with explained(uri):
            check()
            self.delete(record)
            for extra in self.sizes(uri).keys() - set(names):
                self.delete(posixpath.join(uri, extra))
            for name in names:
                check()
                if name not in sent or not _finished(sent[name]):
                    self._upload(folder / name, posixpath.join(uri, name))
            if any(self._in_parts(folder / name) for name in names):
                # What an attempt that was killed has sent would lie there for ever, and cost.
                self._objects().forget(uri)
            recorded()
            check()
            self._upload(folder / RECORD, record)

    @patient
    def _upload(self, path: Path, uri: str) -> None:
        with explained(uri):
            if self._in_parts(path):
                self._objects().upload_file(uri, path)
            else:
                self.system.put_file(str(path), uri)

    def _in_parts(self, path: Path) -> bool:
        return self._s3 and path.stat().st_size >= LARGE

    def move(self, uri: str, target: str) -> None:
        """Copy the files, the record first taken out of use, then delete the old ones."""
        with explained(uri):
            names = sorted(self.sizes(uri), key=lambda name: name != RECORD)
            for name in names:
                self.system.copy(posixpath.join(uri, name), posixpath.join(target, name))
                self._remove(posixpath.join(uri, name))

    @patient
    def write(self, uri: str, data: bytes, *, exclusive: bool = False) -> bool:
        """Write a small file; exclusively, where the file system can."""
        with explained(uri):
            if not exclusive:
                self.system.pipe_file(uri, data)
                return True
            try:
                self.system.pipe_file(uri, data, mode="create")
            except OSError:
                # Servers say in different words that the object was there first: some as a failed
                # precondition, which s3fs gives as an invalid argument.
                if self.system.exists(uri):
                    return False
                raise
        return True

    @patient
    def delete(self, uri: str) -> None:
        """Delete one file."""
        with explained(uri):
            self._remove(uri)

    @patient
    def save(self, uri: str, data: memoryview) -> None:
        """Write from memory."""
        with explained(uri):
            if self._s3:
                self._objects().upload(uri, data)
            else:
                self.system.pipe_file(uri, bytes(data))

    @patient
    def load(self, uri: str, start: int, into: memoryview) -> None:
        """Read a range into memory."""
        with explained(uri):
            if self._s3:
                self._objects().download(uri, start, into)
            else:
                into[:] = self.system.cat_file(uri, start=start, end=start + len(into))

    def _objects(self) -> Any:  # noqa: ANN401 - loaded where it is needed
        if self._bulk is None:
            # Another client costs half a second to import, which most steps need not pay.
            self._bulk = importlib.import_module("graftwork.store.s3").Objects(self._storage)
        return self._bulk

    @patient
    def clear(self, folder: str) -> None:
        """Delete every object under a prefix, and uploads there that were cut off."""
        with explained(folder):
            with contextlib.suppress(FileNotFoundError):
                self.system.rm(folder, recursive=True)
            if self._s3:
                self._objects().forget(folder)

    def _remove(self, uri: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.system.rm_file(uri)


def _finished(sending: Sending) -> bool:
    """Whether a file became an object; where not, it is all here and can be sent again."""
    try:
        sending.finish()
    except Exception as error:  # each protocol's client has exceptions of its own
        print(f"sending the file again: {_explain('upload', error).what}", flush=True)  # noqa: T201
        return False
    return True


def find(pattern: str, storage: Storage) -> list[FileInfo]:
    """The files behind a URL, a folder's URL or a pattern, sorted."""
    system = filesystem(pattern, storage)
    with explained(pattern):
        if any(sign in pattern for sign in "*?["):
            found = system.glob(pattern, detail=True)
        else:
            found = system.find(pattern, detail=True)
        base = system._strip_protocol(pattern.split("*", 1)[0]).rstrip("/")
        return sorted(
            FileInfo(system.unstrip_protocol(name), int(info["size"] or 0), _modified(info))
            for name, info in found.items()
            if info["type"] == "file" and not is_hidden(name.removeprefix(base))
        )


def _modified(info: dict[str, Any]) -> str:
    return str(info.get("ETag") or info.get("LastModified") or info.get("mtime") or "")


def open_url(url: str, mode: str, storage: Storage) -> IO[Any]:
    """Open a file behind a URL."""
    with explained(url):
        return cast(IO[Any], filesystem(url, storage).open(url, mode))
