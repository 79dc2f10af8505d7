"""A stage in full: what it is, what it cost, how it went, and what came out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from graftwork.artifact import Record
from graftwork.report import figures
from graftwork.report.catalogue import CONTRACTS, named
from graftwork.report.curves import curves
from graftwork.report.facts import Fact, cost, facts, made
from graftwork.report.markup import Html, anchor, join, link, tag
from graftwork.report.model import STATES, Group, Result, State
from graftwork.report.output import notes, output, samples
from graftwork.report.tables import cell, number_cell, row, table
from graftwork.spec.base import Method
from graftwork.spec.continuing import losses_of
from graftwork.spec.stages import KINDS

_MAX_FILES = 500
_MAX_LOG = 20_000


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
        told: Whether the page has told already what the stage found, as for a comparison.
    """

    stage: str
    kind: str
    state: State
    state_words: str
    config: Mapping[str, Any]
    entries: tuple[Entry, ...]
    inputs: tuple[tuple[str, str, str], ...] = ()
    told: bool = False

    @property
    def first(self) -> Result:
        """The first seed that has a record, or the first."""
        with_record = [entry.result for entry in self.entries if entry.result.record]
        return with_record[0] if with_record else self.entries[0].result


def view_of_group(group: Group) -> View:
    """A stage of a run."""
    inputs = {
        (_role(source.role), source.stage, f"#{anchor(source.stage)}"): None
        for step in group.steps
        for source in step.inputs
    }
    for name in group.steps[0].corpora:
        inputs["corpus", name, ""] = None
    return View(
        group.stage,
        group.kind,
        group.state,
        group.state_words,
        group.steps[0].spec.body.model_dump(mode="json", by_alias=True),
        tuple(Entry(s.seed, r) for s, r in zip(group.steps, group.results, strict=True)),
        tuple(inputs),
        told=group.kind == "compare",
    )


def view_of_record(record: Record, result: Result) -> View:
    """A stage that stands alone."""
    return View(
        record.stage,
        record.kind,
        result.state,
        STATES[result.state],
        record.config,
        (Entry(record.seed, result),),
        tuple((_role(role), source.stage, "") for role, source in record.inputs.items()),
    )


def _role(role: str) -> str:
    """The role without a position in a list."""
    name, _, last = role.rpartition(".")
    return name if last.isdigit() else role


def section(view: View, *, level: int = 3) -> Html:
    """The stage as a section with a heading of this level."""
    result = view.first
    summary = result.files.summary
    if view.told:
        summary = summary.model_copy(update={"notes": [], "chart": None})
    points = [(entry.seed, entry.result.files.curve) for entry in view.entries]
    chart, small = curves(points, losses_of(view.config)[0])
    right = chart or output(summary)
    figures_of_it = _facts(view, result.record)
    return tag(
        "section",
        tag(
            f"h{level}",
            view.stage,
            tag("span", view.kind, class_="kind"),
            tag("span", view.state_words, class_=f"state {view.state}"),
        ),
        _what(view),
        [_trouble(view, entry) for entry in view.entries],
        notes(summary),
        tag("div", figures_of_it, tag("div", right), class_="pair") if right else figures_of_it,
        tag("div", small, class_="small-multiples") if small else None,
        _seeds(view),
        output(summary) if chart else None,
        samples(summary),
        _folded(view),
        id=anchor(view.stage),
        class_=f"stage {view.state}",
    )


def _what(view: View) -> Html:
    """What the stage does, and the methods it uses with their papers."""
    kind = KINDS.get(view.kind)
    items = [_method(key, name, word) for key, name, word in named(view.config)]
    return join(
        tag("p", _sentence(kind)) if kind else None,
        tag("ul", items, class_="methods") if items else None,
    )


def _sentence(word: type) -> str:
    return " ".join((word.__doc__ or "").split("\n\n")[0].split())


