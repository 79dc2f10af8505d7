"""Checkpoints of a training in storage: safetensors and JSON, whole or not there at all.

    <work>/checkpoints/step-0000001000.0003/part-00000-of-00002.safetensors   weights, moments
                                            part-00000-of-00002.json          places and digests
                                            part-00001-of-00002.…
                                            checkpoint.json                   the marker

The folder's second number is the attempt's, so no two ever write the same file. Every worker
writes its part; once all of them are stored with the sizes and digests that were meant, the
first worker makes sure that its attempt is still the newest and writes the marker. A folder
without one is nothing. Digests are checked again when a checkpoint is read; one that fails is
passed over for the one before. One that is whole, but of other tensors, of another training or of
a newer version, is refused.
"""

from __future__ import annotations

import json
import posixpath
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from typing import Any, TypeVar

from graftwork.errors import RunError
from graftwork.store.attempts import Attempt
from graftwork.store.files import Files
from graftwork_train.loop.marker import FORMAT, MARKER, json_object, opened, sealed
from graftwork_train.loop.pieces import Piece, Shape
from graftwork_train.loop.reading import BrokenError, Read, compare, fill, match
from graftwork_train.loop.snapshot import Entry, Snapshot, digest
from graftwork_train.loop.step import Place, all_sum
from graftwork_train.loop.writing import Saving, Try

T = TypeVar("T")

