"""Charts of lines as inline SVG: axes with round ticks, a legend, and the values as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from graftwork.report import figures
from graftwork.report.axis import Point, Scale, fit, thin, tick_labels, ticks
from graftwork.report.markup import Html, join, tag
from graftwork.report.tables import number_cell, row, table

TONES = 6
# Two pixels a column on the widest screen the page is laid out for.
_COLUMNS = 400
# Marks beyond this many would hide the line.
_MAX_MARKS = 60


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its points in the order of x, and optionally a band around it.

    Attributes:
        marked: Dashes with a mark at each point, for values that are measured now and then.
        keyed: Whether the legend names the line.
        band: For each point, the lower and the upper end of its spread.
    """

    label: str
    points: tuple[Point, ...]
    tone: int = 0
    marked: bool = False
    band: tuple[Point, ...] = ()
    keyed: bool = True


@dataclass(frozen=True, slots=True)
class Frame:
    """Size of a chart and of the margins around its plot, in SVG units."""

    width: int = 640
    height: int = 300
    left: int = 58
    right: int = 16
    top: int = 12
    bottom: int = 44


# The title of a small chart says what its vertical axis is.
SMALL = Frame(width=320, height=170, left=46, right=10, top=8, bottom=38)


def line_chart(
    title: str, x: str, y: str, lines: Sequence[Line], frame: Frame = Frame(), *, zero: bool = False
) -> Html | None:
    """A figure with all lines, or None if no line has a point.

    Args:
        title: What is shown.
        x: Label of the horizontal axis, with its unit.
        y: Label of the vertical axis, with its unit.
        lines: The lines; points that are not finite must have been left out.
        frame: Size and margins.
        zero: Whether the vertical axis begins at zero.
    """
    lines = [line for line in lines if line.points]
    if not lines:
        return None
    across = fit(
        [point[0] for line in lines for point in line.points],
        frame.left,
        frame.width - frame.right,
        zero=True,
    )
    heights = [point[1] for line in lines for point in line.points]
    heights += [end for line in lines for pair in line.band for end in pair]
    up = fit(heights, frame.height - frame.bottom, frame.top, zero=zero)
    drawing = tag(
        "svg",
        _axes(x, y, across, up, frame),
        [_line(line, across, up) for line in lines],
        viewBox=f"0 0 {frame.width} {frame.height}",
        role="img",
        aria_label=f"{title}. " + " ".join(_describe(line) for line in lines),
        data_x=f"{across.low:.8g} {across.high:.8g} {across.start:g} {across.end:g}",
        data_y=f"{up.low:.8g} {up.high:.8g} {up.start:g} {up.end:g}",
        data_unit=x,
        class_="small" if frame.width <= SMALL.width else None,
    )
    return tag(
        "figure",
        tag("figcaption", tag("span", title, class_="title"), _legend(lines)),
        tag("div", drawing, class_="scroll"),
        _thinned(lines),
        _values(x, lines) if frame.width > SMALL.width else None,
        class_="chart",
    )


