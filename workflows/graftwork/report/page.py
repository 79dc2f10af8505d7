"""The page: one HTML file that holds all it needs and loads nothing."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Iterable
from functools import cache
from importlib import resources
from pathlib import Path

from graftwork.artifact import Record
from graftwork.report import figures
from graftwork.report.files import StageFiles
from graftwork.report.graph import graph
from graftwork.report.markup import Child, Html, anchor, join, link, tag
from graftwork.report.model import STATES, Group, Result, Run
from graftwork.report.stage import section, view_of_group, view_of_record
from graftwork.report.tables import Row, number_cell, row, table
from graftwork.report.verdict import verdicts


def write_report(run: Run, path: Path) -> Path:
    """Write the report of a run to `path`, all or nothing, and return the path.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(run_html(run))
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def run_html(run: Run) -> str:
    """The report of a run as one HTML page."""
    title = run.metadata.title or run.metadata.name
    results = verdicts(run)
    main = tag(
        "main",
        _block("graph", "Stages at a glance", graph(run)),
        _block("results", "Results", results) if results else None,
        _block("ledger", "Ledger", _ledger(run)),
        _block("stages", "Stages", [section(view_of_group(group)) for group in run.groups]),
        _block("reproduce", "To reproduce", _reproduce(run)),
    )
    return _page(title, _header(run, title), main)


def stage_html(record: Record, files: StageFiles, metrics: str = "") -> str:
    """One stage as an HTML page of its own, for a pipeline's artifact viewer.

    `metrics` is the address of its metrics in Grafana, if it has any.
    """
    result = Result("done", record=record, files=files)
    # The viewer shows the page in a frame, where Grafana refuses to be shown.
    opened = link("Metrics in Grafana", metrics, target="_blank", rel="noopener")
    main = tag(
        "main",
        section(view_of_record(record, result), level=1),
        tag("p", opened) if metrics else None,
    )
    return _page(f"{record.stage} · {record.workflow}", None, main)


@cache
def _asset(name: str) -> str:
    return resources.files("graftwork.report").joinpath(name).read_text(encoding="utf-8")


def _page(title: str, header: Html | None, main: Html) -> str:
    style, script = _asset("page.css"), _asset("page.js")
    # Only this style and this script may act, and nothing may be loaded, whatever the data says.
    policy = f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Html(style)),
    )
    body = tag("body", header, main, tag("script", Html(script)))
    return "<!doctype html>\n" + tag("html", head, "\n", body, lang="en") + "\n"


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _block(name: str, title: str, *children: Child) -> Html:
    return tag("section", tag("h2", title), *children, id=name, class_="block")


def _header(run: Run, title: str) -> Html:
    metadata = run.metadata
    paper = (
        join("follows ", link(f"arXiv:{metadata.paper}", f"https://arxiv.org/abs/{metadata.paper}"))
        if metadata.paper
        else None
    )
    machines = sorted({r.record.machine for r in run.results.values() if r.record} - {""})
    about = [
        metadata.name if title != metadata.name else None,
        paper,
        figures.moment(run.finished or run.started),
        ", ".join(machines) or None,
    ]
    nav = [("graph", "Graph"), ("results", "Results"), ("ledger", "Ledger"), ("stages", "Stages")]
    has_results = any(group.kind == "compare" for group in run.groups)
    return tag(
        "header",
        tag("h1", title),
        tag("ul", [tag("li", part) for part in about if part], class_="about"),
        tag("p", metadata.description, class_="description") if metadata.description else None,
        tag("dl", [_tile(term, value) for term, value in _totals(run)], class_="tiles"),
        tag(
            "nav",
            [link(text, f"#{name}") for name, text in nav if has_results or name != "results"],
            link("To reproduce", "#reproduce"),
            aria_label="Parts of the report",
        ),
    )


def _tile(term: str, value: Child) -> Html:
    return tag("div", tag("dt", term), tag("dd", value))


def _totals(run: Run) -> list[tuple[str, Child]]:
    """State, and what the run's artifacts cost, each artifact and ancestor counted once."""
    records = {r.record.fingerprint: r.record for r in run.results.values() if r.record}
    lineage = {
        key: ancestor for record in records.values() for key, ancestor in record.lineage.items()
    }
    new = {r.record.fingerprint for r in run.results.values() if r.record and r.state == "done"}
    time = {key: r.wall_seconds + r.overhead_seconds for key, r in records.items()}
    wall = sum(record.wall_seconds for record in records.values())
    device = sum(record.device_seconds for record in records.values())
    tiles: list[tuple[str, Child]] = [
        ("State", _state(run)),
        ("Tokens trained", figures.count(sum(a.tokens for a in lineage.values()))),
        ("FLOPs", figures.flops(sum(a.flops for a in lineage.values()))),
        ("Time in stages", figures.seconds(wall)),
        ("With overhead", figures.seconds(sum(time.values()))),
        ("Of it in this run", figures.seconds(sum(time[key] for key in new))),
    ]
    return [*tiles, ("Device time", figures.seconds(device))] if device != wall else tiles


def _state(run: Run) -> Html:
    states = [run.result(step).state for step in run.steps]
    gravest = next((state for state in STATES if state in states), "done")
    counts = [f"{states.count(state)} {STATES[state]}" for state in STATES if state in states]
    return tag("span", ", ".join(counts), class_=f"state {gravest}")


def _ledger(run: Run) -> Html:
    head = [
        "Stage", "Kind", "State", "Parameters", "Loss", "Tokens", "FLOPs", "FLOPs in all", "Time",
        "Overhead", "Memory",
    ]  # fmt: skip
    rows = [line for group in run.groups for line in _ledger_rows(group)]
    return table("Every stage and seed with what it cost", head, rows)


def _ledger_rows(group: Group) -> Iterable[Row]:
    for step, result in zip(group.steps, group.results, strict=True):
        name = group.stage if len(group.steps) == 1 else f"{group.stage}, seed {step.seed}"
        state = tag("span", STATES[result.state], class_=f"state {result.state}")
        record = result.record
        cells = _ledger_figures(record) if record else [number_cell(None)] * 8
        yield row(
            link(name, f"#{anchor(group.stage)}"), [tag("td", group.kind), tag("td", state), *cells]
        )


def _ledger_figures(record: Record) -> list[Html]:
    metrics = record.metrics
    shown = [
        figures.count(metrics["parameters"]) if "parameters" in metrics else None,
        figures.number(metrics["loss"]) if "loss" in metrics else None,
        figures.count(record.tokens) if record.tokens else None,
        figures.scientific(record.flops) if record.flops else None,
        figures.scientific(record.total_flops) if record.total_flops else None,
        figures.seconds(record.wall_seconds),
        figures.seconds(record.overhead_seconds) if record.overhead_seconds else None,
        figures.size(record.peak_memory_bytes) if record.peak_memory_bytes else None,
    ]
    return [number_cell(value) for value in shown]


def _reproduce(run: Run) -> Html:
    records = [result.record for result in run.results.values() if result.record]
    versions: dict[str, dict[str, None]] = {}
    for record in records:
        for name, version in record.versions.items():
            versions.setdefault(name, {})[version] = None
    rows = [row(name, [tag("td", ", ".join(found))]) for name, found in sorted(versions.items())]
    return join(
        tag("p", tag("code", run.command)) if run.command else None,
        tag("details", tag("summary", "The spec"), tag("pre", run.spec_text, tabindex=0))
        if run.spec_text
        else None,
        table("Versions", ["Software", "Version"], rows) if rows else None,
    )