def _method(key: str, name: str, word: type[Method]) -> Html:
    paper, contract = word.paper, word.contract
    citation = None
    if paper:
        section_of_it = f", section {paper.section}" if paper.section else ""
        citation = join(" ", link(paper.title, paper.url), f", arXiv:{paper.arxiv}{section_of_it}.")
    return tag(
        "li",
        tag("span", key, " ", tag("code", name), class_="role"),
        f": {_sentence(word)}",
        citation,
        f" Contract: {CONTRACTS[contract]}." if contract else None,
    )


def _trouble(view: View, entry: Entry) -> Html | None:
    """Why this seed is not there, if it is not, and what could not be read."""
    result = entry.result
    seed = f"Seed {entry.seed}: " if len(view.entries) > 1 else ""
    parts: list[Html] = []
    if result.state not in ("done", "reused") or result.reason:
        text = f"{seed}{STATES[result.state]}" + (f": {result.reason}" if result.reason else "")
        parts.append(tag("p", text, class_=f"reason {result.state}"))
    if result.log_tail:
        log = tag("pre", result.log_tail[-_MAX_LOG:], tabindex=0)
        title = tag("summary", "End of the log")
        parts.append(tag("details", title, log, open=result.state == "failed"))
    parts += [tag("p", trouble, class_="reason") for trouble in result.files.troubles]
    return join(parts) if parts else None


def _facts(view: View, record: Record | None) -> Html:
    inputs = [
        tag("li", link(label, address), " ", tag("small", role))
        for role, label, address in view.inputs
    ]
    terms: list[Fact] = [*made(record), *cost(record)] if record else []
    terms.append(("Inputs", tag("ul", inputs) if inputs else None))
    if record:
        seeded = view.kind not in KINDS or KINDS[view.kind].seeded
        terms += [
            ("Seed", str(record.seed) if seeded else None),
            ("Finished", figures.moment(record.finished)),
            ("Machine", record.machine or None),
        ]
    return facts(terms)


def _seeds(view: View) -> Html | None:
    if len(view.entries) < 2:
        return None
    head = ["Seed", "State", "Held-out loss", "Tokens", "FLOPs", "Time", "Fingerprint"]
    rows = [row(entry.seed, _seed(entry.result)) for entry in view.entries]
    return table("Seed by seed", head, rows)


def _seed(result: Result) -> Iterable[Html]:
    record = result.record
    state = tag("td", tag("span", STATES[result.state], class_=f"state {result.state}"))
    if not record:
        return state, tag("td", "–", colspan=5)
    loss = record.metrics.get("loss")
    return (
        state,
        number_cell(figures.number(loss) if loss is not None else None),
        number_cell(figures.count(record.tokens) if record.tokens else None),
        number_cell(figures.flops(record.flops) if record.flops else None),
        number_cell(figures.seconds(record.wall_seconds)),
        tag("td", tag("code", record.fingerprint)),
    )


def _folded(view: View) -> Html:
    """What few readers need: configuration, all metrics, files."""
    record = view.first.record
    config = yaml.safe_dump(dict(view.config), sort_keys=False, allow_unicode=True, width=90)
    parts = [_fold("Configuration", tag("pre", config, tabindex=0))]
    if record and record.metrics:
        rows = [row(name, [cell(value)]) for name, value in sorted(record.metrics.items())]
        parts.append(_fold("All metrics", table("", ["Metric", "Value"], rows)))
    for entry in view.entries:
        if entry.result.record:
            seed = f" of seed {entry.seed}" if len(view.entries) > 1 else ""
            parts.append(_fold(f"Files{seed}", _files(entry.result.record)))
    return tag("div", parts, class_="folded")


def _fold(title: str, *body: Html) -> Html:
    return tag("details", tag("summary", title), *body)


def _files(record: Record) -> Html:
    rows = [
        row(file.path, [number_cell(figures.size(file.bytes)), tag("td", tag("code", file.sha256))])
        for file in record.files[:_MAX_FILES]
    ]
    more = len(record.files) - len(rows)
    identity = [
        "Fingerprint ", tag("code", record.fingerprint),
        ", content ", tag("code", record.content),
    ]  # fmt: skip
    return join(
        tag("p", identity),
        table("", ["File", "Size", "SHA-256"], rows),
        tag("p", f"And {more} more.", class_="note") if more else None,
    )
