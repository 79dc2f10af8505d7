"""Stored pieces read into the pieces that a worker wants, digests verified on the way."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
from torch import Tensor

from graftwork.errors import RunError
from graftwork.store.files import Files
from graftwork_train.loop.pieces import Box, Piece, host_bytes, overlap
from graftwork_train.loop.snapshot import KINDS, Entry, digest, view

# Reads at once. A disk is served well by few, a bucket by more.
LOCAL, REMOTE = 2, 4


class BrokenError(RunError):
    """A checkpoint is not what was written, or not of this training."""


@dataclass(frozen=True, slots=True)
class Read:
    """An entry of a file, and the pieces that it has something for: which box goes to which."""

    uri: str
    entry: Entry
    targets: list[tuple[Piece, Box, Box]] = field(default_factory=list)


def match(entries: Mapping[str, Iterable[Entry]], pieces: Sequence[Piece]) -> list[Read]:
    """What must be read to fill the pieces; they are not touched.

    Args:
        entries: By the URI of their file.
        pieces: Of any layout.

    Raises:
        BrokenError: shapes differ, or the entries do not cover the pieces exactly.
    """
    wanted: dict[str, list[Piece]] = {}
    for piece in pieces:
        wanted.setdefault(piece.name, []).append(piece)
    covered = dict.fromkeys(wanted, 0)
    reads = []
    for uri, found in entries.items():
        for entry in found:
            read = Read(uri, entry, _targets(entry, wanted.get(entry.name, [])))
            if read.targets:
                covered[entry.name] += sum(p.values[box].numel() for p, _, box in read.targets)
                reads.append(read)
    for name, ours in wanted.items():
        expected = sum(piece.values.numel() for piece in ours)
        if covered[name] != expected:
            raise BrokenError(f"it holds {covered[name]} of the {expected} values of {name}")
    return reads


def _targets(entry: Entry, pieces: Sequence[Piece]) -> list[tuple[Piece, Box, Box]]:
    found = []
    for piece in pieces:
        if piece.shape != entry.shape:
            raise BrokenError(
                f"{entry.name} has the shape {entry.shape}, the model's is {piece.shape}"
            )
        boxes = overlap(entry.offset, entry.size, piece)
        if boxes is not None:
            found.append((piece, *boxes))
    return found


def fill(files: Files, reads: Sequence[Read], *, dry: bool = False) -> bool:
    """Read, verify digests, and fill the targets in place; several reads at once.

    Args:
        files: Where the entries' files lie.
        reads: What to read.
        dry: Only verify.

    Returns:
        True.

    Raises:
        BrokenError: a digest is wrong; targets may have been filled in part.
        RunError: the storage refuses.
    """
    filler = _Filler(files, dry)
    with ThreadPoolExecutor(LOCAL if files.local else REMOTE) as pool:
        for done in [pool.submit(filler.fill, read) for read in reads]:
            done.result()
    return True


class _Filler:
    """Reads for several threads, each with a buffer of its own that is used over and over."""

    def __init__(self, files: Files, dry: bool) -> None:
        self._files, self._dry = files, dry
        self._own = threading.local()

    def fill(self, read: Read) -> None:
        """As `fill`, for one read."""
        target = None if self._dry else _direct(read)
        if target is not None:
            self._load(read, target)
            return
        target = self._buffer(read.entry)
        self._load(read, target)
        if not self._dry:
            with torch.no_grad():
                for piece, inside, box in read.targets:
                    piece.values[box].copy_(target[inside])

    def _buffer(self, entry: Entry) -> Tensor:
        size = entry.end - entry.begin
        memory: Tensor | None = getattr(self._own, "memory", None)
        if memory is None or len(memory) < size:
            memory = self._own.memory = torch.empty(size, dtype=torch.uint8)
        try:
            return view(memory[:size], entry)
        except ValueError as error:
            raise BrokenError(str(error)) from error

    def _load(self, read: Read, target: Tensor) -> None:
        data = host_bytes(target)
        self._files.load(read.uri, read.entry.begin, data)
        if digest(data) != read.entry.digest:
            raise BrokenError(f"{read.entry.name} is not what was written")


def _direct(read: Read) -> Tensor | None:
    """The memory that an entry may be read straight into: contiguous, on the host, all of it."""
    if len(read.targets) != 1:
        return None
    ((piece, _, box),) = read.targets
    target = piece.values[box].detach()
    fits = (
        tuple(target.shape) == read.entry.size
        and target.is_cpu
        and target.is_contiguous()
        and target.numel() * target.element_size() == read.entry.end - read.entry.begin
        and target.dtype == KINDS.get(read.entry.dtype)
    )
    return target if fits else None
