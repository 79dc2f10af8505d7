import bz2
import gzip
import json

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from graftwork.errors import RunError
from graftwork.spec.resources import Storage
from graftwork_train.data.corpora import documents
from graftwork_train.data.documents import Broken, Document
from graftwork_train.data.stream import Source, Stream

from .conftest import corpus_of, jsonl, texts_of


def read_all(corpus, name="web"):
    """Documents, tallies; raises what a stage would."""
    stream = Stream([Source(name, corpus)], Storage())
    found = [document for batch in stream.batches() for document in batch.documents]
    return found, stream.tallies[name]


def broken_in(corpus):
    return [item for item in documents(corpus, "c", Storage()) if isinstance(item, Broken)]


def test_text_files_are_one_document_each_in_the_order_of_their_names(tmp_path):
    for name, text in (("b.txt", "second"), ("a/x.txt", "first"), ("c.txt", "third")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found, _ = read_all(corpus_of(source="text", uri=str(tmp_path)))
    assert [(d.id, d.text, d.domain) for d in found] == [
        ("web/a/x.txt", "first", "web"),
        ("web/b.txt", "second", "web"),
        ("web/c.txt", "third", "web"),
    ]


def test_ids_do_not_change_when_the_corpus_moves(tmp_path, monkeypatch):
    folder = tmp_path / "here" / "deep"
    jsonl(folder / "x.jsonl", [{"text": "one"}, {"text": "two"}])
    monkeypatch.chdir(tmp_path)
    for uri in (str(folder), "here/deep", "./here//deep/*.jsonl", f"file://{folder}", "here/deep/"):
        found, _ = read_all(corpus_of(source="jsonl", uri=uri))
        assert [d.id for d in found] == ["web/x.jsonl:1", "web/x.jsonl:2"]


def test_files_of_several_uris_have_different_ids(tmp_path):
    for name in ("one", "two"):
        jsonl(tmp_path / name / "x.jsonl", [{"text": name}])
    corpus = corpus_of(source="jsonl", uri=[str(tmp_path / "two"), str(tmp_path / "one")])
    found, _ = read_all(corpus)
    assert [(d.id, d.text) for d in found] == [
        ("web/0/x.jsonl:1", "two"),
        ("web/1/x.jsonl:1", "one"),
    ]


@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
def test_jsonl_is_read_plain_and_compressed(tmp_path, packed):
    data = b'{"text": "one"}\n\n{"text": "zwei \xc3\xa4"}\n'
    if packed == ".gz":
        data = gzip.compress(data)
    if packed == ".zst":
        half = len(data) // 2
        pack = zstandard.ZstdCompressor().compress
        data = pack(data[:half]) + pack(data[half:])  # two frames, as parallel tools write
    (tmp_path / f"a.jsonl{packed}").write_bytes(data)
    assert texts_of(corpus_of(source="jsonl", uri=str(tmp_path))) == ["one", "zwei ä"]


def test_fields_give_domain_and_metadata(tmp_path):
    path = jsonl(
        tmp_path / "a.jsonl",
        [
            {"body": "x", "lang": "de", "url": "u1", "n": {"b": 1, "a": 2}},
            {"body": "y", "lang": None},
            {"body": "z", "lang": 7},
        ],
    )
    corpus = corpus_of(
        source="jsonl", uri=str(path), text="body", domain="web", domain_field="lang",
        metadata={"link": "url", "counts": "n"},
    )  # fmt: skip
    found, _ = read_all(corpus)
    assert [document.domain for document in found] == ["de", "web", "7"]
    assert found[0].metadata == {"link": "u1", "counts": '{"a": 2, "b": 1}'}
    assert found[1].metadata == {}


def test_every_kind_of_broken_line_has_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr("graftwork_train.data.files.LONGEST_LINE", 1000)
    lines = [
        b'{"text": "good"}',
        b'{"text": "cut',
        b'["a", "list"]',
        b'{"body": "other field", "id": 3}',
        b'{"text": 17}',
        b'{"text": ""}',
        b'{"text": "  \\n "}',
        b'{"text": "a\\u0000b"}',
        b'{"text": "\\ud800"}',
        b'{"text": "latin \xe9"}',
        b'{"text": "' + b"x" * 5000 + b'"}',
        b"",
        b"[" * 900,
        b'{"text": "good again"}',
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines))
    items = list(documents(corpus_of(source="jsonl", uri=str(tmp_path)), "c", Storage()))
    reasons = [item.reason if isinstance(item, Broken) else item.text for item in items]
    assert reasons == [
        "good", "not_json", "not_object", "no_text", "text_not_string", "empty", "empty", "nul",
        "not_unicode", "not_utf8", "too_long", "not_json", "good again",
    ]  # fmt: skip
    assert str(items[3]).endswith("a.jsonl:4: no field 'text'; the fields are body, id")
    assert items[-1].id == "c/a.jsonl:14"


