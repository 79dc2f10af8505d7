import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graftwork.errors import RunError
from graftwork.spec.resources import Storage
from graftwork_train.data.corpora import documents
from graftwork_train.data.documents import Broken, Document

from .conftest import corpus_of, jsonl, texts_of

ROWS = {"text": [f"row {n}" for n in range(7)], "kind": ["a", "b", "a", "b", "a", "b", "a"]}


def huggingface(uri, **words):
    return corpus_of(source="huggingface", uri=str(uri), **words)


def test_a_saved_dataset_is_read_in_its_order(tmp_path):
    datasets.Dataset.from_dict(ROWS).save_to_disk(tmp_path / "d", num_shards=3)
    assert texts_of(huggingface(tmp_path / "d")) == ROWS["text"]


def test_a_saved_dataset_that_was_shuffled_is_read_as_shuffled(tmp_path):
    shuffled = datasets.Dataset.from_dict(ROWS).shuffle(seed=1)
    shuffled.save_to_disk(tmp_path / "d")
    assert texts_of(huggingface(tmp_path / "d")) == shuffled["text"][:]


def test_splits_of_a_saved_dictionary_are_kept_apart(tmp_path):
    one, two = datasets.Dataset.from_dict(ROWS), datasets.Dataset.from_dict({"text": ["t"]})
    datasets.DatasetDict({"train": one, "test": two}).save_to_disk(tmp_path / "d")
    assert texts_of(huggingface(tmp_path / "d")) == ROWS["text"]
    assert texts_of(huggingface(tmp_path / "d", split="test")) == ["t"]
    with pytest.raises(RunError, match=r"no split 'validation' .*; there is test, train"):
        texts_of(huggingface(tmp_path / "d", split="validation"))


def test_columns_give_domain_and_metadata(tmp_path):
    datasets.Dataset.from_dict(ROWS).save_to_disk(tmp_path / "d")
    corpus = huggingface(tmp_path / "d", domain_field="kind", metadata={"k": "kind"})
    first = next(iter(documents(corpus, "c", Storage())))
    assert isinstance(first, Document)
    assert (first.domain, first.metadata) == ("a", {"k": "a"})
    assert first.id.endswith(".arrow:1")


def test_a_cut_arrow_file_is_broken_after_its_last_whole_row(tmp_path):
    datasets.Dataset.from_dict({"text": ["x" * 100] * 5000}).save_to_disk(tmp_path / "d")
    (path,) = (tmp_path / "d").glob("*.arrow")
    path.write_bytes(path.read_bytes()[:-200_000])
    items = list(documents(huggingface(tmp_path / "d"), "c", Storage()))
    assert isinstance(items[-1], Broken)
    assert items[-1].level == "file"
    assert len(items) - 1 < 5000


def test_a_listed_file_that_is_missing_is_an_error(tmp_path):
    datasets.Dataset.from_dict(ROWS).save_to_disk(tmp_path / "d", num_shards=2)
    (tmp_path / "d" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(RunError, match=r"data-00001-of-00002\.arrow is missing"):
        texts_of(huggingface(tmp_path / "d"))


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_state_that_is_none_is_an_error(tmp_path, content):
    (tmp_path / "state.json").write_text(content)
    with pytest.raises(RunError, match=r"state\.json is not"):
        texts_of(huggingface(tmp_path))


def test_a_view_by_indices_is_refused_with_its_remedy(tmp_path):
    state = {"_data_files": [], "_indices_files": [{"filename": "indices.arrow"}]}
    (tmp_path / "state.json").write_text(json.dumps(state))
    with pytest.raises(RunError, match="flatten_indices"):
        texts_of(huggingface(tmp_path))


def test_a_clone_gives_its_files_of_the_split(tmp_path):
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "data/train-00000-of-00002.parquet")
    pq.write_table(pa.table({"text": ["b"]}), tmp_path / "data/train-00001-of-00002.parquet")
    pq.write_table(pa.table({"text": ["t"]}), tmp_path / "data/test-00000-of-00001.parquet")
    (tmp_path / "README.md").write_text("# a card")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/train.parquet").write_text("not data")
    assert texts_of(huggingface(tmp_path)) == ["a", "b"]
    assert texts_of(huggingface(tmp_path, split="test")) == ["t"]


def test_a_clone_without_named_splits_is_train(tmp_path):
    jsonl(tmp_path / "part1.jsonl.gz", [{"text": "x"}])
    (tmp_path / "dataset_infos.json").write_text("{}")
    assert texts_of(huggingface(tmp_path)) == ["x"]
    with pytest.raises(RunError, match=r"no split 'test'.*there is train"):
        texts_of(huggingface(tmp_path, split="test"))
