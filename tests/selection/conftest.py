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
    """Judges texts, or (text, domain) pairs, by a method given in words."""

    def run(texts: list[Any], folders: list[Path] | None = None, **words: Any) -> Verdicts:
        pairs = [text if isinstance(text, tuple) else (text, "d") for text in texts]
        path = tmp_path / "texts.jsonl"
        path.write_text("".join(json.dumps({"text": t, "d": d}) + "\n" for t, d in pairs))
        words_of_corpus = {"source": "jsonl", "uri": str(path), "domain_field": "d"}
        stream = Stream([Source("c", CORPUS.validate_python(words_of_corpus))], Storage())
        context = Context(
            seed=0,
            cores=1,
            gpu=False,
            model=lambda number: (folders or [])[number],
            progress=lambda done, total, unit: None,
        )
        importlib.import_module(f"graftwork_train.selection.{words['name']}")
        return select(METHOD.validate_python(words), stream, context)

    return run


def reasons(verdicts: Verdicts) -> list[str]:
    return [verdicts.reasons[code] for code in verdicts.codes.tolist()]
