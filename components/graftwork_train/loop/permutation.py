"""A shuffle of any length that needs no memory: a bijection computed item by item.

A Feistel network permutes the numbers below a power of four; numbers that fall outside the wanted
range are sent through again until they are inside (cycle walking), which keeps it a bijection.
Luby and Rackoff 1988 show that four rounds of a good round function mix well; here that function
is the finaliser of SplitMix64 (Steele et al. 2014).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.uint64]

_ROUNDS = 4
_ODD = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


def _mix(values: Numbers) -> Numbers:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def permute(positions: npt.ArrayLike, length: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Where each position of an epoch's order points to.

    Args:
        positions: Numbers from 0 to `length` - 1.
        length: How many items there are, at least 1.
        seed: Gives the order, together with the epoch.
        epoch: Gives the order, together with the seed.
    """
    half = max(1, ((length - 1).bit_length() + 1) // 2)
    keys = _mix(np.arange(1, _ROUNDS + 1, dtype=np.uint64) * np.uint64(_ODD) + _key(seed, epoch))
    values = np.asarray(positions, dtype=np.uint64).copy()
    outside = np.ones(values.shape, dtype=bool)
    while outside.any():
        values[outside] = _feistel(values[outside], half, keys)
        outside = values >= length
    return values.astype(np.int64)


def _key(seed: int, epoch: int) -> np.uint64:
    both = np.array([(seed * _ODD + epoch + 1) & _MASK], dtype=np.uint64)
    return np.uint64(_mix(both)[0])


def _feistel(values: Numbers, half: int, keys: Numbers) -> Numbers:
    bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = values >> bits, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right + key) & mask)
    return (left << bits) | right
