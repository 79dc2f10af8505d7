"""A language model of runs of bytes, counted in hashed tables: fast, and good enough to rank texts.

    p_0(c) = 1 / 256
    p_k(c) = (n(h_k c) + M p_{k-1}(c)) / (n(h_k) + M),   h_k = the k - 1 bytes before c,  M = 8

Interpolation with a fixed mass is that of Dirichlet priors (MacKay and Peto 1995). Tables have
2**20 cells; runs that share a cell share their counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from graftwork_train.data.scoring.hashing import Hashes, mix

CELLS = 2**20
MASS = 8.0
# Of a text, this many bytes are read.
READ_BYTES = 8192
_BATCH_BYTES = 4_000_000
_FACTORS = np.random.default_rng(0xB17E).integers(0, 2**64, 16, dtype=np.uint64) | np.uint64(1)

Counts = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """A counted model.

    Attributes:
        contexts: int32 (order, cells), how often each context came.
        runs: int32 (order, cells), how often each context came with each next byte.
    """

    contexts: Counts
    runs: Counts

    @classmethod
    def count(cls, texts: Iterable[str], order: int) -> Runs:
        """Count the runs of 1 to `order` bytes of the texts."""
        model = cls(np.zeros((order, CELLS), np.int32), np.zeros((order, CELLS), np.int32))
        for some in _grouped(texts):
            raw, offsets = _bytes(some, order)
            inside = _inside(len(raw), offsets, order)
            for place, (context, run) in enumerate(_cells(raw, order)):
                np.add.at(model.contexts[place], context[inside], 1)
                np.add.at(model.runs[place], run[inside], 1)
        return model

    def bits(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Bits per byte of each text: float64 (texts,); NaN for an empty one.

        A text's own bits do not depend on the others.
        """
        order = len(self.runs)
        found = []
        for some in _grouped(texts):
            raw, offsets = _bytes(some, order)
            chance = np.full(len(raw), 1 / 256)
            for place, (context, run) in enumerate(_cells(raw, order)):
                together = self.runs[place][run] + MASS * chance
                chance = together / (self.contexts[place][context] + MASS)
            bits = -np.log2(np.minimum(chance, 1))
            for start, stop in zip(offsets[:-1] + order, offsets[1:], strict=True):
                found.append(bits[start:stop].mean() if stop > start else np.nan)
        return np.array(found)


def _grouped(texts: Iterable[str]) -> Iterable[list[bytes]]:
    """The texts' first bytes, in groups that are worked on at once."""
    group: list[bytes] = []
    size = 0
    for text in texts:
        group.append(text[:READ_BYTES].encode()[:READ_BYTES])
        size += len(group[-1])
        if size >= _BATCH_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _bytes(texts: Sequence[bytes], order: int) -> tuple[Hashes, npt.NDArray[np.int64]]:
    """All bytes in a row, `order` zeros before each text, and where each text's row begins."""
    row = b"".join(b"\0" * order + text for text in texts)
    lengths = [order + len(text) for text in texts]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return np.frombuffer(row, np.uint8).astype(np.uint64), offsets


def _inside(size: int, offsets: npt.NDArray[np.int64], order: int) -> npt.NDArray[np.bool_]:
    """Positions that are text and not the zeros before one."""
    inside = np.ones(size, dtype=bool)
    for at in range(order):
        inside[offsets[:-1] + at] = False
    return inside


def _cells(
    raw: Hashes, order: int
) -> Iterable[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """For 0 to order - 1 bytes of context: the cells of every position's context and run."""
    context = np.zeros(len(raw), np.uint64)
    for length in range(order):
        if length:
            before = np.zeros_like(raw)
            before[length:] = raw[:-length]
            context = context + (before + np.uint64(1)) * _FACTORS[length]
        keys = mix(context + np.uint64(length))
        runs = mix(keys + (raw + np.uint64(1)) * _FACTORS[0])
        yield _cell(keys), _cell(runs)


def _cell(hashes: Hashes) -> npt.NDArray[np.int64]:
    return (hashes & np.uint64(CELLS - 1)).astype(np.int64)
