"""Writes a documents artifact: the kept documents, the manifest of all, and a summary."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from graftwork.errors import RunError
from graftwork_train.data.corpora.artifact import FOLDER
from graftwork_train.data.documents import Document, broken_tables
from graftwork_train.data.stream import Stream
from graftwork_train.data.verdicts import KEPT, Verdicts
from graftwork_train.job import SUMMARY

MANIFEST = "manifest.parquet"
# A part is closed beyond this many characters, so that several workers can read the artifact.
PART_CHARACTERS = 256_000_000
_EXAMPLES = 3
_EXCERPT = 160
_REPEATED = (
    "{:,} documents have an id that an earlier one has: a source is read twice, or two stages "
    "chose from the same one. The manifest names each of them."
)
_DOCUMENTS = pa.schema([(name, pa.string()) for name in ("id", "text", "domain", "metadata")])
_MANIFEST = pa.schema(
    [("id", pa.string()), ("score", pa.float32()), ("kept", pa.bool_()), ("reason", pa.string())]
)


def write_chosen(stream: Stream, verdicts: Verdicts, out: Path) -> dict[str, float]:
    """Read the documents once more, and write those that are kept.

    Returns:
        Counts for the record: `documents`, `kept`, `kept_share`, `bytes`, `dropped/<reason>`, and
        `repeated_ids` where there are any.

    Raises:
        RunError: nothing is kept.
    """
    kept = int((verdicts.codes == 0).sum())
    total = len(verdicts.codes)
    counts = Counter(verdicts.reasons[code] for code in verdicts.codes.tolist())
    if not kept:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts.most_common())
        raise RunError(
            f"none of the {total:,} documents is kept: {reasons}",
            "Loosen the method's parameters, or look at the corpus.",
        )
    done = _write(stream, verdicts, out)
    domains, examples, size = done.domains, done.examples, done.size
    tables = [_reasons(counts, total), _domains(domains), *verdicts.tables, _excerpts(examples)]
    tables += broken_tables(stream.tallies.values())
    repeated = done.repeated_ids
    notes = [*verdicts.notes, *([_REPEATED.format(repeated)] if repeated else [])]
    summary = {"tables": tables, "notes": notes}
    (out / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    dropped = {
        f"dropped/{reason}": float(counts[reason])
        for reason in verdicts.reasons[1:]
        if counts[reason]
    }
    shares = {"documents": float(total), "kept": float(kept), "kept_share": kept / total}
    twice = {"repeated_ids": float(repeated)} if repeated else {}
    return {**shares, "bytes": float(size), **twice, **dropped}


class _Write:
    """What is gathered while documents are written."""

    def __init__(self, out: Path) -> None:
        self.domains: defaultdict[str, Counter[bool]] = defaultdict(Counter)
        self.examples: defaultdict[str, list[tuple[str, str, str]]] = defaultdict(list)
        self.size = 0
        self._marks: list[npt.NDArray[np.uint64]] = []
        self._folder = out / FOLDER
        self._folder.mkdir()
        self._parts = 0
        self._characters = 0
        self._part: pq.ParquetWriter | None = None

    def add(self, documents: list[Document], reasons: list[str], scores: list[float]) -> None:
        """Write the kept ones of a batch, and remember some of all."""
        chosen = []
        marks = [xxhash.xxh3_64_intdigest(document.id.encode()) for document in documents]
        self._marks.append(np.array(marks, np.uint64))
        for document, reason, score in zip(documents, reasons, scores, strict=True):
            kept = reason == KEPT
            self.domains[document.domain][kept] += 1
            if len(self.examples[reason]) < _EXAMPLES:
                shown = (document.id, f"{score:.4g}", _excerpt(document.text))
                self.examples[reason].append(shown)
            if kept:
                chosen.append(document)
                self.size += len(document.text.encode())
        if chosen:
            self._append(chosen)

    @property
    def repeated_ids(self) -> int:
        """Documents whose id another one before them has, by a hash of 64 bits."""
        marks = np.concatenate([np.zeros(0, np.uint64), *self._marks])
        return len(marks) - len(np.unique(marks))

    def close(self) -> None:
        """Close the part that is open."""
        if self._part is not None:
            self._part.close()
            self._part = None

    def _append(self, chosen: list[Document]) -> None:
        if self._characters > PART_CHARACTERS:
            self.close()
        if self._part is None:
            path = self._folder / f"part-{self._parts:05d}.parquet"
            self._part = pq.ParquetWriter(path, _DOCUMENTS, compression="zstd")
            self._parts += 1
            self._characters = 0
        self._characters += sum(len(document.text) for document in chosen)
        columns = {
            "id": [document.id for document in chosen],
            "text": [document.text for document in chosen],
            "domain": [document.domain for document in chosen],
            "metadata": [json.dumps(dict(d.metadata), sort_keys=True) for d in chosen],
        }
        self._part.write_table(pa.table(columns, _DOCUMENTS))


def _write(stream: Stream, verdicts: Verdicts, out: Path) -> _Write:
    done = _Write(out)
    at = 0
    with pq.ParquetWriter(out / MANIFEST, _MANIFEST, compression="zstd") as manifest:
        for batch in stream.batches("writing"):
            here = slice(at, at + len(batch.documents))
            at = here.stop
            if at > len(verdicts.codes):
                raise stream.changed(batch.corpus)
            reasons = [verdicts.reasons[code] for code in verdicts.codes[here].tolist()]
            done.add(list(batch.documents), reasons, verdicts.scores[here].tolist())
            columns = {
                "id": [document.id for document in batch.documents],
                "score": verdicts.scores[here],
                "kept": [reason == KEPT for reason in reasons],
                "reason": reasons,
            }
            manifest.write_table(pa.table(columns, _MANIFEST))
    done.close()
    return done


def _reasons(counts: Counter[str], total: int) -> dict[str, Any]:
    rows = [[reason, count, f"{count / total:.1%}"] for reason, count in counts.most_common()]
    return {"title": "What became of the documents", "columns": ["result", "documents", "share"],
            "rows": rows}  # fmt: skip


def _domains(domains: dict[str, Counter[bool]]) -> dict[str, Any]:
    rows = [
        [domain, count.total(), count[True], f"{count[True] / count.total():.1%}"]
        for domain, count in sorted(domains.items())
    ]
    columns = ["domain", "documents", "kept", "share kept"]
    return {"title": "Kept by domain", "columns": columns, "rows": rows}


def _excerpts(examples: dict[str, list[tuple[str, str, str]]]) -> dict[str, Any]:
    rows = [[reason, *shown] for reason in sorted(examples) for shown in examples[reason]]
    columns = ["result", "document", "score", "its beginning"]
    return {"title": "Examples", "columns": columns, "rows": rows}


def _excerpt(text: str) -> str:
    start = " ".join(text[: 4 * _EXCERPT].split())
    return start if len(start) <= _EXCERPT else start[:_EXCERPT] + "…"
