"""What the ratios of `benchmarks/train.py` should be, and whether they are.

A ratio that was not measured is never a target that was met: it is told, and why.
"""

from __future__ import annotations

from collections.abc import Mapping

PEERS = {"over_bare": 1.0, "over_trainer": 1.1, "over_litgpt": 1.1}
DENSE = {
    # The bare loop knows no documents, so what the mask costs has no target of its own.
    "eager": PEERS,
    "compiled": PEERS,
}
EXPERTS = {
    "eager": {
        "over_dense": 0.9,
        # Of both, since the better one is meant.
        "over_mixtral_eager": 1.25,
        "over_mixtral_grouped_mm": 1.25,
    }
}


def verdicts(found: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
    """By part, way of running and ratio: met, missed or not measured.

    Args:
        found: By part, what was measured: by `eager` and `compiled`, ratios, and under
            `not_measured` why one is not there.
    """
    told = {}
    for part, measured in found.items():
        for way, targets in (EXPERTS if part == "experts" else DENSE).items():
            figures = measured.get(way)
            figures = figures if isinstance(figures, Mapping) else {}
            for name, least in targets.items():
                told[f"{part}, {way}, {name}"] = verdict(figures, name, least)
    return told


def verdict(figures: Mapping[str, object], name: str, least: float) -> str:
    """What is to be said of one ratio."""
    value = figures.get(name)
    if isinstance(value, float | int):
        return f"{'met' if value >= least else 'missed'}: {value:g}, at least {least:g} is aimed at"
    absent = figures.get("not_measured")
    reasons = absent if isinstance(absent, Mapping) else {}
    return f"not measured: {reasons.get(name.removeprefix('over_'), 'this part was not run')}"