def lines_with_broken(path, count, broken):
    step = count // broken
    return jsonl(
        path, ["{broken" if n % step == 5 else {"text": f"document {n}"} for n in range(count)]
    )


def test_half_a_percent_of_broken_lines_is_counted_and_not_fatal(tmp_path):
    path = lines_with_broken(tmp_path / "a.jsonl", 1000, 5)
    found, tally = read_all(corpus_of(source="jsonl", uri=str(path)))
    assert len(found) == 995
    assert dict(tally.broken) == {"not_json": 5}


def test_five_percent_of_broken_lines_are_fatal_and_the_first_are_named(tmp_path):
    path = lines_with_broken(tmp_path / "a.jsonl", 1000, 50)
    with pytest.raises(RunError) as caught:
        read_all(corpus_of(source="jsonl", uri=str(path)))
    assert "corpus web: 50 of 1,000 lines" in caught.value.what
    assert "broken (5.0%; broken_limit is 1.0%)" in caught.value.what
    assert f"{path}:6: not JSON" in caught.value.what
    assert "broken_limit" in caught.value.remedy


def test_a_raised_limit_lets_them_pass(tmp_path):
    path = lines_with_broken(tmp_path / "a.jsonl", 1000, 50)
    found, _ = read_all(corpus_of(source="jsonl", uri=str(path), broken_limit="10%"))
    assert len(found) == 950


def test_empty_texts_do_not_count_as_broken_lines(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"text": ""}] * 9 + [{"text": "one"}])
    found, tally = read_all(corpus_of(source="jsonl", uri=str(path)))
    assert len(found) == 1
    assert tally.broken["empty"] == 9


def test_a_mostly_broken_corpus_fails_before_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr("graftwork_train.data.documents.SURE_AFTER", 1000)
    path = jsonl(tmp_path / "a.jsonl", [{"content": "x"}] * 5000)
    with pytest.raises(RunError, match=r"of 1,024 lines .*"):
        read_all(corpus_of(source="jsonl", uri=str(path)))


