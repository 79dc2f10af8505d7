"""The k-th largest of many magnitudes, exactly, with no more in memory than one tensor of them.

The bits of non-negative fp32 numbers, read as whole numbers, are in the numbers' order. So two
counts settle it: of the upper halves of all numbers, then of the lower halves of those that share
the upper half of the one that is sought.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

_HALF = 16
_LOWER = (1 << _HALF) - 1


def kth_largest(magnitudes: Callable[[], Iterable[Tensor]], k: int) -> float:
    """The k-th largest number of all tensors together, counted from 1.

    Args:
        magnitudes: Gives the tensors, fp32 and not negative; called twice.
        k: At least 1, at most their number.

    Raises:
        ValueError: there are fewer numbers than k.
    """
    upper, above = _find((_bits(tensor) >> _HALF for tensor in magnitudes()), k)
    lower, _ = _find((_within(_bits(tensor), upper) for tensor in magnitudes()), k - above)
    bits = torch.tensor((upper << _HALF) | lower, dtype=torch.int32)
    return float(bits.view(torch.float32))


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().float().contiguous().view(torch.int32).flatten()


def _within(bits: Tensor, upper: int) -> Tensor:
    return bits[bits >> _HALF == upper] & _LOWER


def _find(halves: Iterable[Tensor], k: int) -> tuple[int, int]:
    """The k-th largest half, and how many are larger."""
    counts = torch.zeros(_LOWER + 1, dtype=torch.int64)
    for half in halves:
        counts += torch.bincount(half, minlength=_LOWER + 1).cpu()
    from_above = counts.flip(0).cumsum(0)
    if not 1 <= k <= int(from_above[-1]):
        raise ValueError(f"there is no {k}-th largest of {int(from_above[-1])} numbers")
    place = int(torch.searchsorted(from_above, k))
    return _LOWER - place, int(from_above[place - 1]) if place else 0
