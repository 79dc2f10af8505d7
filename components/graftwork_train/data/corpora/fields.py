"""From one record (a JSON line or a row of a table) to a document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from graftwork_train.data.documents import Broken, Document, Item

_KINDS: dict[type, str] = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
    bytes: "binary data",
}


class Fields(Protocol):
    """What the words of corpora of records have in common."""

    @property
    def text(self) -> str:
        """Field that holds the text."""

    @property
    def domain(self) -> str | None:
        """Domain of every document."""

    @property
    def domain_field(self) -> str | None:
        """Field that holds the document's domain."""

    @property
    def metadata(self) -> dict[str, str]:
        """Further fields to keep, by the names to keep them under."""


def columns(corpus: Fields) -> list[str]:
    """Names of the fields that the corpus reads."""
    wanted = [corpus.text, corpus.domain_field, *corpus.metadata.values()]
    return list(dict.fromkeys(name for name in wanted if name is not None))


def to_document(corpus: Fields, record: Mapping[str, Any], name: str, default: str) -> Item:
    """The document in `record`, or what is wrong with it.

    Args:
        corpus: Says which field is what.
        record: Fields and their values.
        name: The document's id.
        default: Domain where the corpus names none.
    """
    text = record.get(corpus.text)
    if text is None and corpus.text in record:
        return Broken("null_text", name, f"field {corpus.text!r} is null")
    if text is None:
        present = ", ".join(sorted(str(key) for key in record)[:8]) or "none"
        return Broken("no_text", name, f"no field {corpus.text!r}; the fields are {present}")
    if isinstance(text, list) and getattr(corpus, "conversations", False):
        text = json.dumps(text, ensure_ascii=False)
    if not isinstance(text, str):
        kind = _KINDS.get(type(text), f"of type {type(text).__name__}")
        return Broken("text_not_string", name, f"field {corpus.text!r} is {kind}, not a string")
    fault = faults(text)
    if fault:
        return Broken(fault, name)
    domain = corpus.domain or default
    if corpus.domain_field is not None:
        value = record.get(corpus.domain_field)
        domain = _as_text(value) or domain
    kept = {
        key: _as_text(record[field])
        for key, field in corpus.metadata.items()
        if record.get(field) is not None
    }
    return Document(name, text, domain, kept)


def faults(text: str) -> str:
    """Reason why a text is no document: `empty`, `nul`, `not_unicode`, or nothing."""
    if not text or text.isspace():
        return "empty"
    if "\0" in text:
        return "nul"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "not_unicode"
    return ""


def _as_text(value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, default=str, sort_keys=True)
    return text.encode(errors="replace").decode()
