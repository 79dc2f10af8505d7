"""What an artifact holds for the report: `curve.jsonl` and `summary.json`, read with care."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

CURVE = "curve.jsonl"
SUMMARY = "summary.json"

Cell = str | int | float | bool | None


class _Lenient(BaseModel):
    """Data of a stage: what the report does not know is left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Table(_Lenient):
    """A table of a stage's own."""

    title: str = ""
    columns: list[str]
    rows: list[list[Cell]] = Field(default_factory=list)


class Sample(_Lenient):
    """Text that a model wrote after a prompt."""

    prompt: str = ""
    text: str


class Series(_Lenient):
    """One line of a chart, with an optional band from `low` to `high`."""

    label: str = ""
    x: list[float]
    y: list[float]
    low: list[float] | None = None
    high: list[float] | None = None


class Plot(_Lenient):
    """A chart of a stage's own."""

    title: str = ""
    x: str = ""
    y: str = ""
    series: list[Series] = Field(default_factory=list)


class Summary(_Lenient):
    """`summary.json`; every key may be missing."""

    tables: list[Table] = Field(default_factory=list)
    samples: list[Sample] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    chart: Plot | None = None


@dataclass(frozen=True, slots=True)
class StageFiles:
    """What the report shows of one artifact.

    Attributes:
        curve: One mapping for each logged step, numbers only, in the order of the file.
        summary: Tables, samples, notes and a chart.
        troubles: Sentences on what could not be read.
    """

    curve: tuple[Mapping[str, float], ...] = ()
    summary: Summary = field(default_factory=Summary)
    troubles: tuple[str, ...] = ()


def read_files(folder: Path) -> StageFiles:
    """Read an artifact's folder. Missing files are fine; broken ones become `troubles`."""
    troubles: list[str] = []
    curve: tuple[Mapping[str, float], ...] = ()
    summary = Summary()
    if (folder / CURVE).is_file():
        with (folder / CURVE).open(encoding="utf-8", errors="replace") as lines:
            curve, broken = parse_curve(lines)
        if broken:
            troubles.append(f"{broken} of {broken + len(curve)} lines of {CURVE} are broken.")
    if (folder / SUMMARY).is_file():
        text = (folder / SUMMARY).read_text(encoding="utf-8", errors="replace")
        try:
            summary = Summary.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            troubles.append(f"{SUMMARY} cannot be shown: {place}: {first['msg']}.")
    return StageFiles(curve, summary, tuple(troubles))


def parse_curve(lines: Iterable[str]) -> tuple[tuple[Mapping[str, float], ...], int]:
    """The rows of a loss curve, and the number of lines that are not JSON objects.

    Values that are not finite numbers are left out of their row.
    """
    rows: list[Mapping[str, float]] = []
    broken = 0
    for line in lines:
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except ValueError:
            data = None
        if isinstance(data, dict):
            rows.append(_numbers(data))
        else:
            broken += 1
    return tuple(rows), broken


def _numbers(data: dict[str, Any]) -> dict[str, float]:
    return {
        key: value
        for key, value in data.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
