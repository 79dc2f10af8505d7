"""The campaign's results as a table in Markdown, one line per kind of fault."""

from __future__ import annotations

import statistics
from typing import Any

Json = dict[str, Any]
_HEAD = (
    "| fault | runs | survived | seconds to recover: median | longest | committed steps lost "
    "| orphans |\n|---|---:|---:|---:|---:|---:|---:|\n"
)


def table(results: list[Json]) -> str:
    """The table, with the sums of all."""
    names = list(dict.fromkeys(str(one["fault"]) for one in results))
    lines = [
        _line(name, [one for one in results if one["fault"] == name]) for name in sorted(names)
    ]
    return _HEAD + "".join(lines) + _line("all", results)


def _line(name: str, results: list[Json]) -> str:
    seconds = [one["recovered"] for one in results if one["recovered"] is not None]
    median = f"{statistics.median(seconds):.1f}" if seconds else "–"
    longest = f"{max(seconds):.1f}" if seconds else "–"
    survived = sum(bool(one["survived"]) for one in results)
    lost, orphans = (
        sum(one["lost"] for one in results),
        sum(len(one["orphans"]) for one in results),
    )
    return f"| {name} | {len(results)} | {survived} | {median} | {longest} | {lost} | {orphans} |\n"
