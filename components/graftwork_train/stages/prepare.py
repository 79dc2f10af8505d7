"""The stage `prepare`: documents into packed shards of tokens, with a held-out part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from graftwork.errors import RunError
from graftwork.spec.data import TokenizerFrom
from graftwork.spec.stages import Prepare
from graftwork_train.data.documents import broken_metrics, broken_tables
from graftwork_train.data.encode import Plan, Shards, write_shards
from graftwork_train.data.index import Split
from graftwork_train.data.stream import Stream, sources_of
from graftwork_train.data.tokenizer import Makings, build
from graftwork_train.job import SUMMARY, Job, Outcome
from graftwork_train.stages.base import perform
from graftwork_train.state import State

TOKENIZER = "tokenizer.from"


@perform.register
def prepare(body: Prepare, job: Job) -> Outcome:
    """Build the tokenizer, then encode, split and pack all documents.

    Raises:
        RunError: a source is empty or broken beyond its limit, or nothing is left to train on.
    """
    workers = job.step.pool.workers
    sources = sources_of(job, body.from_, several=workers > 1)
    plan = Plan(job.out, body.context, body.packing, body.held_out, body.format)
    with Stream(sources, job.step.storage, workers, job) as stream:
        encoder = build(body.tokenizer, Makings(stream, job.step.storage, *_taken(body, job)))
        encoder.save(job.out, body.context)
        shards = write_shards(stream, encoder, plan)
    metrics = _metrics(shards, body.context) | broken_metrics(stream.tallies.values())
    if not metrics["sequences"]:
        raise RunError(f"the documents hold no text to train on{_unfit(shards)}", _remedy(shards))
    notes = (_packing_note(metrics), *_notes(shards, body))
    tables = [_table(shards), *broken_tables(stream.tallies.values())]
    summary = {"tables": tables, "notes": list(notes)}
    (job.out / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return Outcome(metrics=metrics, workers=workers, sources=stream.sources, notes=notes)


def _taken(body: Prepare, job: Job) -> tuple[Path | None, int | None]:
    """Folder of the stage whose tokenizer is taken over, and its vocabulary if it is a model."""
    if not isinstance(body.tokenizer, TokenizerFrom):
        return None, None
    folder = job.artifact(TOKENIZER).path
    if job.step.one(TOKENIZER).product != "model":
        return folder, None
    return folder, int(State.open(folder, own=True).config["vocab_size"])


def _metrics(shards: Shards, context: int) -> dict[str, float]:
    total = _totals(shards, "train")
    held = _totals(shards, "held_out")
    rows = total["sequences"] + held["sequences"]
    documents = total["documents"] + held["documents"]
    metrics = {
        "tokens": total["tokens"],
        "documents": documents,
        "sequences": total["sequences"],
        "held_out_tokens": held["tokens"],
        "held_out_documents": held["documents"],
        "held_out_sequences": held["sequences"],
        "bytes_per_token": sum(shards.bytes.values()) / max(sum(shards.tokens.values()), 1),
        "utilisation": _filled(shards, context) / max(rows * (context + 1), 1),
        "documents_cut": sum(shards.cut.values()) / max(documents, 1),
        "tokens_cropped": sum(shards.cropped.values()) / max(total["tokens"] + held["tokens"], 1),
    }
    for domain, parts in shards.index.domains.items():
        metrics[f"tokens/{domain}"] = parts["train"].tokens
        metrics[f"held_out_tokens/{domain}"] = parts["held_out"].tokens
    return {name: float(value) for name, value in metrics.items()}


def _totals(shards: Shards, split: Split) -> dict[str, int]:
    parts = [by_split[split] for by_split in shards.index.domains.values()]
    return {
        "tokens": sum(part.tokens for part in parts),
        "documents": sum(part.documents for part in parts),
        "sequences": sum(part.sequences for part in parts),
    }


def _filled(shards: Shards, context: int) -> int:
    """Positions of all rows that hold a token; neighbours in a stream share one."""
    shared = shards.index.packing == "concatenate"
    return sum(
        part.tokens + (part.sequences - 1 if shared else 0)
        for parts in shards.index.domains.values()
        for part in parts.values()
        if part.sequences
    )


def _table(shards: Shards) -> dict[str, object]:
    rows = []
    for domain, parts in shards.index.domains.items():
        train, held = parts["train"], parts["held_out"]
        documents = train.documents + held.documents
        cut = shards.cut[domain, "train"] + shards.cut[domain, "held_out"]
        density = round(shards.bytes[domain] / max(shards.tokens[domain], 1), 2)
        counts = [documents, train.tokens, held.tokens, train.sequences, held.sequences]
        rows.append([domain, *counts, density, f"{cut / max(documents, 1):.1%}"])
    columns = ["domain", "documents", "tokens", "held-out tokens", "sequences"]
    columns += ["held-out sequences", "bytes per token", "documents cut"]
    return {"title": "Tokens by domain", "columns": columns, "rows": rows}


def _packing_note(metrics: Mapping[str, float]) -> str:
    return (
        f"Rows are {metrics['utilisation']:.1%} full; {metrics['documents_cut']:.1%} of the "
        f"documents are cut, and {metrics['tokens_cropped']:.1%} of the tokens do not see where "
        f"their document begins."
    )


def _notes(shards: Shards, body: Prepare) -> tuple[str, ...]:
    notes = [
        f"Domain {domain} is one text; its last {body.held_out:.1%} are held out."
        for domain in shards.single
    ]
    for domain, parts in shards.index.domains.items():
        if not parts["held_out"].sequences:
            notes.append(f"Domain {domain} is too short to hold anything out.")
    if shards.empty:
        notes.append(f"{shards.empty} documents gave no token and were left out.")
    if shards.unfit or shards.long:
        notes.append(f"Left out{_unfit(shards)}.")
    if shards.plain:
        notes.append(f"{shards.plain} documents have no metadata and stay as they are.")
    return tuple(notes)


def _unfit(shards: Shards) -> str:
    told = [f"{shards.unfit} documents lack what the format needs"] if shards.unfit else []
    told += [f"{shards.long} pairs are longer than a sequence"] if shards.long else []
    return f": {' and '.join(told)}" if told else ""


def _remedy(shards: Shards) -> str:
    if shards.unfit:
        return "Name the fields that the format needs in the corpus's 'metadata'."
    return "Give a longer 'context'." if shards.long else "Give more or longer documents."
