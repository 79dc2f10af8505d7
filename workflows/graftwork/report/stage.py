"""A stage in full: what it is, what it cost, how it went, and what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from graftwork.artifact import Record
from graftwork.report import figures
from graftwork.report.catalogue import CONTRACTS, named
from graftwork.report.chart import Line, finite, line_chart
from graftwork.report.curves import curves
from graftwork.report.files import Plot, Sample, Table
from graftwork.report.markup import Html, anchor, join, link, tag
from graftwork.report.model import STATES, Group, Result, State
from graftwork.spec.stages import KINDS

# More files or text than this is folded away or cut, so that a page stays small.
_MAX_SAMPLE = 20_000
_MAX_ROWS = 500


@dataclass(frozen=True, slots=True)
class Entry:
    """One seed of a stage."""

    seed: int
    result: Result


@dataclass(frozen=True, slots=True)
class View:
    """What a stage's section shows, whether it is part of a run or stands alone.

    Attributes:
        inputs: Role, label and address (may be empty) of each input.
    """

    stage: str
    kind: str
    state: State
    state_words: str
    config: Mapping[str, Any]
    entries: tuple[Entry, ...]
    inputs: tuple[tuple[str, str, str], ...] = ()
    seeded: bool = True

    @property
    def first(self) -> Result:
        """The first seed that has a record, or the first."""
        with_record = [e.result for e in self.entries if e.result.record]
        return with_record[0] if with_record else self.entries[0].result


def view_of_group(group: Group) -> View:
    """A stage of a run."""
    body = group.steps[0].spec.body
    inputs = {
        (source.role, source.stage, f"#{anchor(source.stage)}"): None
        for step in group.steps
        for source in step.inputs
    }
    for name in group.steps[0].corpora:
        inputs[("corpus", name, "")] = None
    return View(
        group.stage,
        group.kind,
        group.state,
        group.state_words,
        body.model_dump(mode="json", by_alias=True),
        tuple(Entry(s.seed, r) for s, r in zip(group.steps, group.results, strict=True)),
        tuple(inputs),
        body.seeded,
    )


def view_of_record(record: Record, result: Result) -> View:
    """A stage that stands alone."""
    return View(
        record.stage,
        record.kind,
        "done",
        STATES["done"],
        record.config,
        (Entry(record.seed, result),),
        tuple((role, source.stage, "") for role, source in record.inputs.items()),
        KINDS[record.kind].seeded if record.kind in KINDS else True,
    )


def section(view: View, *, level: int = 3) -> Html:
    """The stage as a section with a heading of this level."""
    heading = tag(
        f"h{level}",
        view.stage,
        " ",
        tag("span", view.kind, class_="kind"),
        " ",
        tag("span", view.state_words, class_=f"state {view.state}"),
    )
    result = view.first
    chart, small = curves([(entry.seed, entry.result.files.curve) for entry in view.entries])
    return tag(
        "section",
        heading,
        _what(view),
        [_trouble(view, entry) for entry in view.entries],
        tag("div", _facts(view, result.record), chart, class_="pair" if chart else None)
        if result.record
        else _facts(view, None),
        tag("div", small, class_="small-multiples") if small else None,
        _seeds(view),
        _summary(result) if view.kind != "compare" else _summary(result, notes=False),
        _folded(view),
        id=anchor(view.stage),
        class_=f"stage {view.state}",
    )


def _what(view: View) -> Html:
    """What the stage does, and the methods it uses with their papers."""
    sentences: list[Html] = []
    if view.kind in KINDS:
        sentences.append(tag("p", (KINDS[view.kind].__doc__ or "").split("\n\n")[0]))
    items = []
    for key, word in named(view.config):
        name = str(word.model_fields["name"].annotation.__args__[0])  # type: ignore[union-attr]
        paper = word.paper
        citation = (
            join(
                " ",
                link(paper.title, paper.url),
                f", arXiv:{paper.arxiv}" + (f", section {paper.section}" if paper.section else ""),
                ".",
            )
            if paper
            else None
        )
        contract = f" Contract: {CONTRACTS[word.contract]}." if word.contract else None
        items.append(
            tag(
                "li",
                tag("span", key, class_="role"),
                " ",
                tag("code", name),
                ": ",
                " ".join((word.__doc__ or "").split("\n\n")[0].split()),
                citation,
                contract,
            )
        )
    return join(sentences, tag("ul", items, class_="methods") if items else None)


def _trouble(view: View, entry: Entry) -> Html | None:
    result = entry.result
    seed = f"Seed {entry.seed}: " if len(view.entries) > 1 else ""
    parts: list[Html] = []
    if result.state not in ("done", "reused") or result.reason:
        words = STATES[result.state]
        text = f"{seed}{words}" + (f": {result.reason}" if result.reason else "")
        parts.append(tag("p", text, class_=f"reason {result.state}"))
    if result.log_tail:
        lines = result.log_tail[-_MAX_SAMPLE:]
        parts.append(
            tag(
                "details",
                tag("summary", "End of the log"),
                tag("pre", lines, tabindex=0),
                open=result.state == "failed",
            )
        )
    parts += [tag("p", trouble, class_="reason") for trouble in result.files.troubles]
    return join(parts) if parts else None


def _facts(view: View, record: Record | None) -> Html:
    """The figures of the first seed, as a list of terms."""
    facts: list[tuple[str, Html | str | None]] = []
    if record:
        facts += _made(record)
        facts += _cost(record)
    inputs = [
        join(link(label, address), " ", tag("small", role)) for role, label, address in view.inputs
    ]
    facts.append(("Inputs", tag("ul", [tag("li", item) for item in inputs]) if inputs else None))
    if record:
        facts += [
            ("Seed", str(record.seed) if view.seeded else None),
            ("Finished", figures.moment(record.finished)),
            ("Machine", record.machine or None),
        ]
    return tag(
        "dl",
        [tag("div", tag("dt", term), tag("dd", value)) for term, value in facts if value],
        class_="facts",
    )


def _made(record: Record) -> list[tuple[str, Html | str | None]]:
    metrics = record.metrics
    words = {
        "parameters": ("Parameters", figures.count),
        "loss": ("Held-out loss", lambda value: figures.number(value, "nats/token")),
        "train_loss": ("Training loss", lambda value: figures.number(value, "nats/token")),
        "perplexity": ("Perplexity", figures.number),
        "tokens_per_second": ("Throughput", lambda value: figures.count(value, "tokens/s")),
    }
    return [(name, show(metrics[key])) for key, (name, show) in words.items() if key in metrics]


def _cost(record: Record) -> list[tuple[str, Html | str | None]]:
    total_tokens, total_flops = record.total_tokens, record.total_flops
    time = join(
        figures.seconds(record.wall_seconds),
        tag("small", " and ", figures.seconds(record.overhead_seconds), " overhead")
        if record.overhead_seconds
        else None,
    )
    device = record.device_seconds
    return [
        ("Tokens", _own_and_total(figures.count, record.tokens, total_tokens)),
        ("FLOPs", _own_and_total(figures.flops, record.flops, total_flops)),
        ("Time", time),
        ("Device time", figures.seconds(device) if device != record.wall_seconds else None),
        (
            "Peak memory",
            figures.size(record.peak_memory_bytes) if record.peak_memory_bytes else None,
        ),
    ]


def _own_and_total(show: Any, own: float, total: float) -> Html | None:  # noqa: ANN401 - a figure
    if not own and not total:
        return None
    if own == total:
        return join(show(own))
    return join(show(own), tag("small", " of ", show(total), " with all it was made from"))


def _seeds(view: View) -> Html | None:
    if len(view.entries) < 2:
        return None
    head = ["Seed", "State", "Held-out loss", "Tokens", "FLOPs", "Time", "Fingerprint"]
    rows = []
    for entry in view.entries:
        record = entry.result.record
        cells: list[Html | str] = [tag("td", STATES[entry.result.state])]
        if record:
            cells += [
                figures.cell(record.metrics.get("loss")),
                tag("td", figures.count(record.tokens), class_="number"),
                tag("td", figures.flops(record.flops), class_="number"),
                tag("td", figures.seconds(record.wall_seconds), class_="number"),
                tag("td", tag("code", record.fingerprint)),
            ]
        else:
            cells.append(tag("td", "–", colspan=5))
        rows.append(tag("tr", tag("th", entry.seed, scope="row"), cells))
    return _grid("The stage, seed by seed", head, rows)


def _grid(caption: str, head: list[str], rows: list[Html]) -> Html:
    return tag(
        "div",
        tag(
            "table",
            tag("caption", caption) if caption else None,
            tag("thead", tag("tr", [tag("th", name, scope="col") for name in head])),
            tag("tbody", rows),
        ),
        class_="scroll",
        tabindex=0,
        role="region",
        aria_label=caption or "Table",
    )


def _summary(result: Result, *, notes: bool = True) -> Html:
    summary = result.files.summary
    return join(
        [tag("p", note, class_="finding") for note in summary.notes] if notes else None,
        _plot(summary.chart) if summary.chart else None,
        [_table(table) for table in summary.tables],
        tag(
            "div",
            tag("h4", "Samples"),
            [_sample(sample) for sample in summary.samples],
            class_="samples",
        )
        if summary.samples
        else None,
    )


def _plot(plot: Plot) -> Html | None:
    lines = []
    for index, series in enumerate(plot.series):
        band: tuple[tuple[float, float], ...] = ()
        if series.low and series.high and len(series.low) == len(series.high) == len(series.x):
            band = tuple(zip(series.low, series.high, strict=True))
        points = finite(list(zip(series.x, series.y, strict=False)))
        lines.append(
            Line(series.label, points, index, band=band if len(band) == len(points) else ())
        )
    return line_chart(plot.title or "Chart", plot.x, plot.y, lines)


def _table(table: Table) -> Html:
    rows = [
        tag(
            "tr",
            tag("th", row[0] if row[0] is not None else "–", scope="row"),
            map(figures.cell, row[1:]),
        )
        if row and isinstance(row[0], str)
        else tag("tr", map(figures.cell, row))
        for row in table.rows[:_MAX_ROWS]
    ]
    left_out = len(table.rows) - len(rows)
    note = f"The first {len(rows)} of {len(table.rows)} rows." if left_out else ""
    return join(
        _grid(table.title, table.columns, rows), tag("p", note, class_="note") if note else None
    )


def _sample(sample: Sample) -> Html:
    text = sample.text.removeprefix(sample.prompt)
    cut = len(text) > _MAX_SAMPLE
    return tag(
        "pre",
        tag("mark", sample.prompt) if sample.prompt else None,
        tag("span", text[:_MAX_SAMPLE]),
        tag("em", f" … ({len(text):,} characters in all)") if cut else None,
        class_="sample",
        dir="auto",
        tabindex=0,
    )


def _folded(view: View) -> Html:
    record = view.first.record
    config = yaml.safe_dump(dict(view.config), sort_keys=False, allow_unicode=True, width=90)
    parts = [_fold("Configuration", tag("pre", config, tabindex=0))]
    if record:
        metrics = [
            tag("tr", tag("th", name, scope="row"), figures.cell(value))
            for name, value in sorted(record.metrics.items())
        ]
        if metrics:
            parts.append(_fold("All metrics", _grid("", ["Metric", "Value"], metrics)))
    for entry in view.entries:
        if entry.result.record:
            seed = f" of seed {entry.seed}" if len(view.entries) > 1 else ""
            parts.append(_fold(f"Files{seed}", _files(entry.result.record)))
    return tag("div", parts, class_="folded")


def _fold(title: str, *body: Html) -> Html:
    return tag("details", tag("summary", title), *body)


def _files(record: Record) -> Html:
    rows = [
        tag(
            "tr",
            tag("th", entry.path, scope="row"),
            tag("td", figures.size(entry.bytes), class_="number"),
            tag("td", tag("code", entry.sha256)),
        )
        for entry in record.files[:_MAX_ROWS]
    ]
    more = len(record.files) - len(rows)
    return join(
        tag(
            "p",
            "Fingerprint ",
            tag("code", record.fingerprint),
            ", content ",
            tag("code", record.content),
        ),
        _grid("", ["File", "Size", "SHA-256"], rows),
        tag("p", f"And {more} more.", class_="note") if more else None,
    )
