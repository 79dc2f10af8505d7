"""SimHash: near for near texts, far for others; the cover is the definition's."""

import numpy as np
import pytest

from graftwork_train.data.scoring import hashing
from graftwork_train.data.scoring.bits import cover, simhashes

from .conftest import reasons

GENERATOR = np.random.default_rng(3)


def words(count):
    return [f"w{n}" for n in GENERATOR.integers(0, 10**6, count)]


def changed(text, count):
    found = text.split()
    for at in GENERATOR.choice(len(found), count, replace=False):
        found[at] = "changed"
    return " ".join(found)


def greedy(hashes, distance):
    """The cover by its definition."""
    kept, found = [], []
    for place, one in enumerate(hashes.tolist()):
        near = [other for other in kept if (hashes.tolist()[other] ^ one).bit_count() <= distance]
        if not near:
            kept.append(place)
        found.append(near[0] if near else place)
    return found


@pytest.mark.parametrize("distance", [0, 1, 3, 4, 6, 20])
def test_the_cover_is_that_of_its_definition(distance):
    centres = GENERATOR.integers(0, 2**64, 12, dtype=np.uint64)
    hashes = GENERATOR.choice(centres, 200)
    for _ in range(5):
        hashes ^= np.uint64(1) << GENERATOR.integers(0, 64, 200).astype(np.uint64)
    assert cover(hashes, distance).tolist() == greedy(hashes, distance)


def test_each_bit_is_the_majority_over_the_features():
    (whole,) = simhashes(["a a a b c"], 1)
    (one,) = simhashes(["a"], 1)
    assert whole == one  # three of five occurrences decide every bit
    assert simhashes(["", "  "], 1).tolist() == [0, 0]


def test_the_angle_of_the_counts_shows_in_the_bits():
    base = " ".join(words(400))
    one, near, other = simhashes([base, changed(base, 4), " ".join(words(400))], 2)
    assert int(one ^ near).bit_count() <= 8
    assert 16 <= int(one ^ other).bit_count() <= 48


@pytest.mark.parametrize("shared", [50, 100, 180])
def test_bits_differ_by_the_angle_between_the_counts_of_features(shared):
    apart = []
    for _ in range(60):
        common = words(shared)
        one, two = simhashes([" ".join(common + words(200 - shared)) for _ in range(2)], 1)
        apart.append(int(one ^ two).bit_count())
    angle = np.arccos(shared / 200)
    assert np.mean(apart) == pytest.approx(64 * angle / np.pi, abs=1.5)


def test_near_duplicates_are_dropped_and_the_first_is_kept(judge):
    base = " ".join(words(600))
    texts = [base, " ".join(words(600)), base.upper(), changed(base, 1), " ".join(words(600))]
    verdicts = judge(texts, name="simhash", distance=6)
    assert reasons(verdicts) == ["kept", "kept", "near_duplicate", "near_duplicate", "kept"]
    assert verdicts.scores[[0, 1, 4]].tolist() == [1, 1, 1]
    assert verdicts.scores[2] == 0
    assert 0 <= verdicts.scores[3] <= 6 / 64


def test_a_hash_does_not_depend_on_the_other_documents():
    texts = [" ".join(words(count)) for count in (3, 50, 1, 400, 7)]
    together = simhashes([*texts, ""], 2).tolist()
    assert together == [int(simhashes([text], 2)[0]) for text in [*texts, ""]]


@pytest.mark.parametrize("stretch", [1, 64, 1000])
def test_a_long_text_is_hashed_by_stretches_without_a_difference(monkeypatch, stretch):
    texts = [" ".join(words(count)) for count in (700, 3, 0, 90, 1)]
    expected = simhashes(texts, 2).tolist()
    monkeypatch.setattr(hashing, "STRETCH", stretch)
    assert simhashes(texts, 2).tolist() == expected
