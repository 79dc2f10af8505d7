"""Hashes of 64 bits that are alike for documents that are alike, and covers of them.

SimHash (Charikar 2002) of words; dHash of images, in the convention of `imagehash`. A cover is
made greedily in the given order: what is within some bits of an earlier exemplar is not one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from graftwork_train.data.scoring.hashing import Hashes, shingle_hashes, stretches, word_hashes

Places = npt.NDArray[np.int64]

BITS = 64
# Bands of fewer bits hold so many documents each that looking at all of them costs no more.
_NARROW = 12
_COLUMNS, _ROWS = 9, 8


def simhashes(texts: Sequence[str], ngram: int) -> Hashes:
    """SimHash of each text: every bit is the majority of that bit over the hashes of its features.

    Args:
        texts: The texts.
        ngram: Words in a feature; every occurrence counts.

    Returns:
        uint64 (texts,); 0 for a text without words.
    """
    features, offsets = shingle_hashes(*word_hashes(texts), ngram)
    counts = np.zeros((len(texts), BITS), np.int64)
    for some, here, starts in stretches(features, offsets):
        each = np.unpackbits(some.astype("<u8").view(np.uint8)).reshape(-1, BITS)
        counts[here] += np.add.reduceat(each, starts, axis=0, dtype=np.int32)
    return _packed(2 * counts > np.diff(offsets)[:, None])


def dhash(image: npt.NDArray[np.float64]) -> int:
    """Difference hash of a grey image: bit = a pixel is brighter than its left neighbour.

    Args:
        image: (height, width), reduced to 8 x 9 by the means of areas.
    """
    small = _areas(image.shape[0], _ROWS) @ image @ _areas(image.shape[1], _COLUMNS).T
    # Rounded, so that what is equal but for the arithmetic of means stays equal.
    brighter = np.diff(np.round(small, 6), axis=1) > 0
    return int(_packed(brighter.reshape(1, BITS))[0])


def plain_image(text: str) -> npt.NDArray[np.float64] | None:
    """The grey image (height, width) that a plain PGM holds, or None for any other text."""
    words = [word for line in text.splitlines() for word in line.split("#")[0].split()]
    if not words or words[0] != "P2" or not all(map(str.isdecimal, words[1:])):
        return None
    numbers = np.array(words[1:], dtype=np.float64)
    if len(numbers) < 4 or len(numbers) != 3 + numbers[0] * numbers[1] or not len(numbers[3:]):
        return None
    return numbers[3:].reshape(int(numbers[1]), int(numbers[0]))


def cover(hashes: Hashes, distance: int) -> Places:
    """For each hash the position of the exemplar that stands for it; its own if it is one.

    Args:
        hashes: uint64 (n,), in the order in which exemplars are chosen.
        distance: Bits in which a hash may differ from its exemplar.

    Returns:
        int64 (n,); of several exemplars in reach, the earliest.
    """
    width = BITS // (distance + 1)
    found = _by_bands(hashes, distance) if width >= _NARROW else _by_all(hashes, distance)
    return np.array(found, np.int64)


def _by_all(hashes: Hashes, distance: int) -> list[int]:
    kept = np.zeros_like(hashes)
    places: list[int] = []
    found = []
    for place, one in enumerate(hashes):
        near = np.bitwise_count(kept[: len(places)] ^ one) <= distance
        first = int(near.argmax()) if near.any() else -1
        if first < 0:
            kept[len(places)] = one
            places.append(place)
        found.append(places[first] if first >= 0 else place)
    return found


def _by_bands(hashes: Hashes, distance: int) -> list[int]:
    """Two hashes that differ in `distance` bits agree in one of `distance` + 1 bands."""
    width = BITS // (distance + 1)
    if width == BITS:
        keys = hashes[:, None]
    else:
        shifts = (np.arange(distance + 1) * width).astype(np.uint64)
        keys = (hashes[:, None] >> shifts) & np.uint64(2**width - 1)
    tables: list[defaultdict[int, list[int]]] = [defaultdict(list) for _ in keys.T]
    found = []
    for place, own in enumerate(keys.tolist()):
        near = {
            other for table, key in zip(tables, own, strict=True) for other in table.get(key, ())
        }
        candidates = np.fromiter(sorted(near), np.int64, len(near))
        reached = candidates[np.bitwise_count(hashes[candidates] ^ hashes[place]) <= distance]
        if not len(reached):
            for table, key in zip(tables, own, strict=True):
                table[key].append(place)
        found.append(int(reached[0]) if len(reached) else place)
    return found


def _areas(size: int, parts: int) -> npt.NDArray[np.float64]:
    """Weights (parts, size) of the means of `parts` equal pieces of a line of `size` pixels."""
    edges = np.linspace(0, size, parts + 1)
    pixels = np.arange(size)
    ends = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights: npt.NDArray[np.float64] = np.maximum(ends, 0) * parts / size
    return weights


def _packed(bits: npt.NDArray[np.bool_]) -> Hashes:
    packed: Hashes = np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)
    return packed