KEPT = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A training after `step` optimizer steps; `details` is plain data of the loop's."""

    step: int
    details: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one training, as one of its workers sees them.

    All workers call the same methods in the same order, for they agree through collectives.

    Args:
        attempt: Of this group of workers; the others than the first may share its workspace only.
        identity: Fingerprint of what is trained; a checkpoint of another one is refused.
        place: This worker's.
        keep: How many are kept.

    Attributes:
        notes: What was passed over or not saved.
        failed: Saves that failed.
        made: Checkpoints that this worker has made current.
    """

    def __init__(self, attempt: Attempt, identity: str, place: Place, keep: int = KEPT) -> None:
        self._attempt = attempt
        self._files = attempt.workspace.files()
        self._root = attempt.workspace.path("checkpoints")
        self._identity = identity
        self._place = place
        self._keep = keep
        self._snapshot: Snapshot | None = None
        self._saving: Saving | None = None
        self._saving_step = 0
        self.notes: list[str] = []
        self.failed = 0
        self.made = 0

    def expect(self, pieces: Sequence[Piece]) -> threading.Thread:
        """Get the memory for a copy of these pieces beside the training, so that no save waits.

        Returns:
            The thread that does it; nobody has to wait for it.
        """
        self._snapshot = Snapshot(pieces)
        thread = threading.Thread(target=self._snapshot.populate, name="snapshot", daemon=True)
        thread.start()
        return thread

    def save(self, step: int, pieces: Sequence[Piece], details: Mapping[str, Any]) -> None:
        """Begin to write a checkpoint; when this returns, the pieces may change.

        A save that is still on its way is waited for first; one that failed is noted.

        Args:
            step: Optimizer steps so far.
            pieces: This worker's part; all parts together cover every tensor exactly once.
            details: JSON data; the first worker's are kept.

        Raises:
            SupersededError: a newer attempt has taken over.
            TypeError: the details are no JSON.
        """
        self.settle()
        text = json.dumps(dict(details))
        if self._snapshot is None or not self._snapshot.fits(pieces):
            self._snapshot = Snapshot(pieces)
        self._snapshot.take(pieces)
        marker = {
            "format": FORMAT,
            "identity": self._identity,
            "step": step,
            "attempt": self._attempt.number,
            "details": json.loads(text),
        }
        uri = posixpath.join(self._root, _folder(step, self._attempt.number))
        self._start(_Save(self._files, uri, self._place, self._snapshot, marker), step)

    def _start(self, save: _Save, step: int) -> None:
        first = self._place.rank == 0

        def store(attempt: Try) -> None:
            if first:
                attempt(self._attempt.check)
            save.store(attempt)

        def commit(attempt: Try) -> None:
            attempt(self._attempt.check)
            save.commit(attempt)
            self.made += 1
            attempt(self._prune)

        self._saving = Saving(store, commit if first else None)
        self._saving_step = step
        if self._place.workers == 1:
            self._saving.decide(complete=True)

    def stored(self) -> bool:
        """Whether this worker's part of the save on its way is in storage.

        Raises:
            SupersededError: a newer attempt has taken over.
        """
        if self._saving is None:
            return False
        if self._saving.superseded:
            raise self._saving.superseded
        return self._saving.stored

    def complete(self) -> None:
        """All workers have said `stored`: let the first one make the checkpoint current."""
        if self._saving is not None:
            self._saving.decide(complete=True)

    def settle(self) -> None:
        """Wait for the save on its way; note it if it failed.

        Raises:
            SupersededError: a newer attempt has taken over.
        """
        saving, self._saving = self._saving, None
        if saving is None:
            return
        (ready,) = all_sum(self._place, float(saving.wait_stored()))
        saving.decide(complete=ready == self._place.workers)
        saving.join()
        if saving.superseded:
            raise saving.superseded
        (failed,) = all_sum(self._place, float(saving.error is not None))
        if failed:
            self.failed += 1
            reason = (
                saving.error.what if saving.error else "another worker could not store its part"
            )
            self.notes.append(f"The checkpoint of step {self._saving_step} was not saved: {reason}")

    def close(self) -> None:
        """After an error: let the save on its way end; no other worker is waited for."""
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.wait_stored()
            saving.decide(complete=False)
            saving.join()

    def restore(
        self, pieces: Sequence[Piece], shapes: Mapping[str, Shape] | None = None
    ) -> Checkpoint | None:
        """Fill the pieces from the newest checkpoint that is whole; note what was passed over.

        They may be cut otherwise than they were saved. Where there is none, they are unchanged.

        Args:
            pieces: What this worker wants.
            shapes: Of all workers' whole tensors, by name. Default: of the pieces' tensors.

        Raises:
            RunError: the storage refuses, a checkpoint is a newer version's or of another
                training, or every checkpoint is broken and the pieces are spoilt.
        """
        if shapes is None:
            shapes = {piece.name: piece.shape for piece in pieces}
        spoilt = False
        candidates = self._candidates()
        for number, name in enumerate(candidates, start=1):
            opened = self._agreed(name, partial(self._open, name, pieces, shapes))
            if opened is None:
                continue
            found, reads = opened
            # Nothing could take the pieces' place if the last one broke half-way, so that one is
            # read twice: the first time only to see that it is whole.
            last = number == len(candidates) and not spoilt
            if last and self._agreed(name, partial(fill, self._files, reads, dry=True)) is None:
                continue
            if self._agreed(name, partial(fill, self._files, reads)) is not None:
                return found
            spoilt = True
        if not spoilt:
            return None
        self._disown(candidates)
        raise RunError(
            "no checkpoint can be read, and reading them has overwritten the first weights",
            "Run again: the training then begins anew.",
        )

    def _agreed(self, name: str, action: Callable[[], T]) -> T | None:
        """What the action gives; None on all workers where one of them finds damage."""
        found, problem = None, "another worker could not read it"
        try:
            found = action()
        except BrokenError as error:
            problem = error.what
        if not any(all_sum(self._place, float(found is None))):
            return found
        self.notes.append(f"Checkpoint {name} was passed over: {problem}")
        return None

    def _open(
        self, name: str, pieces: Sequence[Piece], shapes: Mapping[str, Shape]
    ) -> tuple[Checkpoint, list[Read]]:
        """A checkpoint's details, and what is to be read; nothing is filled yet."""
        uri = posixpath.join(self._root, name)
        sizes = self._files.sizes(uri)
        data = self._files.read(posixpath.join(uri, MARKER))
        marker = opened(uri, data, self._identity)
        try:
            step, details, parts = marker["step"], marker["details"], list(marker["parts"])
            entries = {
                posixpath.join(uri, part["file"]): self._entries(uri, part, sizes) for part in parts
            }
        except (KeyError, TypeError, AttributeError) as error:
            raise BrokenError(f"{MARKER} cannot be read ({error!r})") from error
        compare(uri, chain.from_iterable(entries.values()), shapes)
        return Checkpoint(step, details), match(entries, pieces)

    def _entries(self, uri: str, part: Mapping[str, Any], sizes: Mapping[str, int]) -> list[Entry]:
        """The table of a part whose files have the sizes and the digest that the marker tells."""
        file, table = part["file"], part["table"]
        if sizes.get(file) != part["bytes"]:
            raise BrokenError(f"{file} is not what was written")
        data = self._files.read(posixpath.join(uri, table)) or b""
        if digest(memoryview(data)) != part["digest"]:
            raise BrokenError(f"{table} is not what was written")
        return [_entry(fields, part["bytes"]) for fields in json_object(table, data)["entries"]]

    def _disown(self, names: Sequence[str]) -> None:
        """Take broken checkpoints out of use, so that the next attempt begins anew."""
        if self._place.rank == 0:
            for name in names:
                self._files.delete(posixpath.join(self._root, name, MARKER))

    def _prune(self) -> None:
        """Remove checkpoints beyond the number to keep, and what lost attempts left behind."""
        folders = _folders(self._files.sizes(self._root))
        kept = [key for key, marked in folders if marked][: self._keep]
        for key, marked in folders:
            lost = not marked and key < kept[0]
            if lost or (marked and key not in kept):
                name = posixpath.join(self._root, _folder(*key))
                if marked:  # first: a marker without files would look like damage
                    self._files.delete(posixpath.join(name, MARKER))
                self._files.clear(name)

    def clear(self) -> None:
        """Remove all checkpoints."""
        self._files.clear(self._root)

    def _candidates(self) -> list[str]:
        """Folders with a marker, newest first; as the first worker sees them."""
        first = self._place.rank == 0
        found = _complete(self._files.sizes(self._root)) if first else []
        (count,) = all_sum(self._place, float(len(found)))
        numbers = [float(part) for key in found for part in key] or [0.0] * (2 * int(count))
        told = [int(number) for number in all_sum(self._place, *numbers)] if count else []
        return [_folder(*pair) for pair in zip(told[::2], told[1::2], strict=True)]


