"""A stage in Markdown, for viewers that show no HTML."""

from __future__ import annotations

import re

from graftwork.artifact import Record
from graftwork.report.catalogue import named
from graftwork.report.figures import plain, scientific
from graftwork.report.files import Cell, StageFiles, Table
from graftwork.units import format_bytes, format_number, format_seconds

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|!~])")


def escape(text: object) -> str:
    """`text` on one line, with nothing in it that Markdown or HTML would act on."""
    line = " ".join(str(text).split())
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
    return _SPECIAL.sub(r"\\\1", line.replace("&", "&amp;"))


def stage_markdown(record: Record, files: StageFiles, metrics: str = "") -> str:
    """A stage's figures, notes, tables and samples as Markdown.

    `metrics` is the address of its metrics in Grafana, if it has any.
    """
    parts = [f"# {escape(record.stage)} ({escape(record.kind)})", _papers(record), _facts(record)]
    if metrics:
        parts.append(f"[Metrics in Grafana](<{metrics}>)")
    summary = files.summary
    parts += [escape(note) for note in summary.notes]
    parts += [_table(table) for table in summary.tables]
    if summary.samples:
        parts.append("## Samples")
        parts += [
            _fence(sample.prompt + sample.text.removeprefix(sample.prompt))
            for sample in summary.samples
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _papers(record: Record) -> str:
    return "\n".join(
        f"- {escape(key)} `{name}`: [{escape(word.paper.title)}]({word.paper.url})"
        for key, name, word in named(record.config)
        if word.paper
    )


def _facts(record: Record) -> str:
    rows: list[tuple[str, str]] = [(name, plain(value)) for name, value in record.metrics.items()]
    if record.tokens:
        rows += [
            (
                "tokens",
                f"{format_number(record.tokens)} (total {format_number(record.total_tokens)})",
            ),
            ("FLOPs", f"{scientific(record.flops)} (total {scientific(record.total_flops)})"),
        ]
    rows += [
        ("time", format_seconds(record.wall_seconds)),
        ("overhead", format_seconds(record.overhead_seconds)),
        ("device time", format_seconds(record.device_seconds)),
        ("peak memory", format_bytes(record.peak_memory_bytes)),
        ("fingerprint", record.fingerprint),
    ]
    body = "\n".join(f"| {escape(name)} | {escape(value)} |" for name, value in rows)
    return f"| figure | value |\n|---|---|\n{body}"


def _table(table: Table) -> str:
    head = " | ".join(escape(column) for column in table.columns)
    rows = "\n".join(f"| {' | '.join(_cell(value) for value in row)} |" for row in table.rows)
    title = f"## {escape(table.title)}\n\n" if table.title else ""
    return f"{title}| {head} |\n|{'---|' * len(table.columns)}\n{rows}"


def _cell(value: Cell) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return escape(plain(value))
    return "–" if value is None else escape(value)


def _fence(text: str) -> str:
    """The text as a code block whose fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
