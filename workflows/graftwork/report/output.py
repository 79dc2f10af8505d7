"""What a stage says of itself in `summary.json`: notes, a chart, tables, samples."""

from __future__ import annotations

from itertools import zip_longest

from graftwork.report.chart import Line, finite, line_chart
from graftwork.report.files import Plot, Sample, Summary, Table
from graftwork.report.markup import Html, join, tag
from graftwork.report.tables import cell, row, table

# More than this is cut, and the page says so.
_MAX_TEXT = 20_000
_MAX_ROWS = 500


def notes(summary: Summary) -> Html | None:
    """The stage's findings, a paragraph each."""
    return join([tag("p", note, class_="finding") for note in summary.notes]) or None


def output(summary: Summary) -> Html | None:
    """Chart and tables, or None if there is neither."""
    chart = plot(summary.chart) if summary.chart else None
    return join(chart, [_table(data) for data in summary.tables]) or None


def samples(summary: Summary) -> Html | None:
    """The texts that a model wrote, white space kept."""
    if not summary.samples:
        return None
    return join(tag("h4", "Samples"), [_sample(sample) for sample in summary.samples])


def plot(data: Plot) -> Html | None:
    """The stage's own chart."""
    lines = []
    for index, series in enumerate(data.series):
        points = finite(list(zip(series.x, series.y, strict=False)))
        band = tuple(zip(series.low or (), series.high or (), strict=False))
        fits = len(band) == len(points) and list(series.x) == sorted(series.x)
        lines.append(Line(series.label, points, index, band=band if fits else ()))
    return line_chart(data.title or "Chart", data.x, data.y, lines)


def _table(data: Table) -> Html:
    rows = []
    for values in data.rows[:_MAX_ROWS]:
        name = values[0] if values else None
        cells = [
            cell(value, f"{name} {column}")
            for value, column in zip_longest(values, data.columns, fillvalue="")
        ]
        rows.append(row(name, cells[1:]) if isinstance(name, str) else row(None, cells))
    cut = len(data.rows) > len(rows)
    note = tag("p", f"The first {len(rows)} of {len(data.rows)} rows.", class_="note")
    return join(table(data.title, data.columns, rows), note if cut else None)


def _sample(sample: Sample) -> Html:
    text = sample.text.removeprefix(sample.prompt)
    cut = len(text) > _MAX_TEXT
    return tag(
        "pre",
        tag("mark", sample.prompt) if sample.prompt else None,
        text[:_MAX_TEXT],
        tag("em", f" … ({len(text):,} characters in all)") if cut else None,
        class_="sample",
        dir="auto",
        tabindex=0,
    )
