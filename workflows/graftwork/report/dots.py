"""Arms side by side: one dot a seed, the mean, and one standard deviation to each side."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from graftwork.report import figures
from graftwork.report.axis import Scale, fit, tick_labels, ticks
from graftwork.report.chart import TONES
from graftwork.report.markup import Html, tag

_WIDTH = 640
_LEFT = 150
_RIGHT = 70
_ROW = 40
_TOP = 10


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm of a comparison: its value for each seed that has one."""

    label: str
    values: tuple[float, ...]
    baseline: bool = False

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float | None:
        """Standard deviation of a sample; None for fewer than two seeds."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


def arms_chart(metric: str, axis: str, arms: Sequence[Arm]) -> Html | None:
    """A figure with a row for each arm that has a value, or None; `axis` labels the metric."""
    arms = [arm for arm in arms if arm.values]
    if not arms:
        return None
    ends = [value for arm in arms for value in arm.values]
    for arm in arms:
        ends += [arm.mean - (arm.spread or 0), arm.mean + (arm.spread or 0)]
    scale = fit(ends, _LEFT, _WIDTH - _RIGHT)
    bottom = _TOP + _ROW * len(arms)
    label = f"{metric} of {len(arms)} arms. " + " ".join(_describe(arm) for arm in arms)
    drawing = tag(
        "svg",
        _axis(axis, scale, bottom),
        [_row(arm, index, scale) for index, arm in enumerate(arms)],
        viewBox=f"0 0 {_WIDTH} {bottom + 44}",
        role="img",
        aria_label=label,
    )
    return tag(
        "figure",
        tag("figcaption", tag("span", f"{metric} by arm", class_="title")),
        tag("div", drawing, class_="scroll"),
        tag("p", "Dots: seeds. Bar: mean. Shade: one standard deviation.", class_="note"),
        class_="chart",
    )


def _axis(label: str, scale: Scale, bottom: int) -> Html:
    values = ticks(scale, 5)
    parts = []
    for value, text in zip(values, tick_labels(values), strict=True):
        pixel = round(scale(value), 2)
        parts.append(tag("path", d=f"M{pixel} {_TOP}V{bottom}", class_="grid"))
        parts.append(tag("text", text, x=pixel, y=bottom + 18, class_="tick middle"))
    parts.append(tag("path", d=f"M{_LEFT} {bottom}H{_WIDTH - _RIGHT}", class_="axis"))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(tag("text", label, x=middle, y=bottom + 38, class_="label middle"))
    return tag("g", parts, aria_hidden="true")


def _row(arm: Arm, index: int, scale: Scale) -> Html:
    y = _TOP + _ROW * index + _ROW / 2
    tone = f"s{index % TONES}"
    mean = round(scale(arm.mean), 2)
    name = arm.label if len(arm.label) <= 20 else arm.label[:19] + "…"
    parts = [tag("text", name, x=_LEFT - 12, y=y + (-1 if arm.baseline else 4), class_="arm end")]
    if arm.baseline:
        parts.append(tag("text", "baseline", x=_LEFT - 12, y=y + 13, class_="tick end"))
    if arm.spread is not None:
        low, high = scale(arm.mean - arm.spread), scale(arm.mean + arm.spread)
        parts.append(tag("path", d=f"M{low:.2f} {y:g}H{high:.2f}", class_=f"spread {tone}"))
    parts.append(tag("path", d=f"M{mean} {y - 10:g}v20", class_=f"line {tone}"))
    parts += [
        tag(
            "circle",
            tag("title", figures.plain(value)),
            cx=round(scale(value), 2),
            cy=y,
            r=4,
            class_=f"mark {tone}",
        )
        for value in arm.values
    ]
    parts.append(
        tag("text", figures.plain(arm.mean), x=_WIDTH - _RIGHT + 8, y=y + 4, class_="tick")
    )
    return tag("g", tag("title", _describe(arm)), parts)


def _describe(arm: Arm) -> str:
    spread = f" ± {figures.plain(arm.spread)}" if arm.spread is not None else ""
    seeds = f"{len(arm.values)} seeds" if len(arm.values) > 1 else "one seed"
    return f"{arm.label}: {figures.plain(arm.mean)}{spread} ({seeds})."
