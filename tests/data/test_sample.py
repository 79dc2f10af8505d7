from graftwork.spec.resources import Storage
from graftwork_train.data.sample import sample_texts
from graftwork_train.data.stream import Source, Stream

from .conftest import corpus_of, jsonl


def sample(path, records, size):
    jsonl(path, records)
    corpus = corpus_of(source="jsonl", uri=str(path), domain_field="d")
    return sample_texts(Stream([Source("c", corpus)], Storage()), size)


RECORDS = [
    {"text": f"{n:07d}" + "x" * 93, "d": "large" if n % 10 else "small"} for n in range(3000)
]


def test_a_small_domain_gets_the_share_of_a_large_one(tmp_path):
    texts = sample(tmp_path / "a.jsonl", RECORDS, 20_000)
    small = sum(int(text[:7]) % 10 == 0 for text in texts)
    assert len(texts) == 200
    assert small == 100


def test_the_order_of_documents_does_not_matter(tmp_path):
    one = sample(tmp_path / "a.jsonl", RECORDS, 20_000)
    assert one == sample(tmp_path / "b.jsonl", RECORDS[::-1], 20_000)


def test_a_corpus_below_the_size_is_taken_whole(tmp_path):
    assert len(sample(tmp_path / "a.jsonl", RECORDS[:50], 10**6)) == 50


def test_one_long_text_is_cut_to_the_size(tmp_path):
    texts = sample(tmp_path / "a.jsonl", [{"text": "y" * 5000}], 1000)
    assert [len(text) for text in texts] == [1000]
