"""Where a worker stands among the others, and host numbers that they agree on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker stands among the others, and what it computes on.

    Attributes:
        tensor: Neighbouring workers that see the same sequences.
    """

    rank: int = 0
    workers: int = 1
    device: torch.device = CPU
    tensor: int = 1

    @property
    def sharer(self) -> int:
        """Which of those that share a batch this worker is."""
        return self.rank // self.tensor

    @property
    def sharers(self) -> int:
        """How many share a batch."""
        return self.workers // self.tensor


def all_sum(place: Place, *values: float) -> list[float]:
    """The sums of host numbers over all workers."""
    if place.workers == 1:
        return list(values)
    tensor = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(tensor)
    found: list[float] = tensor.tolist()
    return found
