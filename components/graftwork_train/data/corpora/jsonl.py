"""JSON lines, plain or compressed: one document a line."""

from __future__ import annotations

import json
from collections.abc import Iterator

from graftwork.spec.data import JsonlCorpus
from graftwork.spec.resources import Storage
from graftwork_train.data import files
from graftwork_train.data.corpora.base import Part, file_parts, parts, read
from graftwork_train.data.corpora.fields import Fields, to_document
from graftwork_train.data.documents import Broken, Item

_KINDS = (".jsonl", ".ndjson", ".json")
SUFFIXES = tuple(kind + packed for kind in _KINDS for packed in ("", ".gz", ".zst"))


@parts.register
def jsonl_parts(corpus: JsonlCorpus, name: str, storage: Storage) -> list[Part]:
    """Every file is a piece."""
    return file_parts(name, corpus.uri, storage, SUFFIXES)


@read.register
def read_jsonl(corpus: JsonlCorpus, part: Part, storage: Storage) -> Iterator[Item]:
    """The file's lines as documents; blank lines are passed over."""
    yield from read_lines(corpus, part, storage)


def read_lines(corpus: Fields, part: Part, storage: Storage) -> Iterator[Item]:
    """The lines of one file of JSON lines; `corpus` says which field is what."""
    number = 0
    try:
        with files.open_data(part.url, storage) as file:
            for number, line in enumerate(files.lines(file), start=1):
                if line is None or line.strip():
                    yield _parse(corpus, part, number, line)
    except files.DAMAGE as error:
        yield Broken("not_readable", part.url, f"after line {number}: {error}", "file")


def _parse(corpus: Fields, part: Part, number: int, line: bytes | None) -> Item:
    where = f"{part.url}:{number}"
    if line is None:
        return Broken("too_long", where, f"a line of more than {files.LONGEST_LINE:,} bytes")
    try:
        record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        return Broken("not_utf8", where, f"byte {error.start + 1} of the line is not UTF-8")
    except RecursionError:
        return Broken("not_json", where, "nested too deeply")
    except ValueError as error:
        return Broken("not_json", where, f"not JSON: {error}")
    if not isinstance(record, dict):
        return Broken("not_object", where, f"a {type(record).__name__}, not an object")
    item = to_document(corpus, record, f"{part.name}:{number}", part.corpus)
    if isinstance(item, Broken):
        return Broken(item.reason, where, item.detail)
    return item
