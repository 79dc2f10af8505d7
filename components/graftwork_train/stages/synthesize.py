"""The stage `synthesize`: documents that a method makes, with the provenance of each."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import xxhash

from graftwork.errors import RunError
from graftwork.spec.base import identity
from graftwork.spec.synthesis import Synthesize
from graftwork_train.data.documents import Batch, Document, broken_metrics
from graftwork_train.data.stream import Stream, sources_of
from graftwork_train.data.written import DocumentsWriter
from graftwork_train.job import SUMMARY, Job, Outcome
from graftwork_train.stages.base import perform
from graftwork_train.synthesis._answers import Answers
from graftwork_train.synthesis._asking import Clerk, Limits
from graftwork_train.synthesis._text import tokens
from graftwork_train.synthesis.base import Desk, synthesize
from graftwork_train.synthesis.writers.base import Office, hire

_AT_ONCE = 256
_EXAMPLES = 3
_EXCERPT = 400


@perform.register
def perform_synthesize(body: Synthesize, job: Job) -> Outcome:
    """Read the sources once, have the method's texts written, and write the documents.

    Raises:
        graftwork.errors.RunError: a source is empty or broken beyond its limit, the writer fails
            beyond the stage's limits, or nothing comes of it.
    """
    importlib.import_module(f"graftwork_train.synthesis.{body.method.name}")
    clerk = _clerk(body, job)
    desk = Desk(
        job.step.seed,
        clerk.ask if clerk else _nobody,
        _writer_name(body),
        think=lambda: _thinker(body, job),
    )
    sources = sources_of(job, body.from_, several=False)
    written = _Written()
    with Stream(sources, job.step.storage, 1, job) as stream:
        writer = DocumentsWriter(job.out)
        made = synthesize(
            body.method, _Limited(stream, body.limit, int(body.held_out * 2**64)), desk
        )
        while some := list(islice(made, _AT_ONCE)):
            written.note(some)
            writer.add(some)
        writer.close()
        read = sum(tally.documents for tally in stream.tallies.values())
        metrics = broken_metrics(stream.tallies.values())
    asked = clerk.metrics() if clerk else {}
    if not writer.documents:
        answered = dict(clerk.counts) if clerk else {}
        if body.limit is not None and not (answered or desk.counts):
            raise RunError(
                f"no document fits into the limit of {body.limit:,} bytes",
                "Raise 'limit', or cut the documents before.",
            )
        raise RunError(
            f"nothing was made of {read:,} documents: {answered} {dict(desk.counts)}",
            "Look at the writer and the method's parameters.",
        )
    left = {f"dropped/{reason}": float(count) for reason, count in sorted(desk.counts.items())}
    made_of = {"documents_read": float(read), "documents": float(writer.documents)}
    notes = (*desk.notes, *_cost_note(asked))
    tables = [written.table(), _outcomes(asked, left), *desk.tables, written.examples()]
    text = json.dumps({"tables": tables, "notes": list(notes)}, indent=1, ensure_ascii=False)
    (job.out / SUMMARY).write_text(text + "\n", encoding="utf-8")
    return Outcome(
        metrics={
            **made_of,
            "bytes": float(writer.size),
            **metrics,
            **asked,
            **left,
            **desk.metrics,
        },
        flops=desk.flops,
        sources=stream.sources if sources else {},
        notes=notes,
    )


def _clerk(body: Synthesize, job: Job) -> Clerk | None:
    """Who has the method's asks answered; None where it asks nothing."""
    if body.writer is None or body.thinks:
        return None
    importlib.import_module(f"graftwork_train.synthesis.writers.{body.writer.name}")
    known = identity(body.writer)
    of_stage = getattr(body.writer, "from_", None) is not None
    if of_stage:
        # Another model under the same stage's name writes something else.
        known["from"] = job.step.one("writer.from").fingerprint
    scribe = hire(body.writer, _office(job))
    answers = Answers(
        job.step.storage.root, {"writer": known, "seed": job.step.seed}, job.step.storage
    )
    return Clerk(scribe, answers, Limits(body.failed_limit, body.nonsense_limit))


