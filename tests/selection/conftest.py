"""Runs a method over documents that are made in the test."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from graftwork.spec.data import Corpus
from graftwork.spec.resources import Storage
from graftwork.spec.selection import Selection
from graftwork_train.data.stream import Source, Stream
from graftwork_train.selection.base import Context, Verdicts, select

METHOD: TypeAdapter[Any] = TypeAdapter(Selection)
CORPUS: TypeAdapter[Any] = TypeAdapter(Corpus)

Judge = Callable[..., Verdicts]


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """Judges texts, (text, domain) pairs or records with metadata, by a method given in words.

    `others` are the documents of the corpora that the method's fields name.
    """

    def stream_of(texts: list[Any], name: str) -> Stream:
        path = tmp_path / f"{name}.jsonl"
        with path.open("w") as file:
            for text in texts:
                file.write(json.dumps({"d": "d", **_record(text)}) + "\n")
        kept = {"when": "when", "volume": "volume", "score": "score"}
        words = {"source": "jsonl", "uri": str(path), "text": "t", "domain_field": "d"}
        corpus = CORPUS.validate_python(words | {"metadata": kept, "broken_limit": 1.0})
        return Stream([Source(name, corpus)], Storage())

    def run(
        texts: list[Any],
        folders: list[Path] | None = None,
        others: dict[str, list[Any]] | None = None,
        **words: Any,
    ) -> Verdicts:
        context = Context(
            seed=0,
            cores=1,
            gpu=False,
            model=lambda number: (folders or [])[number],
            folder=lambda field: (folders or [])[0],
            opened=lambda field: stream_of((others or {})[field], field),
            progress=lambda done, total, unit: None,
        )
        importlib.import_module(f"graftwork_train.selection.{words['name']}")
        method = METHOD.validate_python(words | {key: ["named"] for key in others or ()})
        return select(method, stream_of(texts, "c"), context)

    return run


def reasons(verdicts: Verdicts) -> list[str]:
    return [verdicts.reasons[code] for code in verdicts.codes.tolist()]


def _record(text: Any) -> dict[str, Any]:
    if isinstance(text, dict):
        return text
    return dict(zip("td", text if isinstance(text, tuple) else (text, "d"), strict=True))
