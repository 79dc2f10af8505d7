"""Pieces of tensors: who writes which part of a training's state, and who reads which.

A piece is a box of a tensor: the whole, some rows, or a shard of any layout. What a worker saves
is a list of pieces, and so is what it wants back; the two need not be cut alike, so a checkpoint
of two workers is read by one or by three. To save, the workers' pieces together must cover every
tensor exactly once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

Shape = tuple[int, ...]

# Larger pieces are cut by rows, so that digests are checked and tensors copied in small steps.
LARGEST = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Piece:
    """A box of a tensor.

    Attributes:
        name: The tensor's.
        shape: The whole tensor's.
        offset: Where the box begins, in every dimension.
        values: The box itself; saved from, or filled in place.
    """

    name: str
    shape: Shape
    offset: Shape
    values: Tensor

    def __post_init__(self) -> None:
        box = tuple(self.values.shape)
        fits = len(self.shape) == len(self.offset) == len(box) and all(
            begin >= 0 and begin + size <= whole
            for begin, size, whole in zip(self.offset, box, self.shape, strict=True)
        )
        if not fits:
            raise ValueError(f"{self.name}: {box} at {self.offset} is no part of {self.shape}")

    @property
    def bytes(self) -> int:
        """Size of the box."""
        return self.values.numel() * self.values.element_size()

    def rows(self, begin: int, end: int) -> Piece:
        """Rows of this piece."""
        offset = (self.offset[0] + begin, *self.offset[1:])
        return Piece(self.name, self.shape, offset, self.values[begin:end])


def whole(name: str, tensor: Tensor) -> Piece:
    """A tensor in one piece."""
    return Piece(name, tuple(tensor.shape), (0,) * tensor.ndim, tensor)


def wholes(tensors: Mapping[str, Tensor]) -> list[Piece]:
    """Tensors in one piece each."""
    return [whole(name, tensor) for name, tensor in tensors.items()]


def share(pieces: Iterable[Piece], rank: int, workers: int) -> list[Piece]:
    """The part of replicated pieces that one worker writes.

    All bytes in a row are cut into as many equal stretches as there are workers, at the nearest
    borders of rows.
    """
    pieces = list(pieces)
    total = sum(piece.bytes for piece in pieces)
    first, last = (total * part // workers for part in (rank, rank + 1))
    mine: list[Piece] = []
    position = 0
    for piece in pieces:
        begin, end = (_row(piece, edge - position) for edge in (first, last))
        position += piece.bytes
        if piece.values.ndim and begin < end:
            mine.append(piece.rows(begin, end))
        elif not piece.values.ndim and first < position <= last:
            mine.append(piece)
    return mine


def _row(piece: Piece, edge: int) -> int:
    """The row of a piece that is nearest to a number of bytes from its beginning."""
    rows = piece.values.shape[0] if piece.values.ndim else 1
    return max(0, min(rows, round(rows * edge / piece.bytes))) if piece.bytes else 0


def cut(pieces: Iterable[Piece], largest: int = LARGEST) -> list[Piece]:
    """The same, in pieces of at most so many bytes where rows allow it."""
    found: list[Piece] = []
    for piece in pieces:
        rows = piece.values.shape[0] if piece.values.ndim else 1
        parts = min(rows, math.ceil(piece.bytes / largest))
        if parts <= 1:
            found.append(piece)
            continue
        edges = [rows * part // parts for part in range(parts + 1)]
        found += [piece.rows(*edge) for edge in pairwise(edges)]
    return found


Box = tuple[slice, ...]


def overlap(offset: Shape, size: Shape, piece: Piece) -> tuple[Box, Box] | None:
    """Where a stored box meets a piece: in the box's own indices and in the piece's, or None."""
    inside: list[slice] = []
    target: list[slice] = []
    for begin, length, start, extent in zip(
        offset, size, piece.offset, piece.values.shape, strict=True
    ):
        low, high = max(begin, start), min(begin + length, start + extent)
        if low >= high:
            return None
        inside.append(slice(low - begin, high - begin))
        target.append(slice(low - start, high - start))
    return tuple(inside), tuple(target)


def host_bytes(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor on the host."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data
