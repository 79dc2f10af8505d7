"""The reference of metrics and alerts, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from graftwork.metrics.alerts import alerts
from graftwork.metrics.registry import JOB_LABELS, LABELS, LAUNCHER, TRAINING, Metric


def reference() -> str:
    """Every metric and every alert on them, as tables."""
    parts = [
        "## Metrics of the training",
        f"Labels: {_codes(LABELS)}. Ray adds its own.",
        _metrics(TRAINING, LABELS),
        "## Metrics of the launcher",
        f"Labels: {_codes(JOB_LABELS)}, and what is named in the table.",
        _metrics(LAUNCHER, JOB_LABELS),
        "## Alerts",
        _alerts(),
    ]
    return "\n\n".join(parts) + "\n"


def _metrics(metrics: Iterable[Metric], usual: tuple[str, ...]) -> str:
    rows = ["| metric | kind | unit | meaning |", "|---|---|---|---|"]
    for one in metrics:
        more = [label for label in one.labels if label not in usual]
        labels = f" Label: {_codes(more)}." if more else ""
        rows.append(f"| `{one.exposed}` | {one.kind} | {one.unit} | {one.help}{labels} |")
    return "\n".join(rows)


def _alerts() -> str:
    rows = ["| alert | severity | for | rule | what to do |", "|---|---|---|---|---|"]
    for one in alerts():
        rule = " ".join(one.expr.split()).replace("|", "\\|")
        told = one.description.replace("{{ $labels.rayjob }}", "…")
        rows.append(f"| {one.name} | {one.severity} | {one.for_ or '–'} | `{rule}` | {told} |")
    return "\n".join(rows)


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