def test_one_corrupt_gz_of_two_is_fatal_as_half_of_the_files(tmp_path):
    jsonl(tmp_path / "a.jsonl.gz", [{"text": "x" * 50}] * 2000)
    whole = jsonl(tmp_path / "b.jsonl.gz", [{"text": f"{n}"} for n in range(2000)]).read_bytes()
    (tmp_path / "b.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    corpus = corpus_of(source="jsonl", uri=str(tmp_path))
    with pytest.raises(RunError, match=r"1 of 2 files .* are broken \(50\.0%"):
        read_all(corpus)
    (broken,) = broken_in(corpus)
    assert (broken.reason, broken.level) == ("not_readable", "file")
    found, _ = read_all(corpus_of(source="jsonl", uri=str(tmp_path), broken_limit=0.5))
    assert 2000 < len(found) < 4000  # what came before the damage is kept


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def test_a_file_that_is_not_what_its_name_says_is_a_broken_file(tmp_path, name):
    (tmp_path / name).write_bytes(bz2.compress(b"something else" * 100))
    corpus = corpus_of(source="parquet" if "parquet" in name else "jsonl", uri=str(tmp_path))
    assert [item.reason for item in broken_in(corpus)] == ["not_readable"]


def test_a_truncated_zst_is_a_broken_file(tmp_path):
    data = zstandard.ZstdCompressor().compress(
        b"".join(b'{"text": "%d"}\n' % n for n in range(50_000))
    )
    (tmp_path / "a.jsonl.zst").write_bytes(data[: len(data) // 2])
    (broken,) = broken_in(corpus_of(source="jsonl", uri=str(tmp_path)))
    assert "ends in the middle" in str(broken)


def table(count=10, **columns):
    return pa.table({"text": [f"row {n}" for n in range(count)], **columns})


def test_parquet_rows_are_documents(tmp_path):
    pq.write_table(table(lang=["a", "b"] * 5, n=list(range(10))), tmp_path / "x.parquet")
    corpus = corpus_of(
        source="parquet", uri=str(tmp_path / "*.parquet"), domain_field="lang", metadata={"k": "n"}
    )
    found, _ = read_all(corpus)
    assert [d.id for d in found] == [f"web/x.parquet:{n}" for n in range(1, 11)]
    assert found[1] == Document("web/x.parquet:2", "row 1", "b", {"k": "1"})


def test_a_truncated_parquet_is_named_with_its_reason(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(table(1000), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RunError, match=r"1 of 1 files .*\n.*not_readable 1\n.*x\.parquet"):
        read_all(corpus_of(source="parquet", uri=str(path)))


def test_damage_inside_a_parquet_keeps_the_rows_before_it(tmp_path):
    path = tmp_path / "x.parquet"
    options = {"row_group_size": 500, "compression": "zstd", "use_dictionary": False}
    pq.write_table(table(2000), path, **options)
    data = bytearray(path.read_bytes())
    middle = pq.ParquetFile(path).metadata.row_group(2).column(0).data_page_offset
    data[middle : middle + 400] = b"\xff" * 400
    path.write_bytes(data)
    items = list(documents(corpus_of(source="parquet", uri=str(path)), "c", Storage()))
    assert [item.reason for item in items if isinstance(item, Broken)] == ["not_readable"]
    assert 500 <= len(items) - 1 <= 1000


def test_a_missing_column_is_told_with_the_columns_that_are_there(tmp_path):
    pq.write_table(pa.table({"body": ["x"], "url": ["y"]}), tmp_path / "x.parquet")
    with pytest.raises(RunError, match="no column text; the columns are body, url"):
        read_all(corpus_of(source="parquet", uri=str(tmp_path)))


def test_null_and_numeric_texts_are_broken_rows(tmp_path):
    pq.write_table(pa.table({"text": ["a", None, "b"]}), tmp_path / "x.parquet")
    assert [b.reason for b in broken_in(corpus_of(source="parquet", uri=str(tmp_path)))] == [
        "null_text"
    ]
    pq.write_table(pa.table({"text": [1.5, 2.5]}), tmp_path / "x.parquet")
    assert [b.reason for b in broken_in(corpus_of(source="parquet", uri=str(tmp_path)))] == [
        "text_not_string"
    ] * 2


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("grüße".encode(), "grüße"),
        (b"\xef\xbb\xbfbom", "bom"),
        ("grüße".encode("utf-16"), "grüße"),
        ("grüße".encode("latin-1"), "not_utf8"),
        (b"MZ\0\0\0binary", "nul"),
        (b"", "empty"),
        (b" \n\t", "empty"),
    ],
)
def test_texts_by_their_encoding(tmp_path, data, expected):
    (tmp_path / "a.txt").write_bytes(data)
    (item,) = documents(corpus_of(source="text", uri=str(tmp_path)), "c", Storage())
    assert (item.text if isinstance(item, Document) else item.reason) == expected


def test_a_text_of_one_line_of_megabytes_is_one_document(tmp_path):
    (tmp_path / "a.txt").write_text("x" * 3_000_000)
    assert [len(text) for text in texts_of(corpus_of(source="text", uri=str(tmp_path)))] == [
        3 * 10**6
    ]


def test_a_text_too_long_for_one_document_is_refused_unless_a_limit_cuts_it(tmp_path, monkeypatch):
    monkeypatch.setattr("graftwork_train.data.corpora.text.LONGEST_TEXT", 100)
    (tmp_path / "a.txt").write_text("x" * 101)
    assert [b.reason for b in broken_in(corpus_of(source="text", uri=str(tmp_path)))] == [
        "too_long"
    ]
    assert texts_of(corpus_of(source="text", uri=str(tmp_path), limit=40)) == ["x" * 40]


@pytest.mark.parametrize("source", ["text", "jsonl", "parquet", "huggingface"])
def test_a_uri_without_files_is_an_error_that_names_it(tmp_path, source):
    with pytest.raises(RunError, match=rf"corpus web: no file.* at {tmp_path}/none"):
        read_all(corpus_of(source=source, uri=f"{tmp_path}/none"))


@pytest.mark.parametrize("content", ["", "\n\n", '{"text": " "}\n'])
def test_a_corpus_without_a_document_is_an_error_that_names_its_uri(tmp_path, content):
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(RunError, match=rf"corpus web: no document in {tmp_path}"):
        read_all(corpus_of(source="jsonl", uri=str(tmp_path)))


def test_a_folder_gives_only_files_with_the_suffixes_of_its_source(tmp_path):
    jsonl(tmp_path / "a.jsonl", [{"text": "data"}])
    (tmp_path / "README.md").write_text("no JSON here")
    (tmp_path / "_SUCCESS").write_text("")
    assert texts_of(corpus_of(source="jsonl", uri=str(tmp_path))) == ["data"]


def test_a_limit_counts_bytes_of_text_over_all_files(tmp_path):
    for name in "abc":
        jsonl(tmp_path / f"{name}.jsonl", [{"text": name * 10}] * 10)
    corpus = corpus_of(source="jsonl", uri=str(tmp_path), limit=125)
    assert "".join(texts_of(corpus)) == "a" * 100 + "b" * 20
    (one_file,) = {len("".join(texts_of(corpus_of(
        source="jsonl", uri=str(tmp_path / "a.jsonl"), limit=55))))}  # fmt: skip
    assert one_file == 55


def test_a_limit_never_cuts_a_character_in_two(tmp_path):
    (tmp_path / "a.txt").write_text("ä" * 10)
    assert texts_of(corpus_of(source="text", uri=str(tmp_path), limit=5)) == ["ää"]


def test_a_corpus_that_changes_between_two_passes_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("graftwork_train.data.stream.KEPT_CHARACTERS", 0)
    path = jsonl(tmp_path / "a.jsonl", [{"text": "one"}])
    stream = Stream([Source("web", corpus_of(source="jsonl", uri=str(path)))], Storage())
    assert [batch.texts for batch in stream.batches()] == [["one"]]
    jsonl(path, [{"text": "other"}])
    with pytest.raises(RunError, match="changed while it was read"):
        list(stream.batches())


def test_a_small_corpus_is_read_once_however_many_passes(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"text": "one"}])
    stream = Stream([Source("web", corpus_of(source="jsonl", uri=str(path)))], Storage())
    first = list(stream.batches())
    path.unlink()
    assert list(stream.batches()) == first


