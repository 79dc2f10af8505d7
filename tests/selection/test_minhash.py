import numpy as np
import pytest
from pydantic import ValidationError

from graftwork_train.data.documents import Batch, Document
from graftwork_train.data.scoring import hashing
from graftwork_train.data.scoring.hashing import shingle_hashes, word_hashes
from graftwork_train.selection import minhash

from .conftest import reasons

GENERATOR = np.random.default_rng(0)


def words(count):
    return [f"w{n}" for n in GENERATOR.integers(0, 10**6, count)]


def changed(text, share):
    found = text.split()
    for at in GENERATOR.choice(len(found), round(share * len(found)), replace=False):
        found[at] = "changed"
    return " ".join(found)


def shingles(text, size=5):
    found = text.lower().split()
    return {tuple(found[at : at + size]) for at in range(max(1, len(found) - size + 1))}


def jaccard(one, two):
    return len(shingles(one) & shingles(two)) / len(shingles(one) | shingles(two))


def signatures(texts, size=2048):
    batch = Batch("c", tuple(Document(str(n), text, "d") for n, text in enumerate(texts)))
    return minhash._Sign(5, size)(batch)["signatures"]


def test_agreeing_values_estimate_the_jaccard_index():
    base = " ".join(words(400))
    for share in (0.0, 0.01, 0.03, 0.1, 0.3):
        other = changed(base, share)
        one, two = signatures([base, other])
        estimate, true = float((one == two).mean()), jaccard(base, other)
        spread = (true * (1 - true) / 2048) ** 0.5
        assert abs(estimate - true) <= 4 * spread + 1e-9


def test_a_signature_does_not_depend_on_the_other_documents():
    texts = [" ".join(words(count)) for count in (3, 50, 1, 400, 7)]
    together = signatures(texts, 32)
    alone = np.concatenate([signatures([text], 32) for text in texts])
    assert (together == alone).all()


@pytest.mark.parametrize("stretch", [1, 64, 1000])
def test_a_long_text_is_signed_by_stretches_without_a_difference(monkeypatch, stretch):
    texts = [" ".join(words(count)) for count in (700, 3, 0, 90, 1)]
    expected = signatures(texts, 32)
    monkeypatch.setattr(hashing, "STRETCH", stretch)
    assert (signatures(texts, 32) == expected).all()


@pytest.mark.parametrize("index", [0.5, 0.7, 0.9])
@pytest.mark.parametrize(("bands", "rows"), [(14, 8), (20, 4)])
def test_documents_become_candidates_as_often_as_bands_and_rows_say(index, bands, rows):
    pairs = 4000
    first = GENERATOR.integers(0, 2**32, (pairs, bands * rows), dtype=np.uint32)
    other = GENERATOR.integers(0, 2**32, first.shape, dtype=np.uint32)
    second = np.where(GENERATOR.random(first.shape) < index, first, other)
    keys, others = (minhash._band_keys(each, bands, rows) for each in (first, second))
    share = (keys == others).any(axis=1).mean()
    expected = 1 - (1 - index**rows) ** bands
    assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / pairs) ** 0.5)
    # The same values in another band are no agreement.
    assert not (keys[:, :1] == minhash._band_keys(first, bands, rows)[:, 1:]).any()


def test_every_shingle_of_a_long_text_is_permuted_once_and_few_at_a_time(monkeypatch):
    sizes = []

    def watched(*hashes_of_texts):
        for stretch in hashing.stretches(*hashes_of_texts):
            sizes.append(len(stretch[0]))
            yield stretch

    monkeypatch.setattr(minhash, "stretches", watched)
    signatures(["a " * 200_000], 8)
    assert sum(sizes) == 200_000 - 5 + 1
    assert max(sizes) <= hashing.STRETCH


def test_near_duplicates_are_dropped_and_the_first_is_kept(judge):
    base = " ".join(words(400))
    texts = [base, " ".join(words(400)), changed(base, 0.01), base.upper(), " ".join(words(400))]
    verdicts = judge(texts, name="minhash")
    assert reasons(verdicts) == ["kept", "kept", "near_duplicate", "near_duplicate", "kept"]
    assert verdicts.scores[3] == 0


def test_likeness_below_the_threshold_is_kept(judge):
    base = " ".join(words(400))
    other = changed(base, 0.04)
    assert 0.5 < jaccard(base, other) < 0.85
    for threshold, reason in ((0.95, "kept"), (0.4, "near_duplicate")):
        verdicts = judge([base, other], name="minhash", bands=40, rows=3, threshold=threshold)
        assert reasons(verdicts)[1] == reason


def test_a_higher_threshold_drops_no_more(judge):
    base = " ".join(words(200))
    texts = [changed(base, share) for share in np.linspace(0, 0.2, 40)]
    kept = [
        set(np.flatnonzero(judge(texts, name="minhash", threshold=t).codes == 0).tolist())
        for t in (0.5, 0.7, 0.9)
    ]
    assert len(kept[0]) <= len(kept[1]) <= len(kept[2])
    assert len(kept[0]) < len(kept[2])


def test_a_chain_of_likeness_does_not_drop_what_is_unlike_all_that_is_kept(judge):
    chain = [" ".join(words(300))]
    for _ in range(12):
        chain.append(changed(chain[-1], 0.015))
    verdicts = judge(chain, name="minhash", threshold=0.7, bands=40, rows=3)
    kept = [text for text, code in zip(chain, verdicts.codes, strict=True) if code == 0]
    assert len(kept) > 1
    for text, code in zip(chain, verdicts.codes, strict=True):
        if code:
            assert max(jaccard(text, other) for other in kept) > 0.55


@pytest.mark.parametrize("text", ["one", "one two three", "x\u00a0y"])
def test_texts_shorter_than_a_shingle_are_compared_whole(judge, text):
    assert reasons(judge([text, f"{text} ", "two"], name="minhash")) == [
        "kept", "near_duplicate", "kept",
    ]  # fmt: skip


def test_shingles_are_as_many_as_their_definition_says():
    texts = [" ".join(words(count)) for count in (1, 4, 5, 6, 100)]
    hashes, offsets = shingle_hashes(*word_hashes(texts), 5)
    for text, start, stop in zip(texts, offsets, offsets[1:], strict=False):
        assert len(set(hashes[start:stop].tolist())) == len(shingles(text))


@pytest.mark.parametrize("name", ["minhash", "embedding_dedup"])
def test_a_threshold_of_nothing_is_refused(judge, name):
    with pytest.raises(ValidationError, match="0% makes duplicates of all documents"):
        judge(["a text"], name=name, threshold=0)