def _thinker(body: Synthesize, job: Job) -> Any:  # noqa: ANN401 - a Thinker, of torch
    # Only methods that sample by themselves need torch.
    module = importlib.import_module("graftwork_train.synthesis.writers.model")
    return module.thinker(body.writer, _office(job))


def _office(job: Job) -> Office:
    pool = job.step.pool
    return Office(
        seed=job.step.seed,
        cores=pool.cpus_per_worker,
        gpu=pool.gpus_per_worker > 0,
        model=lambda: job.artifact("writer.from").path,
    )


def _nobody(asks: object) -> Any:  # noqa: ANN401 - never called
    raise AssertionError("a method asks that its word says asks nothing")


def _writer_name(body: Synthesize) -> str:
    """The writer for provenance: its kind and the model's name."""
    if body.writer is None:
        return ""
    named = (getattr(body.writer, name, None) for name in ("model", "from_", "folder"))
    return ":".join([body.writer.name, *(str(name) for name in named if name)])


@dataclass(frozen=True, slots=True)
class _Limited:
    """The documents of a stream up to a number of bytes, those to be held out left out."""

    stream: Stream
    limit: int | None
    below: int

    def batches(self, doing: str) -> Iterator[Batch]:
        """One pass, which ends before the document that goes beyond the limit."""
        left = self.limit
        for batch in self.stream.batches(doing):
            fitting = []
            for document in batch.documents:
                data = document.text.encode()
                # As data.split decides, but for the first of a domain.
                if xxhash.xxh3_64_intdigest(data) < self.below:
                    continue
                left = None if left is None else left - len(data)
                if left is not None and left < 0:
                    break
                fitting.append(document)
            if fitting:
                yield Batch(batch.corpus, tuple(fitting))
            if left is not None and left < 0:
                return


class _Written:
    """What the report says of the documents written."""

    def __init__(self) -> None:
        self._documents: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._some: list[list[str]] = []
        self._styles: Counter[str] = Counter()

    def note(self, documents: list[Document]) -> None:
        """Count documents, and keep the beginnings of some."""
        for document in documents:
            self._documents[document.domain] += 1
            self._tokens[document.domain] += tokens(document.text)
            style = document.metadata.get("style", "real")
            if self._styles[style] < _EXAMPLES:
                self._styles[style] += 1
                text = document.text
                excerpt = text if len(text) <= _EXCERPT else text[:_EXCERPT] + "…"
                self._some.append([style, document.id, excerpt])

    def table(self) -> dict[str, Any]:
        """Documents, and words and signs, by domain."""
        total = max(1, self._tokens.total())
        rows = [
            [domain, count, self._tokens[domain], f"{self._tokens[domain] / total:.1%}"]
            for domain, count in sorted(self._documents.items())
        ]
        columns = ["domain", "documents", "words and signs", "share"]
        return {"title": "What was written", "columns": columns, "rows": rows}

    def examples(self) -> dict[str, Any]:
        """The beginnings of some documents of each style."""
        rows = sorted(self._some)
        return {"title": "Examples", "columns": ["style", "document", "its beginning"],
                "rows": rows}  # fmt: skip


def _outcomes(asked: dict[str, float], left: dict[str, float]) -> dict[str, Any]:
    found = {"asked": asked.get("asked", 0.0)} if asked else {}
    found |= {name: value for name, value in (asked | left).items() if "/" in name}
    rows = [[name, int(value)] for name, value in found.items()]
    return {"title": "Answers, and what was left out", "columns": ["what", "count"], "rows": rows}


def _cost_note(asked: dict[str, float]) -> tuple[str, ...]:
    if not asked:
        return ()
    kept = asked["asked"] - asked["requests"]
    return (
        f"{asked['requests']:,.0f} requests were made, with {asked['tokens_read']:,.0f} words and "
        f"signs read and {asked['tokens_written']:,.0f} written; {kept:,.0f} answers were there "
        f"from earlier attempts.",
    )