def test_json_metadata_of_unicode_survives(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [json.dumps({"text": "t", "k": "é\ud800"})])
    (document,), _ = read_all(corpus_of(source="jsonl", uri=str(path), metadata={"k": "k"}))
    assert document.metadata == {"k": "é?"}


def test_a_corpus_behind_a_url_is_read_like_a_folder(tmp_path):
    store = fsspec.filesystem("memory")
    for name, text in (("a.jsonl", "one"), ("deep/b.jsonl", "two")):
        store.pipe_file(f"/corpus/{name}", json.dumps({"text": text}).encode())
    try:
        for uri in ("memory://corpus", "memory://corpus/**/*.jsonl"):
            found, _ = read_all(corpus_of(source="jsonl", uri=uri))
            assert [(d.id, d.text) for d in found] == [
                ("web/a.jsonl:1", "one"),
                ("web/deep/b.jsonl:1", "two"),
            ]
    finally:
        store.rm("/corpus", recursive=True)


def test_a_text_that_is_no_string_is_told_apart_from_a_missing_one(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"text": None}, {"text": 5}, {"text": []}])
    assert [item.detail for item in broken_in(corpus_of(source="jsonl", uri=str(path)))] == [
        "field 'text' is null",
        "field 'text' is a number, not a string",
        "field 'text' is a list, not a string",
    ]


def test_lines_without_the_field_are_answered_with_the_keys_that_name_fields(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"body": "x"}] * 4)
    with pytest.raises(RunError) as caught:
        read_all(corpus_of(source="jsonl", uri=str(path)))
    assert "'domain_field'" in caught.value.remedy


def test_an_error_about_files_shows_files_and_counts_all(tmp_path):
    jsonl(tmp_path / "web" / "a.jsonl", ["{broken"] * 9 + [{"text": "x"}] * 90)
    (tmp_path / "web" / "b.jsonl.gz").write_bytes(b"not compressed")
    with pytest.raises(RunError, match="1 of 2 files") as caught:
        read_all(corpus_of(source="jsonl", uri=str(tmp_path / "web"), broken_limit=0.2))
    assert "b.jsonl.gz: after line 0" in str(caught.value)
    assert "a.jsonl:1:" not in str(caught.value)
    assert "not_json 9, not_readable 1" in str(caught.value)


def test_examples_are_of_every_reason_before_a_second_one_of_any(tmp_path):
    lines = ["{broken"] * 9 + ["[]", {"text": 5}, {"other": "x"}] + [{"text": "x"}] * 9
    path = jsonl(tmp_path / "a.jsonl", lines)
    with pytest.raises(RunError, match="12 of 21 lines") as caught:
        read_all(corpus_of(source="jsonl", uri=str(path)))
    for number in (1, 2, 10, 11, 12):
        assert f"a.jsonl:{number}:" in str(caught.value)


def test_names_of_fields_of_any_length_and_kind_can_be_told(tmp_path):
    lines = ['{"\\ud800": 1}', {"k" * 100_000: 1}, *[{"text": "x"}] * 2]
    path = jsonl(tmp_path / "a.jsonl", lines)
    with pytest.raises(RunError, match="2 of 4 lines") as caught:
        read_all(corpus_of(source="jsonl", uri=str(path)))
    text = str(caught.value).encode()
    assert b"the fields are ?" in text
    assert len(text) < 2000
