"""Hashes of words and of runs of words, for a whole batch of texts at once.

Words are what stands between ASCII blanks; case is folded first. A word's hash is multilinear over
its bytes, sum of R[i] * (byte[i] + 1) modulo 2**64 with random odd R, so that numpy can calculate
it for all words of a batch in a few passes; a final mixing (the one of splitmix64) spreads it over
all bits. Neither depends on the process, unlike Python's own `hash`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Offsets = npt.NDArray[np.int64]

# Bytes of a word beyond this take the factors again from the first one on.
_FACTORS = np.random.default_rng(0x5EED).integers(0, 2**64, 512, dtype=np.uint64) | np.uint64(1)
_BLANK = np.zeros(256, dtype=bool)
_BLANK[[9, 10, 11, 12, 13, 28, 29, 30, 31, 32]] = True
# Longer texts are hashed piece by piece: the arrays in between take 40 bytes for each of theirs.
LONG = 4_000_000
_NOTHING = np.zeros(0, np.uint64)


def mix(values: Hashes) -> Hashes:
    """Spread every bit over all 64 (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def word_hashes(texts: Sequence[str]) -> tuple[Hashes, Offsets]:
    """Hashes of all words of the texts, in order.

    Returns:
        hashes: uint64 (words,).
        offsets: int64 (texts + 1,); text i has the hashes from offsets[i] to offsets[i + 1].
    """
    data = [text.lower().encode() for text in texts]
    if max(map(len, data), default=0) <= LONG:
        return _of_bytes(data)
    each = [
        np.concatenate([_of_bytes([piece])[0] for piece in _pieces(one)]) if one else _NOTHING
        for one in data
    ]
    return np.concatenate(each), np.cumsum([0, *map(len, each)]).astype(np.int64)


def _pieces(data: bytes) -> Iterator[bytes]:
    """A text in pieces of about LONG bytes, cut at blanks."""
    at = 0
    while at < len(data):
        stop = at + LONG
        # A word that is longer than a piece stays whole, up to the next blank.
        blanks = np.flatnonzero(_BLANK[np.frombuffer(data[at:stop], np.uint8)])
        if stop < len(data) and len(blanks) and blanks[-1]:
            stop = at + int(blanks[-1])
        elif stop < len(data):
            after = np.flatnonzero(_BLANK[np.frombuffer(data, np.uint8, offset=stop)])
            stop = stop + int(after[0]) if len(after) else len(data)
        yield data[at:stop]
        at = stop


def _of_bytes(data: Sequence[bytes]) -> tuple[Hashes, Offsets]:
    """As `word_hashes`, of texts in lower case as UTF-8."""
    # A blank after every text keeps words of neighbours apart, and one in front begins the first.
    raw = np.frombuffer(b" " + b" ".join([*data, b""]), dtype=np.uint8)
    blank = _BLANK[raw]
    edges = np.flatnonzero(blank[1:] != blank[:-1]) + 1
    starts, ends = edges[0::2], edges[1::2]
    if not len(starts):
        return np.zeros(0, np.uint64), np.zeros(len(data) + 1, np.int64)
    lengths = ends - starts
    letters = raw[~blank].astype(np.uint64)
    firsts = np.cumsum(lengths) - lengths
    place = np.arange(len(letters)) - np.repeat(firsts, lengths)
    terms = (letters + np.uint64(1)) * _FACTORS[place % len(_FACTORS)]
    hashes = mix(np.add.reduceat(terms, firsts) + lengths.astype(np.uint64))
    borders = np.cumsum([0, *(len(one) + 1 for one in data)])
    return hashes, np.searchsorted(starts, borders).astype(np.int64)


def ngram_hashes(words: Hashes, offsets: Offsets, size: int) -> tuple[Hashes, Offsets]:
    """Hashes of all runs of `size` words within a text.

    Args:
        words: uint64 (words,).
        offsets: int64 (texts + 1,).
        size: Words in a run.

    Returns:
        As `word_hashes`; a text of fewer words has none.
    """
    counts = np.diff(offsets)
    runs = np.maximum(counts - size + 1, 0)
    found = np.concatenate([[0], np.cumsum(runs)]).astype(np.int64)
    if not found[-1]:
        return np.zeros(0, np.uint64), found
    starts = np.arange(found[-1]) - np.repeat(found[:-1] - offsets[:-1], runs)
    total = np.zeros(len(starts), np.uint64)
    for place in range(size):
        total += words[starts + place] * _FACTORS[place]
    return mix(total), found


def shingle_hashes(words: Hashes, offsets: Offsets, size: int) -> tuple[Hashes, Offsets]:
    """As `ngram_hashes`, but a text of fewer words gives one hash of all it has."""
    short = np.flatnonzero((np.diff(offsets) < size) & (np.diff(offsets) > 0))
    if not len(short):
        return ngram_hashes(words, offsets, size)
    # Short texts are filled up with a word that no text has: the hash 0.
    missing = size - np.diff(offsets)[short]
    places = np.repeat(offsets[short + 1], missing)
    filled = np.insert(words, places, np.uint64(0))
    grown = offsets.copy()
    grown[1:] += np.cumsum(np.bincount(short, missing, len(offsets) - 1).astype(np.int64))
    return ngram_hashes(filled, grown, size)
