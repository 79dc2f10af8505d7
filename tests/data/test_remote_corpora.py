"""Corpora in a bucket give the documents that they give in a folder."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from graftwork.errors import RunError
from graftwork.store.remote import filesystem
from graftwork_train.data import files
from graftwork_train.data.corpora import documents
from graftwork_train.data.documents import Broken

from .conftest import corpus_of

TEXTS = ["one", "zwei \u00e4", "three\nlines\n", "x" * 3_000_000, "last"]


def jsonl():
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in TEXTS)


def parquet():
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": TEXTS}), sink)
    return sink.getvalue().to_pybytes()


FILES = {
    "a.jsonl": ("jsonl", jsonl),
    "a.jsonl.gz": ("jsonl", lambda: gzip.compress(jsonl())),
    "a.jsonl.zst": ("jsonl", lambda: zstandard.ZstdCompressor().compress(jsonl())),
    "a.parquet": ("parquet", parquet),
    "a.txt": ("text", lambda: TEXTS[3].encode()),
}


@pytest.fixture
def upload(bucket_storage):
    """Puts a file into the bucket; gives its folder's URL."""
    base = bucket_storage.root.replace("/runs", "/corpus")

    def put(name, data):
        filesystem(base, bucket_storage).pipe_file(f"{base}/deep/{name}", data)
        return base

    return put


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_gives_the_same_documents(name, upload, bucket_storage, tmp_path):
    source, make = FILES[name]
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / name).write_bytes(make())
    near = list(documents(corpus_of(source=source, uri=str(tmp_path)), "w", bucket_storage))
    url = upload(name, make())
    for uri in (url, f"{url}/deep/{name}", f"{url}/**/*{Path(name).suffix}"):
        far = list(documents(corpus_of(source=source, uri=uri), "w", bucket_storage))
        assert [item.text for item in far] == [item.text for item in near]
    assert len(near) == (1 if source == "text" else len(TEXTS))


def test_a_line_that_is_too_long_is_left_out_and_the_next_ones_are_read(
    upload, bucket_storage, monkeypatch
):
    monkeypatch.setattr(files, "LONGEST_LINE", 1000)
    corpus = corpus_of(source="jsonl", uri=upload("a.jsonl", jsonl()))
    found = list(documents(corpus, "w", bucket_storage))
    (broken,) = [item for item in found if isinstance(item, Broken)]
    assert broken.reason == "too_long"
    assert [item.text for item in found if item is not broken] == [*TEXTS[:3], "last"]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_a_file_that_is_cut_off_is_a_broken_file(name, upload, bucket_storage):
    data = FILES[name][1]()
    corpus = corpus_of(source="jsonl", uri=upload(name, data[: len(data) // 2]))
    found = list(documents(corpus, "w", bucket_storage))
    assert [item.level for item in found if isinstance(item, Broken)] == ["file"]


def test_a_bucket_that_is_not_there_is_named(bucket_storage):
    corpus = corpus_of(source="jsonl", uri="s3://no-such-bucket-here/web")
    with pytest.raises(RunError, match="no-such-bucket-here"):
        list(documents(corpus, "w", bucket_storage))
