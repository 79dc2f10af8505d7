import pytest

from graftwork.errors import RunError
from graftwork.spec.resources import Storage
from graftwork_train.data.corpora import documents, stdlib
from graftwork_train.data.documents import Broken, Document

from .conftest import corpus_of


def read(**words):
    corpus = corpus_of(source="stdlib", **words)
    items = documents(corpus, "py", Storage())
    return [item for item in items if isinstance(item, Document)]


def test_prose_is_english_and_code_is_source():
    prose = read(domains=["prose"], limit=200_000)
    code = read(domains=["code"], limit=200_000)
    assert all(document.domain == "prose" for document in prose)
    assert any("statement" in document.text for document in prose)
    assert any("def " in document.text and "import " in document.text for document in code)
    assert len({document.id for document in prose + code}) == len(prose) + len(code)


def test_the_limit_holds_for_each_domain():
    found = read(domains=["prose", "code"], limit=50_000)
    for domain in ("prose", "code"):
        size = sum(len(d.text.encode()) for d in found if d.domain == domain)
        assert 49_990 < size <= 50_000


def test_two_reads_are_equal():
    assert read(limit=60_000) == read(limit=60_000)


def test_code_holds_no_tests_and_nothing_that_was_installed():
    found = read(domains=["code"], limit="2M")
    assert found
    for document in found:
        parts = document.metadata["path"].split("/")
        assert not {"test", "tests", "site-packages", "dist-packages"} & set(parts[:-1])


def test_docstrings_are_taken_where_they_are_sentences():
    source = '''
"""A module whose docstring has enough plain English words in it to count as prose here."""
class A:
    """Short."""
    def f(self):
        """Another docstring that is long enough to be English, with more than a dozen words."""
    def g(self):
        """0x00 0x01 0x02 0x03 0x04 0x05 0x06 0x07 0x08 0x09 0x0a 0x0b 0x0c 0x0d 0x0e"""
'''
    assert stdlib.docstrings(source).split("\n\n") == [
        "A module whose docstring has enough plain English words in it to count as prose here.",
        "Another docstring that is long enough to be English, with more than a dozen words.",
    ]


def test_a_library_without_sources_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(stdlib, "library", lambda: tmp_path)
    with pytest.raises(RunError, match="no source for 'code'"):
        read(domains=["code"])


def test_unreadable_sources_are_counted_and_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(stdlib, "library", lambda: tmp_path)
    (tmp_path / "good.py").write_text("x = 1\n")
    (tmp_path / "bad.py").write_bytes(b"# -*- coding: no-such-codec -*-\n\xff")
    items = list(documents(corpus_of(source="stdlib", domains=["code"]), "py", Storage()))
    assert [item.text for item in items if isinstance(item, Document)] == ["x = 1\n"]
    assert [item.reason for item in items if isinstance(item, Broken)] == ["not_readable"]
