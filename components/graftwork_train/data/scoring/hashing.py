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
# So many bytes, or hashes, are worked on at a time: what comes of them stays in a core's cache.
STRETCH = 2**16
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
    hashes, counts = [_NOTHING], [np.zeros(1, np.int64)]
    for some in _together([text.lower().encode() for text in texts]):
        if len(some[0]) <= LONG:
            found, offsets = _of_bytes(some)
            counts.append(np.diff(offsets))
        else:
            found = np.concatenate([_NOTHING, *map(_of_piece, _pieces(some[0]))])
            counts.append(np.array([len(found)]))
        hashes.append(found)
    return np.concatenate(hashes), np.cumsum(np.concatenate(counts))


def _together(data: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Neighbours that are worked on at a time: STRETCH bytes, or one text."""
    first = size = 0
    for at, one in enumerate(data):
        size += len(one)
        if size > min(STRETCH, LONG) and at > first:
            yield data[first:at]
            first, size = at, len(one)
    if data:
        yield data[first:]


def _pieces(data: bytes) -> Iterator[bytes]:
    """A text in pieces, cut at blanks: each has LONG bytes at most, or is one word."""
    begun = 0
    for at in range(0, len(data), LONG):
        blanks = np.flatnonzero(_BLANK[np.frombuffer(data[at : at + LONG], np.uint8)])
        if len(blanks):
            # Up to the first blank it is the word that the window before has begun.
            first, last = at + int(blanks[0]), at + int(blanks[-1])
            yield data[begun:first]
            yield data[first:last]
            begun = last
    yield data[begun:]


def _of_piece(piece: bytes) -> Hashes:
    """Hashes of the words of a piece: uint64 (words,)."""
    if len(piece) <= LONG:
        return _of_bytes([piece])[0]
    letters = np.frombuffer(piece, np.uint8)
    letters = letters[int(_BLANK[letters[0]]) :]
    total = np.zeros(1, np.uint64)
    # The factors come round, so that a stretch of whole rounds begins with the first of them.
    stretch = max(LONG // len(_FACTORS), 1) * len(_FACTORS)
    for at in range(0, len(letters), stretch):
        some = letters[at : at + stretch].astype(np.uint64)
        total += ((some + np.uint64(1)) * np.resize(_FACTORS, len(some))).sum()
    return mix(total + np.uint64(len(letters)))


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
    terms = raw[~blank].astype(np.uint64)
    terms += np.uint64(1)
    firsts = np.cumsum(lengths) - lengths
    place = np.arange(len(terms))
    place -= np.repeat(firsts, lengths)
    if lengths.max() > len(_FACTORS):
        place %= len(_FACTORS)
    terms *= _FACTORS[place]
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
    # Over all words in a row, then without the runs that go across the end of a text.
    total = np.zeros(len(words) - size + 1, np.uint64)
    for place in range(size):
        total += words[place : place + len(total)] * _FACTORS[place]
    if len(total) > found[-1]:
        starts = np.arange(found[-1]) - np.repeat(found[:-1] - offsets[:-1], runs)
        total = total[starts]
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


def stretches(hashes: Hashes, offsets: Offsets) -> Iterator[tuple[Hashes, Offsets, Offsets]]:
    """Hashes of texts in stretches of at most STRETCH, whatever the length of the texts.

    Args:
        hashes: uint64 (hashes,).
        offsets: int64 (texts + 1,).

    Yields:
        some: uint64 (stretch,).
        here: int64 (of the texts that have some of them,); their numbers.
        starts: int64 (of the same texts,); where theirs begin in the stretch.
    """
    for start in range(0, len(hashes), STRETCH):
        some = hashes[start : start + STRETCH]
        first = int(np.searchsorted(offsets, start, "right")) - 1
        last = int(np.searchsorted(offsets, start + len(some)))
        within = np.clip(offsets[first : last + 1], start, start + len(some)) - start
        here = np.flatnonzero(np.diff(within))
        yield some, here + first, within[here]