class _Save:
    """What one worker does for one checkpoint; runs in the thread of its `Saving`."""

    def __init__(
        self, files: Files, uri: str, place: Place, snapshot: Snapshot, marker: dict[str, Any]
    ) -> None:
        self._files, self._uri, self._place = files, uri, place
        self._snapshot, self._marker = snapshot, marker

    def store(self, attempt: Try) -> None:
        """Write this worker's part, look at it, then tell its places and digests."""
        name = _part(self._place.rank, self._place.workers)
        uri, size = posixpath.join(self._uri, name), len(self._snapshot.data)

        with ThreadPoolExecutor(1, thread_name_prefix="digests") as beside:
            digests = beside.submit(self._snapshot.digested)

            def write() -> None:
                self._files.save(f"{uri}.safetensors", self._snapshot.data)
                self._verify(f"{name}.safetensors", size, digests.result())

            attempt(write)
        entries = [asdict(entry) for entry in digests.result()]
        table = json.dumps({"bytes": size, "entries": entries})
        attempt(lambda: self._files.save(f"{uri}.json", memoryview(table.encode())))

    def _verify(self, name: str, size: int, entries: Sequence[Entry]) -> None:
        """What lies in storage is what was meant; a server has checked the sums of its parts."""
        found = self._files.sizes(self._uri).get(name)
        if found != size:
            raise RunError(f"{self._uri}/{name}: {found} of {size} bytes were stored")
        if self._files.local:
            uri = posixpath.join(self._uri, name)
            fill(self._files, [Read(uri, entry) for entry in entries], dry=True)

    def commit(self, attempt: Try) -> None:
        """Write the marker."""
        attempt(self._commit)

    def _commit(self) -> None:
        sizes = self._files.sizes(self._uri)
        parts = [self._told(rank, sizes) for rank in range(self._place.workers)]
        text = sealed(self._marker | {"parts": parts})
        self._files.save(posixpath.join(self._uri, MARKER), memoryview(text))

    def _told(self, rank: int, sizes: Mapping[str, int]) -> dict[str, Any]:
        name = _part(rank, self._place.workers)
        data = self._files.read(posixpath.join(self._uri, f"{name}.json")) or b""
        size = json.loads(data)["bytes"] if data else None
        if size is None or sizes.get(f"{name}.safetensors") != size:
            raise RunError(f"{self._uri}/{name}: the part is not there as a whole")
        return {
            "file": f"{name}.safetensors",
            "bytes": size,
            "table": f"{name}.json",
            "digest": digest(memoryview(data)),
        }


def _part(rank: int, workers: int) -> str:
    return f"part-{rank:05d}-of-{workers:05d}"


def _folder(step: int, attempt: int) -> str:
    return f"step-{step:010d}.{attempt:04d}"


def _key(name: str) -> tuple[int, int] | None:
    """Step and attempt of a folder."""
    match = re.fullmatch(r"step-(\d{10})\.(\d{4,})", name)
    return (int(match[1]), int(match[2])) if match else None


def _folders(sizes: Mapping[str, int]) -> list[tuple[tuple[int, int], bool]]:
    """By step and attempt, newest first: whether the folder has a marker."""
    found: dict[tuple[int, int], bool] = {}
    for path in sizes:
        folder, _, name = path.partition("/")
        key = _key(folder)
        if key is not None:
            found[key] = found.get(key, False) or name == MARKER
    return sorted(found.items(), reverse=True)


def _complete(sizes: Mapping[str, int]) -> list[tuple[int, int]]:
    return [key for key, marked in _folders(sizes) if marked]


def _entry(fields: Mapping[str, Any], size: int) -> Entry:
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
    }
    found = Entry(**values)
    if not 0 <= found.begin <= found.end <= size:
        raise KeyError(found.name)
    return found
