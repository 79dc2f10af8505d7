"""What passes over documents have found so far, kept so that a killed stage goes on where it was.

    <folder>/<pass>-<mark>/<number>.npz      the arrays of some batches, and where they end

Pieces follow each other: each says where it begins, in groups, documents and broken ones, and is
only used if that is where the one before it ends. Files are written whole; what is damaged, or of
another function, other files or other versions of the libraries, is left alone and done anew.
"""

from __future__ import annotations

import io
import json
import posixpath
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from graftwork.store.attempts import Workspace
from graftwork_train.machine import versions

Arrays = dict[str, npt.NDArray[Any]]

# At most so much of a pass is lost when a stage is killed, and so much is held in memory.
SECONDS = 10.0
BYTES = 64_000_000
_FORM = 1


@dataclass(frozen=True, slots=True)
class Position:
    """How far a pass is: whole groups, and documents and broken ones of the next group."""

    group: int = 0
    documents: int = 0
    broken: int = 0

    def after(self, group: int, documents: int, broken: int) -> Position:
        """The position when so many more of `group` are done."""
        if group != self.group:
            return Position(group, documents, broken)
        return Position(group, self.documents + documents, self.broken + broken)


@dataclass(frozen=True, slots=True)
class Piece:
    """Arrays of some batches in their order, where they end, and the tallies then."""

    batches: list[Arrays]
    end: Position
    state: dict[str, Any]


class Ledger:
    """The kept results of one stage.

    Args:
        workspace: What all attempts at the stage share.
        made_of: Plain data that all results depend on, such as the contents of the inputs.
        seconds: Of work, after which a piece is written.
        clock: Seconds; a test's own.
    """

    def __init__(
        self,
        workspace: Workspace,
        made_of: object = (),
        seconds: float = SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workspace, self._made_of = workspace, made_of
        self.seconds, self.clock = seconds, clock
        self._files = workspace.files()
        self._folder = workspace.path("passes")

    def open(self, name: str, *made_of: object) -> Pass:
        """The pass `name`, whose results depend on `made_of` and nothing else.

        Raises:
            TypeError: `made_of` holds something that has no stable digest.
        """
        mark = digest(_FORM, versions(), self._made_of, made_of)
        return Pass(self, posixpath.join(self._folder, f"{name}-{mark[:16]}"))

    def once(self, name: str, made_of: object, make: Callable[[], Arrays]) -> Arrays:
        """What `make` gives, made once by all attempts together if it takes more than moments."""
        kept = self.open(name, made_of)
        for piece in kept.pieces():
            return piece.batches[0]
        begun = self.clock()
        made = make()
        if self.clock() - begun >= self.seconds:
            kept.keep(made)
        return made

    def clear(self) -> None:
        """Forget everything."""
        self._files.clear(self._folder)

    def read(self, uri: str) -> bytes | None:
        """A piece's bytes, or None."""
        return self._files.read(uri)

    def save(self, uri: str, data: bytes) -> None:
        """Write a piece, unless another attempt has taken over.

        Raises:
            graftwork.store.attempts.SupersededError: it has.
            graftwork.errors.RunError: the storage refuses.
        """
        self._workspace.check()
        self._files.save(uri, memoryview(data))


class Pass:
    """One pass: first its `pieces`, then `add` for what comes after them, then `close`."""

    def __init__(self, ledger: Ledger, folder: str) -> None:
        self._ledger, self._folder = ledger, folder
        self._number = 0
        self._start = self._end = Position()
        self._state: Mapping[str, Any] = {}
        self._batches: list[Arrays] = []
        self._bytes = 0
        self._begun = ledger.clock()

    def pieces(self) -> Iterator[Piece]:
        """What is kept, in order, one piece in memory at a time."""
        while (data := self._ledger.read(self._uri())) is not None:
            piece = _unpacked(data, self._end)
            if piece is None:
                break
            self._number += 1
            self._end, self._state = piece.end, piece.state
            yield piece
        self._next()

    def add(self, arrays: Arrays | None, end: Position, state: Mapping[str, Any]) -> None:
        """Keep a batch's arrays, if it has any; write a piece where it is time."""
        if arrays is not None:
            self._batches.append(arrays)
            self._bytes += sum(array.nbytes for array in arrays.values())
        self._end, self._state = end, state
        late = self._ledger.clock() - self._begun >= self._ledger.seconds
        if late or self._bytes >= BYTES:
            self._flush()

    def close(self, end: Position) -> None:
        """The pass is done; the rest is written where there are pieces before it."""
        if self._number and end != self._start:
            self._end = end
            self._flush()

    def keep(self, arrays: Arrays) -> None:
        """Write one piece that is all."""
        self._batches, self._end = [arrays], Position(1)
        self._flush()

    def _flush(self) -> None:
        head = {"start": asdict(self._start), "end": asdict(self._end), "state": self._state}
        self._ledger.save(self._uri(), _packed(self._batches, head))
        self._number += 1
        self._next()

    def _next(self) -> None:
        """Begin a piece where the one before it ends."""
        self._start = self._end
        self._batches, self._bytes = [], 0
        self._begun = self._ledger.clock()

    def _uri(self) -> str:
        return posixpath.join(self._folder, f"{self._number:06d}.npz")


def digest(*values: object) -> str:
    """A digest of plain data, arrays, words, dataclasses and functions, the same in any process.

    Fields of dataclasses that are left out of comparisons are left out here.

    Raises:
        TypeError: something is none of these.
    """
    return sha256("\n".join(_encoded(value) for value in values).encode()).hexdigest()


def _encoded(value: object) -> str:
    if value is None or isinstance(value, bool | int | float | str | np.generic):
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, np.ndarray):
        return f"array {value.dtype} {value.shape} {sha256(value.tobytes()).hexdigest()}"
    if isinstance(value, Mapping):
        return f"mapping {[(_encoded(key), _encoded(value[key])) for key in value]}"
    if isinstance(value, tuple | list):
        return f"sequence {[_encoded(each) for each in value]}"
    name = getattr(value, "__qualname__", type(value).__qualname__)
    place = f"{getattr(value, '__module__', '')}.{name}"
    if isinstance(value, BaseModel):
        return f"{place} {value.model_dump_json()}"
    if is_dataclass(value) and not isinstance(value, type):
        kept = [field.name for field in fields(value) if field.compare]
        return f"{place} {[(each, _encoded(getattr(value, each))) for each in kept]}"
    if callable(value) and "<" not in name and not hasattr(value, "__self__"):
        return place
    raise TypeError(f"{type(value).__name__} has no stable digest")


def _packed(batches: list[Arrays], head: Mapping[str, Any]) -> bytes:
    text = json.dumps({**head, "batches": len(batches)}).encode()
    named = {
        f"{number}.{name}": array
        for number, arrays in enumerate(batches)
        for name, array in arrays.items()
    }
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, head=np.frombuffer(text, np.uint8), **named)
    return buffer.getvalue()


def _unpacked(data: bytes, start: Position) -> Piece | None:
    """A piece that begins at `start`; None for any other, or a damaged one."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            head = json.loads(found["head"].tobytes())
            batches: list[Arrays] = [{} for _ in range(head["batches"])]
            for key in found.files:
                if key != "head":
                    number, name = key.split(".", 1)
                    batches[int(number)][name] = found[key]
            if Position(**head["start"]) != start:
                return None
            return Piece(batches, Position(**head["end"]), head["state"])
    except (ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile):
        return None
