"""Artifacts in storage: reading, verifying, committing, and telling which are done."""

from __future__ import annotations

import contextlib
import hashlib
import json
import posixpath
import shutil
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from graftwork.artifact import RECORD, FileEntry, Record, content_digest
from graftwork.errors import CorruptArtifactError, RunError
from graftwork.spec.resources import Storage
from graftwork.step import Step, StepInput
from graftwork.store.attempts import Workspace
from graftwork.store.cache import cache_folder
from graftwork.store.contents import (
    check_digest,
    check_size,
    digest_of,
    is_safe,
    regular_files,
    total_bytes,
    write_record,
)
from graftwork.store.delivery import Delivery
from graftwork.store.download import download
from graftwork.store.files import explained, files_for, local_path
from graftwork.store.lease import Lease, Waiting, end_lease_of, local_lease, remote_lease

# Digests of small artifacts are verified even when they are only skipped; larger ones are
# verified by whoever reads them, so that a step that is done stays cheap.
VERIFIED_BYTES = 64 * 2**20


class Fence(Protocol):
    """What knows whether we may still write: a lease, or an attempt."""

    def check(self) -> None:
        """Raise RunError if not."""


def _unfenced() -> None:
    """Nobody else makes the artifact."""


@dataclass(frozen=True, slots=True)
class State:
    """What storage has for a step: a current record, or the reason why there is none."""

    record: Record | None
    reason: str = ""
    corrupt: bool = False


