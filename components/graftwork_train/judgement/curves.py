"""Loss curves of several seeds as one line with a band."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

# Enough for a line on a page; each point is the mean of a window, so nothing is left out.
POINTS = 120

# By optimizer step: where the point lies on the horizontal axis, and its loss.
Curve = dict[int, tuple[float, float]]


def read_curve(path: Path, axis: str, offset: float) -> Curve:
    """A `curve.jsonl`, by step; empty where there is none. Rows without numbers are left out.

    Args:
        path: The file.
        axis: Field to draw along, `flops` or `tokens`; counted from the stage's start.
        offset: What was spent before the stage began.
    """
    if not path.is_file():
        return {}
    curve: Curve = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            values = [row.get(key) for key in ("step", axis, "loss")]
            if all(isinstance(value, int | float) and math.isfinite(value) for value in values):
                curve[int(values[0])] = (offset + values[1], values[2])
    return curve


def mean_curve(curves: Sequence[Curve], points: int = POINTS) -> dict[str, Any] | None:
    """Mean over seeds, with the lowest and highest seed; None where nothing can be drawn.

    Only steps that all seeds have are used. More than `points` of them are gathered in windows of
    equal length, each of which gives one point.
    """
    steps = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    if not steps:
        return None
    length = -(-len(steps) // points)
    line: dict[str, Any] = {"x": [], "y": [], "low": [], "high": []}
    for start in range(0, len(steps), length):
        window = steps[start : start + length]
        losses = [fmean(curve[step][1] for step in window) for curve in curves]
        line["x"].append(fmean(curve[step][0] for curve in curves for step in window))
        line["y"].append(fmean(losses))
        line["low"].append(min(losses))
        line["high"].append(max(losses))
    return line
