"""The end of a run: its table, its JSON, and what to do about a failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from graftwork.artifact import Record
from graftwork.local.display import MARKS
from graftwork.local.watch import Status
from graftwork.units import format_number, format_seconds

TAIL_LINES = 12


def table(steps: Sequence[Status], records: Mapping[str, Record]) -> Table:
    """A row for each step: how it ended, what it cost, and what of that was ours."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    made.add_column("stage")
    made.add_column("state")
    for name in ("tokens", "FLOPs", "loss", "seconds", "overhead"):
        made.add_column(name, justify="right")
    for status in steps:
        made.add_row(*_row(status, records.get(status.name)))
    return made


def _row(status: Status, record: Record | None) -> tuple[str, ...]:
    _, style, words = MARKS[status.state]
    state = f"[{style}]{words}[/]"
    if record is None:
        return (status.name, state, "", "", "", "", "")
    loss = record.metrics.get("loss")
    return (
        status.name,
        state,
        format_number(record.tokens) if record.tokens else "",
        f"{record.flops:.2e}" if record.flops else "",
        f"{loss:.3f}" if loss is not None else "",
        format_seconds(record.wall_seconds) if status.state == "done" else "",
        format_seconds(overhead(status, record)) if status.state == "done" else "",
    )


def overhead(status: Status, record: Record) -> float:
    """Seconds of the step that were not the stage's own work: Python, KFP, storage, imports."""
    return max(0.0, status.seconds - record.wall_seconds) if status.state == "done" else 0.0


def as_json(steps: Sequence[Status], records: Mapping[str, Record]) -> list[dict[str, Any]]:
    """The table for machines, with URIs and metrics."""
    rows = []
    for status in steps:
        row: dict[str, Any] = {"step": status.name, "kind": status.kind, "state": status.state}
        if status.message:
            row["message"] = status.message
        record = records.get(status.name)
        if record is not None:
            row |= {
                "fingerprint": record.fingerprint,
                "tokens": record.tokens,
                "flops": record.flops,
                "seconds": record.wall_seconds,
                "overhead_seconds": overhead(status, record),
                "metrics": record.metrics,
            }
        rows.append(row)
    return rows


def log_tail(log: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log, blank ones left out; nothing where there is no log."""
    if not log.exists():
        return ""
    text = log.read_bytes()[-64 * 1024 :].decode(errors="replace")
    return "\n".join([line.rstrip() for line in text.splitlines() if line.strip()][-lines:])


def failure(status: Status, log: Path) -> str:
    """What failed, the end of its log, and what to do."""
    parts = [f"stage {status.name} failed: {status.message or 'it ended without a word'}"]
    if status.remedy:
        parts.append(f"    {status.remedy}")
    tail = "" if status.message else log_tail(log)
    parts += [f"Its log is {log}{', which ends' if tail else ''}"]
    parts += [f"  | {line}" for line in tail.splitlines()]
    parts.append("Stages that are done are kept: run the same command again to go on from here.")
    return "\n".join(parts)
