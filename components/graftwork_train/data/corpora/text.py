"""Plain text: one document a file, plain or compressed; UTF-8, or UTF-16 with its mark."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from graftwork.spec.data import TextCorpus
from graftwork.spec.resources import Storage
from graftwork_train.data import files
from graftwork_train.data.corpora.base import Part, file_parts, parts, read
from graftwork_train.data.corpora.fields import faults
from graftwork_train.data.documents import Broken, Document, Item

# One document is held in memory; a file beyond this is a collection and belongs into JSONL.
LONGEST_TEXT = 256 * 2**20


@parts.register
def text_parts(corpus: TextCorpus, name: str, storage: Storage) -> list[Part]:
    """Every file is a piece."""
    return file_parts(name, corpus.uri, storage)


@read.register
def read_text(corpus: TextCorpus, part: Part, storage: Storage) -> Iterator[Item]:
    """The file's text, or why it has none."""
    wanted = LONGEST_TEXT if part.limit is None else min(LONGEST_TEXT, part.limit)
    try:
        with files.open_data(part.url, storage) as file:
            # Four bytes more than wanted, so that a cut through a character does no harm.
            data = file.read(wanted + 4)
    except files.DAMAGE as error:
        yield Broken("not_readable", part.url, str(error), "file")
        return
    cut = len(data) > wanted
    if cut and part.limit is None:
        yield Broken("too_long", part.url, f"a text of more than {LONGEST_TEXT:,} bytes", "file")
        return
    text = decode(data, cut)
    if text is None:
        yield Broken("not_utf8", part.url, "", "file")
        return
    fault = faults(text)
    if fault:
        yield Broken(fault, part.url, "", "file")
    else:
        yield Document(part.name, text, corpus.domain or part.corpus)


def decode(data: bytes, cut: bool = False) -> str | None:
    """Bytes as text by their byte-order mark, else as UTF-8; None where they are neither.

    Args:
        data: The bytes.
        cut: Whether they may end in the middle of a character, which is then left out.
    """
    encoding = "utf-8"
    if data.startswith(codecs.BOM_UTF8):
        encoding, data = "utf-8", data[len(codecs.BOM_UTF8) :]
    elif data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    try:
        return codecs.getincrementaldecoder(encoding)().decode(data, final=not cut)
    except UnicodeDecodeError:
        return None
