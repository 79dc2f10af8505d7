"""A worker's part of the state in host memory, laid out as the safetensors file it becomes.

Taking it is one copy, for which training waits; writing it needs no further one. The memory is
kept for the next time: as much as the worker's part of the state, and a few kilobytes.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import xxhash
from torch import Tensor

from graftwork_train.loop.pieces import Piece, Shape, cut

DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip
KINDS = {name: dtype for dtype, name in DTYPES.items()}
# A multiple of every dtype's size, and of a cache line.
_ALIGNED = 64
# Linux's MADV_POPULATE_WRITE.
_POPULATE_WRITE = 23


@dataclass(frozen=True, slots=True)
class Entry:
    """A piece in a file: its bytes lie from `begin` to `end`, and `digest` is their xxh3-128."""

    name: str
    dtype: str
    shape: Shape
    offset: Shape
    size: Shape
    begin: int
    end: int
    digest: str = ""


class Snapshot:
    """Memory for pieces of these names, shapes and dtypes.

    Args:
        pieces: What is going to be taken, always in this order.
    """

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._layout = _layout(pieces)
        ordered = sorted(cut(pieces), key=lambda piece: -piece.values.element_size())
        header, self.entries = _header(ordered)
        self._pinned = any(piece.values.is_cuda for piece in pieces)
        length = self.entries[-1].end if self.entries else len(header)
        self._buffer = _memory(length, pinned=self._pinned)
        self._buffer[: len(header)] = torch.frombuffer(bytearray(header), dtype=torch.uint8)
        self._views = [
            self._buffer[entry.begin : entry.end].view(piece.values.dtype).view(entry.size)
            for entry, piece in zip(self.entries, ordered, strict=True)
        ]

    def fits(self, pieces: Sequence[Piece]) -> bool:
        """Whether these are the pieces that the memory was made for."""
        return _layout(pieces) == self._layout

    def populate(self) -> None:
        """Have the kernel give all of the memory now; what is in it stays.

        It gives memory when it is written to at first, and for gigabytes that takes seconds.
        Without a kernel that can (Linux 5.14), that is when it comes, as before.
        """
        if not self._pinned:
            # ctypes lets other threads go on meanwhile, and none of torch's is needed for it.
            libc = ctypes.CDLL(None, use_errno=True)
            address = ctypes.c_void_p(self._buffer.data_ptr())
            libc.madvise(address, ctypes.c_size_t(len(self._buffer)), _POPULATE_WRITE)

    @torch.no_grad()
    def take(self, pieces: Sequence[Piece]) -> None:
        """Copy the pieces; when this returns, they may change."""
        ordered = sorted(cut(pieces), key=lambda piece: -piece.values.element_size())
        for view, piece in zip(self._views, ordered, strict=True):
            view.copy_(piece.values, non_blocking=True)
        for device in {piece.values.device for piece in ordered if piece.values.is_cuda}:
            torch.cuda.current_stream(device).synchronize()

    @property
    def data(self) -> memoryview:
        """The whole file."""
        return self._buffer.numpy().data

    def digested(self) -> list[Entry]:
        """The entries with the digests of what was taken."""
        data = self.data
        return [_with_digest(entry, data[entry.begin : entry.end]) for entry in self.entries]


def _memory(length: int, *, pinned: bool) -> Tensor:
    """Host memory that begins at a page, as disks like to be written from."""
    if pinned:
        whole = torch.empty(length + mmap.PAGESIZE, dtype=torch.uint8, pin_memory=True)
        begin = -whole.data_ptr() % mmap.PAGESIZE
        return whole[begin : begin + length]
    area = mmap.mmap(-1, length)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # the kernel may have none
            area.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(area, dtype=torch.uint8)


def digest(data: memoryview) -> str:
    """xxh3-128, in hexadecimal."""
    return xxhash.xxh3_128(data).hexdigest()


def _with_digest(entry: Entry, data: memoryview) -> Entry:
    fields = {name: getattr(entry, name) for name in Entry.__slots__}
    return Entry(**fields | {"digest": digest(data)})


def _layout(pieces: Sequence[Piece]) -> list[tuple[str, Shape, Shape, Shape, torch.dtype]]:
    return [(p.name, p.shape, p.offset, tuple(p.values.shape), p.values.dtype) for p in pieces]


def _header(pieces: Sequence[Piece]) -> tuple[bytes, list[Entry]]:
    """The beginning of a safetensors file, and the entries with their places in the file."""
    table: dict[str, object] = {"__metadata__": {"format": "pt"}}
    position = 0
    spans = []
    for piece in pieces:
        dtype, begin = DTYPES[piece.values.dtype], position
        position += piece.bytes
        spans.append((dtype, begin, position))
        table[_key(piece)] = {
            "dtype": dtype, "shape": list(piece.values.shape), "data_offsets": [begin, position],
        }  # fmt: skip
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNED)
    header = struct.pack("<Q", len(text)) + text
    entries = [
        Entry(
            piece.name, dtype, piece.shape, piece.offset, tuple(piece.values.shape),
            len(header) + begin, len(header) + end,
        )
        for piece, (dtype, begin, end) in zip(pieces, spans, strict=True)
    ]  # fmt: skip
    return header, entries


def _key(piece: Piece) -> str:
    """A name of its own for every piece: the tensor's, and where the box begins if it is a part."""
    if tuple(piece.values.shape) == piece.shape:
        return piece.name
    return f"{piece.name}@{','.join(map(str, piece.offset))}"


def view(memory: Tensor, entry: Entry) -> Tensor:
    """Bytes as an entry's values.

    Raises:
        ValueError: dtype, size and bytes contradict one another.
    """
    dtype = KINDS.get(entry.dtype)
    if dtype is None or math.prod(entry.size) * dtype.itemsize != len(memory):
        raise ValueError(f"{entry.name} cannot be {entry.dtype} {entry.size}")
    return memory.view(dtype).view(entry.size)
