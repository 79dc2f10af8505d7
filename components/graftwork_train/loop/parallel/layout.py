"""Who stands where, and which part of every tensor is whose: arithmetic, no communication.

Workers form a grid of replicas, expert and tensor parallel workers, the last one innermost:
rank = (replica · experts + expert) · tensors + tensor. All that differ in replica or expert share
the batch; all that differ in tensor alone see the same sequences.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Literal, NamedTuple

from torch import Tensor

from graftwork.spec.parallel import Parallel
from graftwork_train.loop.pieces import Piece, Shape

Axis = Literal["replica", "expert", "tensor"]
AXES: tuple[Axis, ...] = ("replica", "expert", "tensor")


@dataclass(frozen=True, slots=True)
class Layout:
    """The grid of workers.

    Attributes:
        sizes: Workers along each axis.
        sharded: Whether those that share the batch also divide weights, gradients and moments.
    """

    sizes: tuple[int, int, int]
    sharded: bool = False

    @classmethod
    def of(cls, word: Parallel, workers: int) -> Layout:
        """What the word means for so many workers.

        Raises:
            ValueError: the workers are no multiple of what divides the model.
        """
        unit = word.tensor * word.expert
        if workers % unit:
            raise ValueError(f"{workers} workers cannot form a grid of {unit}")
        sizes = (workers // unit, word.expert, word.tensor)
        return cls(sizes, word.data == "fsdp" and workers > word.tensor)

    @property
    def workers(self) -> int:
        """All of them."""
        return math.prod(self.sizes)

    @property
    def divided(self) -> bool:
        """Whether any worker holds a part of the weights only."""
        return self.sharded or max(self.sizes[1:]) > 1

    def size(self, *axes: Axis) -> int:
        """Workers along these axes."""
        return math.prod(self.sizes[AXES.index(axis)] for axis in axes)

    def index(self, rank: int, *axes: Axis) -> int:
        """Where a worker stands along these axes, the last one innermost."""
        places = {}
        for axis in reversed(AXES):
            rank, places[axis] = divmod(rank, self.size(axis))
        found = 0
        for axis in axes:
            found = found * self.size(axis) + places[axis]
        return found


@dataclass(frozen=True, slots=True)
class Cut:
    """A dimension that is divided equally along an axis.

    Attributes:
        blocks: Equal runs side by side in the dimension, each of which is divided, such as an
            expert's gate and what it gates.
    """

    axis: Axis
    dim: int
    blocks: int = 1

    def part(self, tensor: Tensor, parts: int, part: int) -> Tensor:
        """One worker's part; a copy."""
        runs = tensor.unflatten(self.dim, (self.blocks, parts, -1)).select(self.dim + 1, part)
        found: Tensor = runs.flatten(self.dim, self.dim + 1)
        return found.clone()


class Box(NamedTuple):
    """A box: where it begins in the whole tensor and in a worker's part of it, and its size."""

    offset: Shape
    place: Shape
    size: Shape

    @property
    def ends(self) -> Shape:
        """Where it ends in the worker's part."""
        return tuple(begin + size for begin, size in zip(self.place, self.size, strict=True))


@dataclass(frozen=True, slots=True)
class Division:
    """How a tensor is divided.

    Attributes:
        shape: The whole tensor's.
        cuts: What divides its dimensions.
        rows: Axes along which the rows of what the cuts leave are divided, as FSDP does: equal
            numbers, rounded up, so that the last workers may have fewer or none.
    """

    shape: Shape
    cuts: tuple[Cut, ...] = ()
    rows: tuple[Axis, ...] = ()

    def part(self, tensor: Tensor, layout: Layout, rank: int) -> Tensor:
        """A worker's part of the whole tensor."""
        for cut in self.cuts:
            tensor = cut.part(tensor, layout.size(cut.axis), layout.index(rank, cut.axis))
        if self.rows:
            tensor = tensor[slice(*self._rows(layout, rank))]
        return tensor

    def copies(self, layout: Layout) -> int:
        """Workers that hold the same part."""
        return layout.size(*self._free())

    def copy(self, layout: Layout, rank: int) -> int:
        """Which of them a worker is."""
        return layout.index(rank, *self._free())

    def pieces(self, name: str, part: Tensor, layout: Layout, rank: int) -> list[Piece]:
        """A worker's part as boxes of the whole tensor; views of the part.

        Raises:
            ValueError: the tensor is not that worker's part.
        """
        boxes = self.boxes(layout, rank)
        if sum(math.prod(box.size) for box in boxes) != part.numel():
            raise ValueError(f"{name}: {tuple(part.shape)} is not the part of worker {rank}")
        return [
            Piece(name, self.shape, box.offset, part[tuple(map(slice, box.place, box.ends))])
            for box in boxes
        ]

    def boxes(self, layout: Layout, rank: int) -> list[Box]:
        """Where a worker's part lies in the whole tensor; nothing where it has no rows."""
        runs = [list(self._runs(dim, layout, rank)) for dim in range(len(self.shape))]
        return [
            Box(*(tuple(run[field] for run in chosen) for field in range(3)))
            for chosen in product(*runs)
        ]

    def _free(self) -> tuple[Axis, ...]:
        taken = {cut.axis for cut in self.cuts} | set(self.rows)
        return tuple(axis for axis in AXES if axis not in taken)

    def _runs(self, dim: int, layout: Layout, rank: int) -> Iterator[tuple[int, int, int]]:
        """Runs of a dimension that are this worker's: begin in the whole, in its part, length."""
        found = [(0, 0, self.shape[dim])]
        for cut in (cut for cut in self.cuts if cut.dim == dim):
            block = self.shape[dim] // cut.blocks
            each = block // layout.size(cut.axis)
            first = each * layout.index(rank, cut.axis)
            found = [(number * block + first, number * each, each) for number in range(cut.blocks)]
        low, high = 0, self.shape[dim]
        if dim == 0 and self.rows:
            low, high = self._rows(layout, rank)
        for begin, place, length in found:
            start, end = max(low, place), min(high, place + length)
            if start < end:
                yield begin + start - place, start - low, end - start

    def _rows(self, layout: Layout, rank: int) -> tuple[int, int]:
        """First and last row, of what the cuts leave."""
        rows = self.shape[0]
        for cut in (cut for cut in self.cuts if cut.dim == 0):
            rows //= layout.size(cut.axis)
        each = -(-rows // layout.size(*self.rows))
        first = min(rows, each * layout.index(rank, *self.rows))
        return first, min(rows, first + each)