def _axes(x: str, y: str, across: Scale, up: Scale, frame: Frame) -> Html:
    bottom, right = frame.height - frame.bottom, frame.width - frame.right
    xs = ticks(across, frame.width // 90)
    ys = ticks(up, max(3, frame.height // 55))
    parts: list[Html] = []
    for value, label in zip(ys, tick_labels(ys), strict=True):
        pixel = round(up(value), 2)
        parts.append(tag("path", d=f"M{frame.left} {pixel}H{right}", class_="grid"))
        parts.append(tag("text", label, x=frame.left - 7, y=pixel + 4, class_="tick end"))
    for value, label in zip(xs, tick_labels(xs, powers="FLOPs" in x), strict=True):
        pixel = round(across(value), 2)
        parts.append(tag("path", d=f"M{pixel} {bottom}v5", class_="axis"))
        parts.append(tag("text", label, x=pixel, y=bottom + 18, class_="tick middle"))
    middle = (frame.top + bottom) / 2
    parts.append(tag("path", d=f"M{frame.left} {bottom}H{right}", class_="axis"))
    parts.append(
        tag("text", x, x=(frame.left + right) / 2, y=frame.height - 6, class_="label middle")
    )
    if y:
        turned = f"translate(13 {middle:g}) rotate(-90)"
        parts.append(tag("text", y, transform=turned, class_="label middle"))
    return tag("g", parts, aria_hidden="true")


def _line(line: Line, across: Scale, up: Scale) -> Html:
    tone = _tone(line)
    points = thin(line.points, _COLUMNS)
    parts: list[Html] = []
    if len(line.band) == len(line.points) > 1:
        parts.append(tag("path", d=_band(line, across, up), class_=f"band {tone}"))
    if len(points) > 1:
        kind = "line dashed" if line.marked else "line"
        path = "M" + "L".join(_pixels(point, across, up) for point in points)
        parts.append(tag("path", d=path, class_=f"{kind} {tone}", data_label=line.label))
    if len(points) == 1 or (line.marked and len(points) <= _MAX_MARKS):
        parts += [_mark(line, point, across, up) for point in points[:_MAX_MARKS]]
    return join(parts)


def _mark(line: Line, point: Point, across: Scale, up: Scale) -> Html:
    return tag(
        "circle",
        tag("title", f"{line.label}: {figures.plain(point[1])}"),
        cx=round(across(point[0]), 2),
        cy=round(up(point[1]), 2),
        r=3,
        class_=f"mark {_tone(line)}",
    )


def _tone(line: Line) -> str:
    return f"s{line.tone % TONES}"


def _pixels(point: Point, across: Scale, up: Scale) -> str:
    return f"{across(point[0]):.1f} {up(point[1]):.1f}"


def _band(line: Line, across: Scale, up: Scale) -> str:
    xs = [point[0] for point in line.points]
    low = [_pixels((x, pair[0]), across, up) for x, pair in zip(xs, line.band, strict=True)]
    high = [_pixels((x, pair[1]), across, up) for x, pair in zip(xs, line.band, strict=True)]
    return "M" + "L".join(high + low[::-1]) + "Z"


def _legend(lines: Sequence[Line]) -> Html | None:
    if len(lines) == 1:
        return None
    return tag("ul", [_key(line) for line in lines if line.keyed], class_="legend")


def _key(line: Line) -> Html:
    dashed = "dashed " if line.marked else ""
    parts = [tag("path", d="M0 5H22", class_=f"line {dashed}{_tone(line)}")]
    if line.marked:
        parts.append(tag("circle", cx=11, cy=5, r=3, class_=f"mark {_tone(line)}"))
    drawing = tag("svg", parts, viewBox="0 0 22 10", class_="key", aria_hidden="true")
    return tag("li", drawing, line.label)


def _describe(line: Line) -> str:
    first, last = line.points[0][1], line.points[-1][1]
    if len(line.points) == 1:
        return f"{line.label}: one point, {figures.plain(first)}."
    lowest = min(point[1] for point in line.points)
    return (
        f"{line.label}: {len(line.points)} points, first {figures.plain(first)}, "
        f"last {figures.plain(last)}, lowest {figures.plain(lowest)}."
    )


def _thinned(lines: Sequence[Line]) -> list[Html]:
    return [
        tag(
            "p",
            f"{line.label}: drawn from {len(line.points):,} points; of each pixel column its "
            "first, last, lowest and highest are shown.",
            class_="note",
        )
        for line in lines
        if len(thin(line.points, _COLUMNS)) < len(line.points)
    ]


def _values(x: str, lines: Sequence[Line]) -> Html:
    """What the lines say, for those who cannot see them."""
    head = ["Line", "Points", "First", "Lowest", "Highest", "Last", f"Last at ({x})"]
    rows = []
    for line in lines:
        heights = [point[1] for point in line.points]
        values = (heights[0], min(heights), max(heights), heights[-1])
        cells = [
            number_cell(figures.exact(len(heights))),
            *(number_cell(figures.number(value)) for value in values),
            number_cell(figures.count(line.points[-1][0])),
        ]
        rows.append(row(line.label, cells))
    return tag("details", tag("summary", "Values"), table("", head, rows))


def finite(points: Sequence[tuple[float, float | None]]) -> tuple[Point, ...]:
    """The points whose values are numbers, in the order of x."""
    kept = [
        (float(x), float(y))
        for x, y in points
        if y is not None and math.isfinite(x) and math.isfinite(y)
    ]
    return tuple(sorted(kept, key=lambda point: point[0]))
