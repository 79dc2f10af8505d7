"""Makes steps of the data stages out of a few words, and performs them in a folder."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import TypeAdapter

from graftwork.spec.data import Corpus
from graftwork.spec.resources import Pool, Storage
from graftwork.spec.workflow import Stage
from graftwork.step import Step
from graftwork_train.data.corpora import documents
from graftwork_train.data.documents import Document
from graftwork_train.job import Artifact, Job, Outcome
from graftwork_train.stages import prepare, select  # noqa: F401 - they register
from graftwork_train.stages.base import perform

CORPUS: TypeAdapter[Any] = TypeAdapter(Corpus)


def corpus_of(**words: Any) -> Any:
    return CORPUS.validate_python(words)


def texts_of(corpus: Any) -> list[str]:
    return [item.text for item in documents(corpus, "c", Storage()) if isinstance(item, Document)]


def jsonl(path: Path, records: list[Any]) -> Path:
    """Write records as JSON lines; a record that is a string is written as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [r if isinstance(r, str) else json.dumps(r) for r in records]
    data = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def _product(folder: Path) -> str:
    return "model" if (folder / "config.json").is_file() else "documents"


class Bench:
    """Performs steps in a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.count = 0

    def __call__(
        self,
        stage: dict[str, Any],
        workers: int = 1,
        inputs: Any = None,
        again: Path | None = None,
        **corpora: Any,
    ) -> tuple[Path, Outcome]:
        """Perform a stage; `again` is the scratch folder of an attempt that was killed."""
        self.count += 1
        out = self.root / f"out{self.count}"
        out.mkdir()
        inputs = inputs or {}
        step = Step(
            workflow="w",
            name="it",
            stage="it",
            seed=0,
            spec=Stage.model_validate(stage),
            inputs=tuple(
                {"role": role, "stage": "x", "seed": 0, "product": made, "fingerprint": "f"}
                for role, made in zip(inputs, map(_product, inputs.values()), strict=True)
            ),
            corpora=corpora,
            pool=Pool(workers=workers),
            fingerprint="0" * 20,
        )
        paths = list(inputs.values())
        scratch = again or self.root / f"scratch{self.count}"
        scratch.mkdir(exist_ok=True)
        record: Any = SimpleNamespace(content="c")
        job = Job(step=step, out=out, scratch=scratch, fetch=lambda at: Artifact(record, paths[at]))
        return out, perform(step.spec.body, job)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
