"""The world of the cells, and a report of how they went."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from tests.faults.world import World

REPORT = "FAULTS_REPORT"
_rows: list[dict[str, Any]] = []


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        # The cells' storage is looked at from here, too.
        patched.setenv("AWS_ACCESS_KEY_ID", "key")
        patched.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        made = World(tmp_path_factory.mktemp("faults"))
        yield made
        made.close()


@pytest.fixture(scope="session")
def rows():
    return _rows


def pytest_sessionfinish() -> None:
    """Write the report, JSON and a table, where the variable names a place for them."""
    place = os.environ.get(REPORT)
    if not place or not _rows:
        return
    path = Path(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(_rows, indent=1) + "\n")
    path.with_suffix(".md").write_text(table(_rows))


def table(rows: list[dict[str, Any]]) -> str:
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
