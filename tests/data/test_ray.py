import numpy as np
import pytest

from graftwork.errors import RunError
from graftwork.spec.resources import Storage
from graftwork_train.connection import connected
from graftwork_train.data import ray
from graftwork_train.data.documents import Batch, Broken, Document
from graftwork_train.data.stream import Source, Stream

from .conftest import corpus_of, jsonl

# Ray Data's settings warn of themselves when they are made.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),
    pytest.mark.filterwarnings("ignore::UserWarning:ray.data.context"),
]


@pytest.fixture(scope="module")
def pool():
    """One Ray for all tests here."""
    with connected(2):
        yield


def test_a_batch_survives_the_way_to_a_worker():
    documents = (Document("a:1", "täxt", "d", {"k": "v"}), Document("a:2", "b", "e", {}))
    batch = Batch("web", documents, (Broken("not_json", "a:3", "why", "line"),))
    assert list(ray.from_table(ray.to_table(batch))) == [batch]
    assert next(ray.from_table(ray.to_table(batch))).digest == batch.digest


def test_blocks_of_two_corpora_come_apart():
    one = Batch("one", (Document("a", "x", "d", {}),))
    two = Batch("two", (Document("b", "y", "d", {}),))
    joined = ray.pa.concat_tables([ray.to_table(one), ray.to_table(two)])
    assert list(ray.from_table(joined)) == [one, two]


def test_arrays_survive_the_way_back():
    arrays = {"ids": np.arange(5, dtype=np.uint32), "domains": np.array(["a", "bc"])}
    found = ray.unpack(ray.pack(arrays))
    assert list(found) == ["ids", "domains"]
    assert all((found[key] == arrays[key]).all() for key in arrays)
    assert found["ids"].dtype == np.uint32


@pytest.mark.slow
def test_two_workers_make_what_one_makes(pool, bench, tmp_path, monkeypatch):
    monkeypatch.setattr("graftwork_train.data.stream.KEPT_CHARACTERS", 0)
    generator = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        records = [
            {"text": " ".join(map(str, generator.integers(0, 99, 300))), "d": f"d{n % 3}"}
            for n in range(700)
        ]
        jsonl(tmp_path / "web" / f"{name}.jsonl", ["{broken", *records])
    web = corpus_of(source="jsonl", uri=str(tmp_path / "web"), domain_field="d", limit="1M")
    words = {"from": "web", "context": 64, "tokenizer": {"train": "bpe", "vocab": 300}}
    select = {"from": "web", "method": {"name": "minhash", "threshold": 0.1}}
    rules = {"name": "pretrainers_guide", "quality": 0.5, "good_domain": "d0"}
    judge = {"from": "web", "method": rules}
    for stage in ({"prepare": words}, {"select": select}, {"select": judge}):
        found = [bench(stage, workers=workers, web=web) for workers in (1, 2)]
        (one, first), (two, second) = found
        names = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
        for name in names:
            assert (one / name).read_bytes() == (two / name).read_bytes(), name
        assert first.metrics == second.metrics
        assert first.sources == second.sources
        assert (first.workers, second.workers) == (1, 2)


@pytest.mark.slow
def test_a_broken_corpus_fails_over_a_pool_as_it_does_here(pool, bench, tmp_path):
    path = jsonl(tmp_path / "a.jsonl", ["{broken"] * 5 + [{"text": "x"}] * 95)
    web = corpus_of(source="jsonl", uri=str(path))
    with pytest.raises(RunError, match="5 of 100 lines"):
        bench({"prepare": {"from": "web", "context": 64}}, workers=2, web=web)


class Refuse:
    """A function of a batch that a worker cannot do."""

    def __call__(self, batch):
        raise RunError("the storage refused", "Ask for access.")


@pytest.mark.slow
def test_what_a_worker_raises_for_the_user_arrives(pool, tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"text": "x"}])
    source = Source("web", corpus_of(source="jsonl", uri=str(path)))
    with (
        Stream([source], Storage(), workers=2) as stream,
        pytest.raises(RunError, match="the storage refused"),
    ):
        list(stream.map(Refuse()))
