"""Prepares records in a format, and reads back what is a label."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from graftwork.spec.data import Corpus
from graftwork.spec.workflow import Stage
from graftwork.step import Step
from graftwork_train.data.shards import TokenShards
from graftwork_train.job import Artifact, Job, Outcome
from graftwork_train.loop.loader import collate
from graftwork_train.nn.loss import IGNORE
from graftwork_train.stages import prepare  # noqa: F401 - it registers
from graftwork_train.stages.base import perform

CORPUS: TypeAdapter[Any] = TypeAdapter(Corpus)
EOS = 256
Prepared = Callable[..., tuple[TokenShards, Outcome]]


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    """`prepared(records, format, metadata={...})`: bytes in rows of 64, packed by `best_fit`."""

    def make(
        records: list[dict[str, Any]],
        form: dict[str, Any] | None,
        *,
        corpus: dict[str, Any] | None = None,
        **words: Any,
    ) -> tuple[TokenShards, Outcome]:
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        out, scratch = root / "out", root / "scratch"
        out.mkdir(parents=True)
        scratch.mkdir()
        file = root / "web.jsonl"
        file.write_text("".join(json.dumps(record) + "\n" for record in records))
        known = {"source": "jsonl", "uri": str(file), **(corpus or {})}
        body = {"from": "web", "context": 64, "packing": "best_fit", "held_out": "10%", **words}
        stage = Stage.model_validate({"prepare": body | ({"format": form} if form else {})})
        step = Step(
            workflow="w", name="it", stage="it", seed=0, spec=stage,
            corpora={"web": CORPUS.validate_python(known)}, fingerprint="0" * 20,
        )  # fmt: skip
        job = Job(step=step, out=out, scratch=scratch, fetch=lambda at: Artifact(None, at))
        outcome = perform(step.spec.body, job)
        return TokenShards.open(out), outcome

    return make


def text(ids: Any) -> str:
    """Bytes as text, with `$` for the end of a document."""
    return "".join("$" if n == EOS else chr(n) for n in ids if n != IGNORE)


def labels(shards: TokenShards, *splits: str) -> list[str]:
    """Of each row, its labels as text."""
    return [
        text(collate([shards.read(split, domain, row)], document_mask=True).labels_BT[0].tolist())
        for split in splits or ("train", "held_out")
        for domain in shards.domains(split)
        for row in range(shards.sequences(split, domain))
    ]


def inputs(shards: TokenShards, *splits: str) -> list[str]:
    """Of each row, all its tokens as text, padding left out."""
    found = []
    for split in splits or ("train", "held_out"):
        for domain in shards.domains(split):
            for row in range(shards.sequences(split, domain)):
                one = shards.read(split, domain, row)
                found.append(text(one.tokens[one.documents >= 0].tolist()))
    return found
