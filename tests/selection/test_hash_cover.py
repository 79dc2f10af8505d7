"""Less is More: the cover's properties on images and texts, in groups."""

import numpy as np
import pytest
from pydantic import ValidationError

from graftwork.spec.dedup import HashCover
from graftwork_train.data.scoring.bits import dhash, plain_image

from .conftest import reasons

GENERATOR = np.random.default_rng(5)


def image():
    """Smooth random pixels, so that shrinking keeps what there is to see."""
    coarse = GENERATOR.integers(20, 200, (8, 9)).astype(float)
    return np.kron(coarse, np.ones((8, 8)))


def pgm(pixels, comment=""):
    height, width = pixels.shape
    rows = "\n".join(" ".join(str(int(value)) for value in row) for row in pixels)
    return f"P2 {comment}\n{width} {height}\n255\n{rows}\n"


def slices(count=6, copies=10):
    """Each slice is followed by noisy copies of itself, which differ in some bits."""
    found = []
    for _ in range(count):
        base = image()
        for _ in range(copies):
            noise = np.kron(GENERATOR.normal(0, 8, (8, 9)), np.ones((8, 8)))
            found.append(np.clip(base + noise, 0, 255))
    return found


def kept(verdicts):
    return np.flatnonzero(verdicts.codes == 0)


def test_kept_hashes_are_apart_and_every_dropped_one_is_near_an_earlier_kept_one(judge):
    pixels = slices()
    hashes = [dhash(plain_image(pgm(one))) for one in pixels]
    for distance in (0, 6, 12):
        verdicts = judge([pgm(one) for one in pixels], name="hash_cover", hash="dhash",
                         distance=distance)  # fmt: skip
        chosen = kept(verdicts).tolist()
        for a in chosen:
            assert all((hashes[a] ^ hashes[b]).bit_count() > distance for b in chosen if b < a)
        for a in set(range(len(pixels))) - set(chosen):
            near = [(hashes[a] ^ hashes[b]).bit_count() for b in chosen if b < a]
            assert min(near) <= distance
            assert verdicts.scores[a] <= distance / 64
    assert len(kept(verdicts)) < len(pixels) / 2


def test_brighter_and_larger_copies_are_dropped_and_equal_images_leave_one(judge):
    base = image()
    texts = [
        pgm(base),
        pgm(base),
        pgm(base + 30),
        pgm(np.kron(base, np.ones((2, 2)))),
        pgm(image()),
    ]
    verdicts = judge(texts, name="hash_cover", hash="dhash")
    assert kept(verdicts).tolist() == [0, 4]
    assert judge([pgm(base)] * 7, name="hash_cover", hash="dhash", distance=0).codes.sum() == 6


def test_distance_zero_is_exact_deduplication_of_the_hashes(judge):
    texts = [pgm(one) for one in slices(4, 5)]
    verdicts = judge(texts, name="hash_cover", hash="dhash", distance=0)
    seen = set()
    for text, code in zip(texts, verdicts.codes, strict=True):
        own = dhash(plain_image(text))
        assert (own in seen) == bool(code)
        seen.add(own)


def test_the_cover_depends_on_the_order_and_on_nothing_else(judge):
    texts = [pgm(one) for one in slices(5, 4)]
    words = {"name": "hash_cover", "hash": "dhash"}
    assert (judge(texts, **words).codes == judge(texts, **words).codes).all()
    back = judge(texts[::-1], **words)
    assert kept(judge(texts, **words))[0] == 0
    assert kept(back)[0] == 0
    assert {texts[::-1][at] for at in kept(back)} != {
        texts[at] for at in kept(judge(texts, **words))
    }


def test_a_higher_distance_keeps_no_more(judge):
    texts = [pgm(one) for one in slices(8, 6)]
    counts = [
        len(kept(judge(texts, name="hash_cover", hash="dhash", distance=d)))
        for d in (0, 3, 6, 16, 64)
    ]
    assert counts == sorted(counts, reverse=True)
    assert (counts[0] > counts[2], counts[-1]) == (True, 1)


def test_groups_are_covered_for_themselves(judge):
    base = pgm(image())
    records = [{"t": base, "volume": volume} for volume in "aabba"]
    words = {"name": "hash_cover", "hash": "dhash"}
    assert kept(judge(records, **words, group_by="volume")).tolist() == [0, 2]
    assert kept(judge(records, **words)).tolist() == [0]


def test_texts_have_simhashes_and_domains_as_groups(judge):
    base = " ".join(f"w{n}" for n in GENERATOR.integers(0, 10**6, 300))
    texts = [(base, "a"), (base + " more", "a"), (base, "b"), ("quite another text", "a")]
    assert kept(judge(texts, name="hash_cover")).tolist() == [0, 2, 3]


def test_the_control_keeps_every_nth_of_a_group(judge):
    records = [{"t": pgm(image()), "volume": "ab"[n % 2]} for n in range(10)]
    verdicts = judge(records, name="hash_cover", hash="dhash", group_by="volume", every=3)
    assert kept(verdicts).tolist() == [0, 1, 6, 7]
    assert set(reasons(verdicts)) == {"kept", "between_the_nth"}


def test_what_is_no_image_has_its_reason(judge):
    texts = [pgm(image(), "# a comment"), "P2 2 2 255 1 2 3", "P5 1 1 255 a", "prose", "P2 0 0 255"]
    verdicts = judge(texts, name="hash_cover", hash="dhash")
    assert reasons(verdicts) == ["kept", *["not_an_image"] * 4]


def test_the_bits_say_where_it_grows_brighter_to_the_right():
    rising = np.tile(np.arange(18.0), (16, 1))
    assert dhash(rising) == 2**64 - 1
    assert dhash(rising[:, ::-1]) == 0
    assert dhash(np.full((40, 50), 7.0)) == 0


def test_the_control_has_no_distance():
    with pytest.raises(ValidationError, match="every is the control without hashes"):
        HashCover(name="hash_cover", every=3, distance=4)
