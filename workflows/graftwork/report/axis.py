"""Scales and ticks of a chart's axis, and points thinned out to what can be seen."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from graftwork.report.figures import scientific

Point = tuple[float, float]

_UNITS = (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3))


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values from `low` to `high` onto pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of a value; values outside land on the border."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)


def fit(values: Sequence[float], start: float, end: float, *, zero: bool = False) -> Scale:
    """A scale that holds all values with a little air; `zero` makes it begin at zero.

    Values that are all equal get a scale around them.
    """
    low, high = min(values), max(values)
    if zero and low >= 0:
        low = 0.0
    air = (high - low) * 0.04
    if not high - low > abs(high) * 1e-9:
        air = abs(high) * 0.1 or 1.0
    return Scale(0.0 if zero and low == 0 and high > 0 else low - air, high + air, start, end)


def ticks(scale: Scale, wanted: int) -> list[float]:
    """About `wanted` round values on the scale: 1, 2 or 5 times a power of ten apart."""
    rough = (scale.high - scale.low) / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    first = math.ceil(scale.low / step - 1e-9)
    last = math.floor(scale.high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def tick_labels(values: Sequence[float], *, powers: bool = False) -> list[str]:
    """The ticks in one notation, with as many digits as tell them apart.

    `powers` writes large ones as powers of ten, which is how FLOPs are given.
    """
    largest = max((abs(value) for value in values), default=0.0)
    if powers and largest >= 1e4:
        unit = 10.0 ** math.floor(math.log10(largest) + 1e-9)
        mantissas = tick_labels([value / unit for value in values])
        power = scientific(unit).removeprefix("1")
        return [text if text == "0" else text + power for text in mantissas]
    step = min((b - a for a, b in itertools.pairwise(values)), default=largest or 1.0)
    suffix, unit = next((pair for pair in _UNITS if largest >= pair[1]), ("", 1.0))
    if largest >= 1e15 or (largest and largest < 1e-3):
        return [f"{value:.2g}".replace("e-0", "e-").replace("e+", "e") for value in values]
    digits = min(9, max(0, -math.floor(math.log10(step / unit) + 1e-9)))
    return [f"{value / unit:.{digits}f}{suffix}" if value else "0" for value in values]


def thin(points: Sequence[Point], columns: int) -> list[Point]:
    """At most `4 * columns` points that draw the same line: each column's first, last and extremes.

    Points must be in the order of x.
    """
    if len(points) <= 4 * columns:
        return list(points)
    left, right = points[0][0], points[-1][0]
    width = (right - left) / columns or 1.0
    kept: list[Point] = []
    bucket: list[Point] = []
    current = 0
    for point in points:
        column = min(columns - 1, int((point[0] - left) / width))
        if column != current and bucket:
            kept += _extremes(bucket)
            bucket = []
        current = column
        bucket.append(point)
    return kept + _extremes(bucket)


def _extremes(bucket: list[Point]) -> list[Point]:
    chosen = {
        0,
        len(bucket) - 1,
        min(range(len(bucket)), key=lambda i: bucket[i][1]),
        max(range(len(bucket)), key=lambda i: bucket[i][1]),
    }
    return [bucket[index] for index in sorted(chosen)]
