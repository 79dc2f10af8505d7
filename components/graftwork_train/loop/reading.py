"""Stored pieces read into the pieces that a worker wants, digests verified on the way."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
from torch import Tensor

from graftwork.errors import RunError
from graftwork.store.files import Files
from graftwork_train.loop.pieces import Box, Piece, Shape, host_bytes, overlap
from graftwork_train.loop.snapshot import KINDS, Entry, digest, view

# Reads at once; one from a bucket is itself made on several threads.
READS = 2
# Entries that lie together in a bucket are read in one request of up to so many bytes, even with
# some between them that nobody wants.
TOGETHER, BETWEEN = 16 * 2**20, 64 * 2**10
# Tensors that an error names; the others are counted.
NAMED = 3


class BrokenError(RunError):
    """A checkpoint is not what was written."""


@dataclass(frozen=True, slots=True)
class Read:
    """An entry of a file, and the pieces that it has something for: which box goes to which."""

    uri: str
    entry: Entry
    targets: list[tuple[Piece, Box, Box]] = field(default_factory=list)


def compare(uri: str, entries: Iterable[Entry], shapes: Mapping[str, Shape]) -> None:
    """Make sure that a checkpoint holds the tensors of this training, and no others.

    Its tables are what was written, so this is no damage: passing it over would train anew, and
    remove in the end what somebody may want.

    Args:
        uri: The checkpoint's folder, for messages.
        entries: All that it holds.
        shapes: Of the whole tensors, by name.

    Raises:
        RunError: it has others.
    """
    covered: Counter[str] = Counter()
    found: dict[str, Shape] = {}
    for entry in entries:
        covered[entry.name] += math.prod(entry.size)
        found[entry.name] = entry.shape
    told = [
        f"a tensor {name}, of which this training knows nothing"
        for name in found
        if name not in shapes
    ]
    for name, shape in shapes.items():
        if found.get(name, shape) != shape:
            told.append(f"{name} of the shape {found[name]}, here it is {shape}")
        elif covered[name] != math.prod(shape):
            told.append(f"{covered[name]} of the {math.prod(shape)} values of {name}")
    if told:
        more = f"; {len(told) - NAMED} more tensors differ" if len(told) > NAMED else ""
        raise RunError(
            f"the checkpoint {uri} is not of this training: it holds "
            f"{'; '.join(told[:NAMED])}{more}",
            "Put back what was written there, or remove the folder: the training then goes on "
            "from the checkpoint before it, or begins anew where there is none.",
        )


def match(entries: Mapping[str, Iterable[Entry]], pieces: Sequence[Piece]) -> list[Read]:
    """What must be read to fill the pieces; they are not touched.

    Args:
        entries: By the URI of their file; of the pieces' shapes.
        pieces: Of any layout.

    Raises:
        BrokenError: the entries do not cover the pieces exactly.
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
    groups = [[read] for read in reads] if files.local else _together(reads)
    with ThreadPoolExecutor(READS) as pool:
        for done in [pool.submit(filler.fill, group) for group in groups]:
            done.result()
    return True


def _together(reads: Sequence[Read]) -> list[list[Read]]:
    """Reads that lie close to one another in a file, as one."""
    groups: list[list[Read]] = []
    for read in sorted(reads, key=lambda read: (read.uri, read.entry.begin)):
        first, last = (groups[-1][0], groups[-1][-1]) if groups else (read, read)
        if (
            groups
            and read.uri == first.uri
            and read.entry.begin - last.entry.end <= BETWEEN
            and read.entry.end - first.entry.begin <= TOGETHER
        ):
            groups[-1].append(read)
        else:
            groups.append([read])
    return groups


class _Filler:
    """Reads for several threads, each with a buffer of its own that is used over and over."""

    def __init__(self, files: Files, dry: bool) -> None:
        self._files, self._dry = files, dry
        self._own = threading.local()

    def fill(self, group: Sequence[Read]) -> None:
        """As the function, for reads that lie together."""
        target = _direct(group[0]) if len(group) == 1 and not self._dry else None
        if target is not None:
            data = host_bytes(target)
            self._files.load(group[0].uri, group[0].entry.begin, data)
            _check(group[0].entry, data)
            return
        begin = group[0].entry.begin
        memory = self._memory(group[-1].entry.end - begin)
        self._files.load(group[0].uri, begin, memory.numpy().data)
        for read in group:
            values = memory[read.entry.begin - begin : read.entry.end - begin]
            _check(read.entry, values.numpy().data)
            if not self._dry:
                _copy(read, values)

    def _memory(self, size: int) -> Tensor:
        memory: Tensor | None = getattr(self._own, "memory", None)
        if memory is None or len(memory) < size:
            memory = self._own.memory = torch.empty(size, dtype=torch.uint8)
        return memory[:size]


def _check(entry: Entry, data: memoryview) -> None:
    if digest(data) != entry.digest:
        raise BrokenError(f"{entry.name} is not what was written")


@torch.no_grad()
def _copy(read: Read, memory: Tensor) -> None:
    try:
        values = view(memory, read.entry)
    except ValueError as error:
        raise BrokenError(str(error)) from error
    for piece, inside, box in read.targets:
        piece.values[box].copy_(values[inside])


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
