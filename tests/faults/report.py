"""How the cells went: a table by fault and number of workers, and what they come to in all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

Rows = Sequence[dict[str, Any]]


def table(rows: Rows) -> str:
    """By fault and number of workers: cells, how many passed, tries and seconds."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["fault"], row["workers"]].append(row)
    lines = ["| fault | workers | cells | passed | most tries | mean seconds |"]
    lines += ["|---|---:|---:|---:|---:|---:|"]
    for (fault, workers), found in groups.items():
        passed, tries = sum(row["passed"] for row in found), max(len(row["codes"]) for row in found)
        mean = sum(row["seconds"] for row in found) / len(found)
        lines.append(f"| {fault} | {workers} | {len(found)} | {passed} | {tries} | {mean:.1f} |")
    return "\n".join(lines) + "\n"


def total(rows: Rows, asked: int, seconds: float) -> dict[str, int | float]:
    """All cells together.

    Args:
        rows: Of the cells that came to an end.
        asked: Cells that were to be run; those without a row count as failed.
        seconds: From the first cell's beginning to the last one's end, undisturbed runs included.
    """
    passed = sum(row["passed"] for row in rows)
    return {
        "cells": asked,
        "passed": passed,
        "failed": asked - passed,
        "through_ray": sum(row["workers"] > 1 for row in rows),
        "minutes": round(seconds / 60, 1),
    }


def line(found: dict[str, int | float]) -> str:
    """The total in words."""
    return (
        f"{found['cells']} cells, {found['passed']} passed, {found['failed']} failed; "
        f"{found['through_ray']} through Ray's workers; {found['minutes']} minutes"
    )
