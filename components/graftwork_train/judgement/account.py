"""What a comparison came to: sentences, a table, a chart, metrics, and data for machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

from graftwork.artifact import Record
from graftwork.spec.continuing import losses_of
from graftwork.spec.stages import Compare
from graftwork_train.job import CURVE
from graftwork_train.judgement.arms import Arm
from graftwork_train.judgement.curves import mean_curve, read_curve
from graftwork_train.judgement.rule import NUMBERS, Judgement, spread


def finding(body: Compare, arm: Arm, baseline: Arm, judgement: Judgement) -> str:
    """What follows for one arm, as a sentence."""
    side = "lower" if judgement.delta < 0 else "higher"
    text = (
        f"{arm.label} against {baseline.label}: {judgement.verdict}. {body.metric} "
        f"{_mean_and_spread(arm)} against {_mean_and_spread(baseline)}, "
        f"{abs(judgement.delta):.4g} {side}"
    )
    if judgement.reason:
        return f"{text}; {judgement.reason}."
    return f"{text}; two standard deviations of the difference are {judgement.margin:.4g}."


def _mean_and_spread(arm: Arm) -> str:
    own = spread(arm.values)
    seeds = f"{len(arm.values)} seed{'s' if len(arm.values) > 1 else ''}"
    around = "" if own is None else f" ± {own:.2g}"
    return f"{fmean(arm.values):.4g}{around} ({seeds})"


def table(body: Compare, arms: list[Arm], judgements: Mapping[str, Judgement]) -> dict[str, Any]:
    """All arms in a table; the needed difference is what a verdict takes."""
    rows = []
    for arm in arms:
        judgement = judgements.get(arm.label)
        rows.append(
            [
                arm.label,
                judgement.verdict if judgement else "baseline",
                fmean(arm.values),
                spread(arm.values),
                len(arm.values),
                judgement.delta if judgement else None,
                judgement.margin if judgement else None,
                fmean(record.total_flops for record in arm.records),
                fmean(record.total_tokens for record in arm.records),
            ]
        )
    columns = ["arm", "verdict", f"mean {body.metric}", "standard deviation", "seeds",
               "difference", "needed difference", "total FLOPs", "total tokens"]  # fmt: skip
    return {"title": f"{body.metric} ({body.goal} is better)", "columns": columns, "rows": rows}


def chart(body: Compare, arms: list[Arm]) -> tuple[dict[str, Any] | None, list[str]]:
    """The arms' training losses over what they cost, and a sentence for each without a curve."""
    axis = "tokens" if body.at == "equal_tokens" else "flops"
    series: list[dict[str, Any]] = []
    of = {losses_of(artifact.record.config)[0] for arm in arms for artifact in arm.artifacts}
    unread: list[str] = []
    for arm in arms:
        curves = [
            read_curve(artifact.path / CURVE, axis, _spent_before(axis, artifact.record))
            for artifact in arm.artifacts
        ]
        line = mean_curve([curve for curve in curves if curve])
        if line is None:
            unread.append(f"Arm {arm.label} has no loss curve to draw; it was only evaluated.")
        else:
            series.append({"label": arm.label, **line})
    if not series:
        return None, unread
    unit = "tokens" if axis == "tokens" else "FLOPs"
    title = "Training loss of all arms, mean and range over seeds"
    x = f"{unit}, all ancestors included"
    y = f"loss, nats per {of.pop()}" if len(of) == 1 else "loss, nats"
    return {"title": title, "x": x, "y": y, "series": series}, unread


def _spent_before(axis: str, record: Record) -> float:
    if axis == "tokens":
        return record.total_tokens - record.tokens
    return record.total_flops - record.flops


def metrics(arms: list[Arm], judgements: Mapping[str, Judgement]) -> dict[str, float]:
    """The comparison as scalars by label: 1 stands for confirmed, -1 refuted, 0 inconclusive."""
    return {name: value for name, value in _numbers(arms, judgements) if value is not None}


def _numbers(
    arms: list[Arm], judgements: Mapping[str, Judgement]
) -> Iterator[tuple[str, float | None]]:
    for arm in arms:
        yield f"mean/{arm.label}", fmean(arm.values)
        yield f"std/{arm.label}", spread(arm.values)
        if judgement := judgements.get(arm.label):
            yield f"delta/{arm.label}", judgement.delta
            yield f"margin/{arm.label}", judgement.margin
            yield f"verdict/{arm.label}", NUMBERS[judgement.verdict]


def machine_readable(
    body: Compare, arms: list[Arm], judgements: Mapping[str, Judgement]
) -> dict[str, Any]:
    """All numbers, with the value of every seed."""
    told: dict[str, Any] = {}
    for arm in arms:
        judgement = judgements.get(arm.label)
        told[arm.label] = {
            "verdict": judgement.verdict if judgement else "baseline",
            "values": dict(zip(map(str, arm.seeds), arm.values, strict=True)),
            "mean": fmean(arm.values),
            "std": spread(arm.values),
            "delta": judgement.delta if judgement else None,
            "margin": judgement.margin if judgement else None,
        }
    rule = "two standard deviations of the difference between one run of each"
    return {
        "metric": body.metric, "goal": body.goal, "at": body.at, "rule": rule,
        "baseline": body.baseline_label, "arms": told,
    }  # fmt: skip
