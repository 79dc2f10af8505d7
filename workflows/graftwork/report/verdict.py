"""Comparisons: what follows from each, all its arms, and their spread over the seeds."""

from __future__ import annotations

from dataclasses import dataclass

from graftwork.report import figures
from graftwork.report.dots import Arm, arms_chart
from graftwork.report.markup import Html, anchor, join, link, tag
from graftwork.report.model import Group, Result, Run
from graftwork.report.output import plot
from graftwork.report.tables import Row, number_cell, row, table
from graftwork.spec.continuing import losses_of
from graftwork.spec.stages import Compare
from graftwork.step import Step

# What a comparison writes into its record for each arm that it judges.
_VERDICTS = {1.0: "confirmed", -1.0: "refuted", 0.0: "inconclusive"}
_AT = {
    "equal_flops": "at equal FLOPs",
    "equal_tokens": "at equal tokens",
    "as_they_are": "as they are",
}


@dataclass(frozen=True, slots=True)
class _Contender:
    """An arm with the stage behind it and one result a seed."""

    label: str
    stage: str
    baseline: bool
    results: tuple[tuple[int, Result], ...]
    metric: str

    @property
    def arm(self) -> Arm:
        values = (
            result.record.metrics.get(self.metric) for _, result in self.results if result.record
        )
        return Arm(self.label, tuple(v for v in values if v is not None), self.baseline)


def verdicts(run: Run) -> list[Html]:
    """A section for each comparison of the run."""
    return [
        _verdict(run, group, step, body)
        for group in run.groups
        for step in group.steps[:1]
        if isinstance(body := step.spec.body, Compare)
    ]


def _verdict(run: Run, group: Group, step: Step, body: Compare) -> Html:
    contenders = _contenders(run, step, body)
    result = run.result(step)
    summary = result.files.summary
    missing = None
    if result.record is None:
        reason = f": {result.reason}" if result.reason else ""
        missing = tag("p", f"No verdict yet ({group.state_words}{reason}).", class_="reason")
    return tag(
        "section",
        tag("h3", link(group.stage, f"#{anchor(group.stage)}"), _chips(contenders, result)),
        [tag("p", note, class_="finding") for note in summary.notes],
        missing,
        tag(
            "div",
            arms_chart(body.metric, _metric_words(body, contenders), [c.arm for c in contenders]),
            _table(contenders, body),
            class_="pair",
        ),
        plot(summary.chart) if summary.chart else None,
        class_="result",
    )


def _chips(contenders: list[_Contender], result: Result) -> list[Html]:
    """The verdict on each arm, in a word."""
    metrics = result.record.metrics if result.record else {}
    found = [(c.label, _VERDICTS.get(metrics.get(f"verdict/{c.label}", 2.0))) for c in contenders]
    judged = [(label, word) for label, word in found if word]
    return [
        tag("span", f"{label}: {word}" if len(judged) > 1 else word, class_=f"verdict {word}")
        for label, word in judged
    ]


def _metric_words(body: Compare, contenders: list[_Contender]) -> str:
    results = [result for contender in contenders for _, result in contender.results]
    of = {losses_of(result.record.config)[1] for result in results if result.record} or {"token"}
    per = f" in nats per {of.pop()}" if len(of) == 1 else " in nats"
    unit = per if body.metric.split("/")[0] == "loss" else ""
    return f"{body.metric}{unit}, {body.goal} is better"


def _contenders(run: Run, step: Step, body: Compare) -> list[_Contender]:
    by_place = {(other.stage, other.seed): other for other in run.steps}
    found: list[_Contender] = []
    for label, stage in body.arms.items():
        sources = [source for source in step.inputs if source.role == f"arms.{label}"]
        results = tuple(
            (source.seed, run.result(by_place[source.stage, source.seed]))
            for source in sources
            if (source.stage, source.seed) in by_place
        )
        name = sources[0].stage if sources else stage
        found.append(_Contender(label, name, label == body.baseline_label, results, body.metric))
    return found


def _table(contenders: list[_Contender], body: Compare) -> Html:
    baseline = next(contender.arm for contender in contenders if contender.baseline)
    seeds = sorted({seed for contender in contenders for seed, _ in contender.results})
    head = ["Arm", *(f"Seed {seed}" for seed in seeds), "Mean", "Std", "Difference", "FLOPs in all"]
    caption = f"{body.metric} of each arm, {_AT[body.at]}"
    return table(caption, head, [_row(contender, baseline, seeds) for contender in contenders])


def _row(contender: _Contender, baseline: Arm, seeds: list[int]) -> Row:
    arm = contender.arm
    records = {seed: result.record for seed, result in contender.results if result.record}
    values = [r.metrics.get(contender.metric) if (r := records.get(s)) else None for s in seeds]
    summary = [arm.mean if arm.values else None, arm.spread if arm.values else None]
    costs = [record.total_flops for record in records.values()]
    baseline_mark = tag("small", " baseline") if contender.baseline else None
    compared = arm.values and baseline.values and not contender.baseline
    return row(
        join(link(contender.label, f"#{anchor(contender.stage)}"), baseline_mark),
        [
            *(number_cell(figures.number(v) if v is not None else None) for v in values + summary),
            number_cell(_signed(arm.mean - baseline.mean) if compared else None),
            number_cell(figures.flops(sum(costs) / len(costs)) if costs else None),
        ],
    )


def _signed(value: float) -> Html:
    sign = "+" if value > 0 else "−" if value < 0 else ""
    return tag("span", sign, figures.plain(abs(value)), title=repr(value))