class Store:
    """The artifacts under one storage root.

    Every method raises RunError where the storage refuses and the user can do something about it.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.files = files_for(storage.root, storage)

    def read_record(self, uri: str) -> Record | None:
        """The record of an artifact, or None where there is no artifact.

        Raises:
            CorruptArtifactError: the record cannot be read, or names files outside the artifact.
        """
        data = self.files.read(self._inside(uri, RECORD))
        if data is None:
            return None
        try:
            record = Record.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            told = f"{place}: {first['msg']}" if place else first["msg"]
            raise CorruptArtifactError(uri, f"{RECORD} is damaged: {told}") from error
        for entry in record.files:
            if not is_safe(entry.path):
                raise CorruptArtifactError(uri, f"{RECORD} names the file {entry.path!r} outside")
        return record

    def verify(self, uri: str, record: Record, digests: bool = True) -> None:
        """Compare an artifact's files with its record.

        Raises:
            CorruptArtifactError: a file is missing, has another size, or another digest.
        """
        if content_digest(record.files) != record.content:
            raise CorruptArtifactError(uri, f"{RECORD} was changed: its digest does not fit")
        sizes = self.files.sizes(uri)
        for entry in record.files:
            check_size(uri, entry, sizes.get(entry.path))
        if digests:
            self._verify_digests(uri, record.files)

    def _verify_digests(self, uri: str, entries: Iterable[FileEntry]) -> None:
        for entry in entries:
            with self.files.open(posixpath.join(uri, entry.path)) as file:
                found = digest_of(file)
            check_digest(uri, entry, found)

    def fetch(self, uri: str, only: Sequence[str] = ()) -> tuple[Record, Path]:
        """An artifact's record and its verified files: in place, or in a local cache.

        Args:
            uri: Where the artifact lies.
            only: Files that are wanted, where it has them; the others are not read, however
                large they are. Default: all.

        Raises:
            CorruptArtifactError: the files are not the recorded ones.
            RunError: there is no such artifact.
        """
        record = self.read_record(uri)
        if record is None:
            raise RunError(
                f"{uri}: there is no such artifact",
                "Run the workflow, not the stage alone: earlier stages make its inputs.",
            )
        entries = [entry for entry in record.files if not only or entry.path in only]
        if self.files.local:
            self.verify(uri, record, digests=False)
            self._verify_digests(uri, entries)
            return record, local_path(uri)
        part = f".{content_digest(entries)}" if only else ""
        return record, self._download(uri, record.content + part, entries)

    def peek(self, uri: str, names: Sequence[str]) -> Path:
        """A local folder with those of an artifact's small files that it has, not verified."""
        if self.files.local:
            return local_path(uri)
        folder = self._local_area("peek") / self._relative(uri)
        with explained(str(folder)):
            folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                data = self.files.read(posixpath.join(uri, name))
                if data is not None:
                    (folder / name).write_bytes(data)
        return folder

    def staging(self, uri: str) -> Path:
        """An empty local folder for an artifact's files; leftovers of earlier attempts go."""
        parent = self._local_area(".staging")
        name = self._flat(uri)
        with explained(str(parent)):
            parent.mkdir(parents=True, exist_ok=True)
            for leftover in parent.glob(f"{name}.*"):
                shutil.rmtree(leftover, ignore_errors=True)
            folder = parent / f"{name}.{uuid.uuid4().hex[:8]}"
            folder.mkdir()
        return folder

    def scratch(self, uri: str) -> Path:
        """A local folder that outlives a failed attempt; `commit` removes it."""
        folder = self._local_area(".work") / self._relative(uri)
        with explained(str(folder)):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def workspace(self, uri: str) -> Workspace:
        """The folder in storage that all attempts at the artifact share, for a new run of it.

        On a local root it is `scratch`. No artifact lies there, and `commit` removes it.
        """
        root = self.storage.root
        if self.files.local:  # workers may stand in another folder
            root = str(local_path(root).resolve())
        return Workspace(posixpath.join(root, ".work", self._relative(uri)), self.storage)

    def delivery(self, folder: Path, uri: str, fence: Fence | None = None) -> Delivery:
        """What follows the folder's large files while they are written, for `commit`."""
        check = _unfenced if fence is None else fence.check
        return Delivery(self.files, folder, self._inside(uri), check)

    def commit(
        self,
        folder: Path,
        record: Record,
        uri: str,
        fence: Fence | None = None,
        delivery: Delivery | None = None,
    ) -> Record:
        """Make the folder's files the artifact at `uri`: whole, or not at all.

        Args:
            folder: Local files.
            record: What is known of them.
            uri: Where they go.
            fence: Tells whether the artifact is still ours to make; asked before every file.
            delivery: Has followed files while they were written, and knows their digests.

        Returns:
            The record with its files and content filled in.

        Raises:
            SupersededError: another attempt has taken over.
            RunError: the storage cannot take it; what was there before is still there, or nothing.
        """
        self._inside(uri)
        with explained(str(folder)):
            paths = regular_files(folder)
        names = [path.relative_to(folder).as_posix() for path in paths]
        check = _unfenced if fence is None else fence.check
        digests, sent = delivery.settle() if delivery else ({}, {})
        with ThreadPoolExecutor(1) as pool:
            # What goes over a network travels while it is summed up; its record goes last.
            summed = pool.submit(write_record, folder, paths, record, digests)
            self.files.place(folder, names, uri, check, summed.result, sent)
        whole = summed.result()
        shutil.rmtree(folder, ignore_errors=True)
        if not self.files.local:
            self.files.clear(self.workspace(uri).folder)
        scratch = self._local_area(".work") / self._relative(uri)
        shutil.rmtree(scratch, ignore_errors=True)
        with contextlib.suppress(OSError):  # others may have work in the stage's folder
            scratch.parent.rmdir()
        return whole

    def set_aside(self, uri: str) -> str:
        """Rename a corrupted artifact, so that its stage is rebuilt and nothing is lost."""
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        target = f"{uri}.corrupt-{stamp}-{uuid.uuid4().hex[:4]}"
        self.files.move(self._inside(uri), target)
        return target

    def lease(self, uri: str, waiting: Waiting, holder: str = "") -> AbstractContextManager[Lease]:
        """The right to make an artifact; `waiting` is told whom we wait for.

        A lease behind a URL that is held under the name `holder` is a lost predecessor's, and is
        taken over at once. A folder's lock went with the predecessor itself.
        """
        name = self._lease_uri(uri)
        if self.files.local:
            return local_lease(name, waiting)
        return remote_lease(name, self.files, waiting, holder=holder)

    def end_lease(self, uri: str, holder: str) -> None:
        """Remove what a lost predecessor of that name has left of its lease of the artifact."""
        if not self.files.local:
            end_lease_of(holder, self._lease_uri(uri), self.files)

    def is_current(self, step: Step) -> Record | None:
        """The record of a step that is done, or None; see `state`."""
        return self.state(step).record

    def state(self, step: Step) -> State:
        """Whether a step is done.

        It is if its record is there, its files match, its inputs still are what it was made from,
        and so is the Python whose library it read. Nothing is changed here; a corrupted artifact
        is only reported as such.
        """
        try:
            record = self.read_record(step.uri)
            if record is None:
                return State(None, "not made yet")
            self.verify(step.uri, record, digests=total_bytes(record) <= VERIFIED_BYTES)
        except CorruptArtifactError as error:
            return State(None, error.what.removeprefix(f"{step.uri}: "), corrupt=True)
        if record.fingerprint != step.fingerprint:
            return State(None, f"{RECORD} is that of another step", corrupt=True)
        if reason := self._outdated(step, record):
            return State(None, reason)
        return State(record)

    def _outdated(self, step: Step, record: Record) -> str:
        expected = set()
        for key, source in keyed_inputs(step):
            if self.skipped(step, source):
                continue
            expected.add(key)
            current = self._content(step.input_uri(source))
            known = record.inputs.get(key)
            if known is None or current != known.content:
                return f"its input {source.stage} has changed"
        if expected != record.inputs.keys():
            return "an input that it was made from is skipped now"
        # A launcher on a cluster has a Python of its own, which says nothing about the workers'.
        reads_stdlib = any(corpus.source == "stdlib" for corpus in step.corpora.values())
        if reads_stdlib and self.files.local and record.versions.get("python") != python_version():
            return "it was made from another Python's library"
        return ""

    def _content(self, uri: str) -> str | None:
        try:
            record = self.read_record(uri)
        except CorruptArtifactError:
            return None
        return record.content if record else None

    def skip(self, step: Step, reason: str) -> None:
        """Note that a step was left out, so that the steps after it know."""
        data = json.dumps({"step": step.name, "reason": reason}).encode()
        self.files.write(self._skip_uri(step.workflow, step.stage, step.fingerprint), data)

    def unskip(self, step: Step) -> None:
        """Take `skip` back."""
        self.files.delete(self._skip_uri(step.workflow, step.stage, step.fingerprint))

    def skipped(self, step: Step, source: StepInput) -> str:
        """Why an input of the step was left out in this workflow, or nothing."""
        data = self.files.read(self._skip_uri(step.workflow, source.stage, source.fingerprint))
        return str(json.loads(data)["reason"]) if data else ""

    def write_log(self, run_id: str, step: str, text: str) -> str:
        """Keep a step's log of a run on a cluster; returns where."""
        uri = self._log_uri(run_id, step)
        self.files.write(uri, text.encode())
        return uri

    def read_log(self, run_id: str, step: str) -> str:
        """What `write_log` has kept, or nothing."""
        data = self.files.read(self._log_uri(run_id, step))
        return data.decode(errors="replace") if data else ""

    def _lease_uri(self, uri: str) -> str:
        return posixpath.join(self.storage.root, ".leases", f"{self._flat(uri)}.json")

    def _log_uri(self, run_id: str, step: str) -> str:
        return self._inside(posixpath.join(self.storage.root, ".runs", run_id, f"{step}.log"))

    def _skip_uri(self, workflow: str, stage: str, fingerprint: str) -> str:
        return self._inside(
            posixpath.join(self.storage.root, ".skipped", workflow, f"{stage}-{fingerprint}.json")
        )

    def _download(self, uri: str, name: str, entries: Iterable[FileEntry]) -> Path:
        target = self._local_area("artifacts") / self._relative(uri) / name
        if target.is_dir():
            return target
        draft = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}.draft")
        try:
            with explained(str(target)):
                draft.mkdir(parents=True)
            for entry in entries:
                self._download_file(uri, entry, draft / entry.path)
            with explained(str(target)):
                draft.rename(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return target

    def _download_file(self, uri: str, entry: FileEntry, target: Path) -> None:
        check_size(uri, entry, self.files.sizes(uri).get(entry.path))
        with explained(str(target)):
            target.parent.mkdir(parents=True, exist_ok=True)
            place = posixpath.join(uri, entry.path)
            found = download(self.files, place, entry.bytes, target)
        check_digest(uri, entry, found)

    def _local_area(self, name: str) -> Path:
        if self.files.local:
            return local_path(self.storage.root) / name
        root = hashlib.sha256(self.storage.root.encode()).hexdigest()[:12]
        return cache_folder() / root / name.lstrip(".")

    def _relative(self, uri: str) -> str:
        return self._inside(uri).removeprefix(self.storage.root).strip("/")

    def _flat(self, uri: str) -> str:
        return self._relative(uri).replace("/", "-")

    def _inside(self, uri: str, name: str = "") -> str:
        """`uri/name`, which must lie under the root."""
        relative = uri.removeprefix(self.storage.root.rstrip("/") + "/")
        if relative == uri or not is_safe(relative):
            raise RunError(
                f"{uri} is not under the storage root {self.storage.root}",
                "Compile the workflow again; an artifact's path is made of stage and fingerprint.",
            )
        return posixpath.join(uri, name) if name else uri


def keyed_inputs(step: Step) -> Iterator[tuple[str, StepInput]]:
    """The step's inputs with their keys in the record: the role, and `@seed` where it repeats."""
    roles = [source.role for source in step.inputs]
    for source in step.inputs:
        repeated = roles.count(source.role) > 1
        yield (f"{source.role}@{source.seed}" if repeated else source.role), source


def python_version() -> str:
    """The version of the Python that runs: `3.11.9`."""
    return ".".join(str(part) for part in sys.version_info[:3])
