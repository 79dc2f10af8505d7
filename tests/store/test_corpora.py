import pytest

from graftwork.errors import RunError
from graftwork.spec.data import JsonlCorpus, StdlibCorpus
from graftwork.spec.resources import Storage
from graftwork.store import corpora, corpus_digest, find, has_changed, open_file

STORAGE = Storage()


@pytest.fixture
def folder(tmp_path):
    data = tmp_path / "data"
    for name in ("b.jsonl", "a.jsonl", "deep/c.jsonl", "_SUCCESS", ".hidden", "deep/_tmp/d.jsonl"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text(f'{{"text": "{name}"}}\n')
    return data


def names(found, folder):
    return [info.url.removeprefix(f"{folder}/") for info in found]


def test_a_folder_stands_for_its_files_without_the_markers_of_tools(folder):
    assert names(find(str(folder), STORAGE), folder) == ["a.jsonl", "b.jsonl", "deep/c.jsonl"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jsonl", ["a.jsonl", "b.jsonl"]),
        ("**/*.jsonl", ["a.jsonl", "b.jsonl", "deep/c.jsonl"]),
        ("deep/c.jsonl", ["deep/c.jsonl"]),
        ("none-*", []),
    ],
)
def test_patterns_and_names_find_files_in_order(folder, pattern, expected):
    assert names(find(f"{folder}/{pattern}", STORAGE), folder) == expected


def test_find_tells_sizes(folder):
    (info,) = find(f"{folder}/a.jsonl", STORAGE)
    assert info.bytes == (folder / "a.jsonl").stat().st_size


def test_a_file_is_opened_in_the_mode_that_is_asked_for(folder):
    with open_file(f"{folder}/a.jsonl", "rt") as file:
        assert file.read() == '{"text": "a.jsonl"}\n'
    with pytest.raises(RunError, match="no such file"):
        open_file(f"{folder}/none.jsonl")


def digest(uri):
    return corpus_digest(JsonlCorpus(source="jsonl", uri=str(uri)), STORAGE)


def test_the_digest_follows_content_and_names_but_not_the_place_or_the_time(folder, tmp_path):
    before = digest(folder)
    moved = folder.rename(tmp_path / "elsewhere")
    (moved / "a.jsonl").touch()
    assert digest(moved) == before
    (moved / "a.jsonl").write_text('{"text": "A.jsonl"}\n')
    changed = digest(moved)
    assert changed != before
    (moved / "a.jsonl").rename(moved / "z.jsonl")
    assert digest(moved) not in (before, changed)


def test_large_corpora_are_told_apart_by_size_and_time(folder, monkeypatch):
    monkeypatch.setattr(corpora, "HASHED_BYTES", 10)
    monkeypatch.setattr(corpora, "open", None, raising=False)
    before = digest(folder)
    assert digest(folder) == before
    (folder / "a.jsonl").touch()
    assert digest(folder) != before


def test_only_local_files_have_a_digest():
    assert digest("s3://bucket/web/*.jsonl") is None
    assert corpus_digest(StdlibCorpus(source="stdlib"), STORAGE) is None


def test_a_corpus_without_files_is_an_error_that_says_where(tmp_path):
    with pytest.raises(RunError, match="no file matches") as caught:
        digest(tmp_path / "none-*")
    assert "current folder" in caught.value.remedy


def test_files_that_have_changed_since_are_noticed_by_content_alone(folder, monkeypatch):
    corpus = JsonlCorpus(source="jsonl", uri=str(folder))
    before = digest(folder)
    (folder / "a.jsonl").touch()
    assert not has_changed(corpus, before, STORAGE)
    (folder / "a.jsonl").write_text('{"text": "other"}\n')
    assert has_changed(corpus, before, STORAGE)
    monkeypatch.setattr(corpora, "HASHED_BYTES", 10)
    assert not has_changed(corpus, before, STORAGE)
