"""Embedding deduplication: cosines by blocks are the definition's; both kinds of embeddings."""

import numpy as np
import pytest

from graftwork.spec.data import ByteTokenizer
from graftwork.spec.model import Architecture
from graftwork_train.data.scoring.embedding import Hashed, Pooled, clustered, unit
from graftwork_train.data.tokenizer import Makings, build
from graftwork_train.nn import Decoder, save_model
from graftwork_train.selection import embedding_dedup

from .conftest import reasons

GENERATOR = np.random.default_rng(7)


def words(count):
    return [f"w{n}" for n in GENERATOR.integers(0, 10**6, count)]


def changed(text, share):
    found = text.split()
    for at in GENERATOR.choice(len(found), round(share * len(found)), replace=False):
        found[at] = "changed"
    return " ".join(found)


def test_blocks_do_not_show_in_the_result(monkeypatch):
    centres = GENERATOR.normal(size=(9, 16))
    vectors = unit(centres[GENERATOR.integers(0, 9, 120)] + 0.3 * GENERATOR.normal(size=(120, 16)))
    expected, kept = [], []
    for one in vectors:
        best = max((float(one @ other) for other in kept), default=0.0)
        expected.append(max(best, 0.0))
        if best < 0.9:
            kept.append(one)
    for size in (1, 7, 1000):
        monkeypatch.setattr(embedding_dedup, "BLOCK", size)
        found = embedding_dedup._likeness(vectors, 0.9)
        assert found == pytest.approx(np.array(expected), abs=1e-5)


def test_near_duplicates_are_dropped_and_the_first_is_kept(judge):
    base = " ".join(words(300))
    texts = [base, " ".join(words(300)), changed(base, 0.01), base.upper(), " ".join(words(300))]
    verdicts = judge(texts, name="embedding_dedup", threshold=0.9)
    assert reasons(verdicts) == ["kept", "kept", "near_duplicate", "near_duplicate", "kept"]
    assert verdicts.scores[3] == pytest.approx(0, abs=1e-5)


def test_equal_texts_are_duplicates_at_any_threshold_and_empty_ones_are_not(judge):
    verdicts = judge(["one two", "one two", "...", "—"], name="embedding_dedup", threshold=1.0)
    assert reasons(verdicts)[:2] == ["kept", "near_duplicate"]


def test_a_higher_threshold_drops_no_more(judge):
    base = " ".join(words(200))
    texts = [changed(base, share) for share in np.linspace(0, 0.3, 30)]
    counts = [
        int((judge(texts, name="embedding_dedup", threshold=t).codes == 0).sum())
        for t in (0.5, 0.8, 0.95)
    ]
    assert counts[0] <= counts[1] <= counts[2]
    assert counts[0] < counts[2]


def test_clusters_keep_equal_documents_together(judge):
    groups = [" ".join(words(120)) for _ in range(8)]
    texts = [groups[n % 8] for n in range(64)]
    whole = judge(texts, name="embedding_dedup", clusters=1)
    parts = judge(texts, name="embedding_dedup", clusters=4)
    assert (whole.codes == parts.codes).all()
    assert parts.metrics["clusters"] == 4
    vectors = Hashed(64)(texts)
    assert len(set(clustered(vectors, 4)[:8].tolist())) > 1


def test_hashed_inner_products_estimate_those_of_the_words():
    base = words(400)
    half = " ".join(base[:200] + words(200))
    one, other, far = Hashed(4096, word_ngrams=1)([" ".join(base), half, " ".join(words(400))])
    assert float(one @ other) == pytest.approx(0.5, abs=0.08)
    assert abs(float(one @ far)) < 0.08


def test_an_embedding_does_not_depend_on_the_other_documents():
    texts = [" ".join(words(count)) for count in (3, 50, 1, 400)] + [""]
    together = Hashed(64)(texts)
    assert (together == np.concatenate([Hashed(64)([text]) for text in texts])).all()
    assert not together[-1].any()


@pytest.fixture
def folder(tmp_path):
    encoder = build(ByteTokenizer(name="bytes"), Makings(stream=None, storage=None))
    save_model(Decoder(Architecture(layers=1, width=32, heads=2), 320, 64, seed=0), tmp_path)
    encoder.save(tmp_path, 64)
    return tmp_path


def test_a_model_embeds_by_its_mean_last_state(judge, folder):
    embed = Pooled.load(folder, "cpu")
    (vector,) = embed(["hello"])
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    texts = ["hello there", "something else, at length", "hello there"]
    words_ = {"name": "embedding_dedup", "threshold": 0.99, "model": "m"}
    verdicts = judge(texts, folders=[folder], **words_)
    assert reasons(verdicts) == ["kept", "kept", "near_duplicate"]
    each = Architecture(layers=1, width=32, heads=2).flops_per_token(320, 64)
    assert verdicts.metrics["scoring_flops"] == pytest.approx(sum(map(len, texts)) * each / 3)
