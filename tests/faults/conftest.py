"""The world of the cells, and a report of how they went."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from tests.faults.report import line, table, total
from tests.faults.world import World

REPORT = "FAULTS_REPORT"
_rows: list[dict[str, Any]] = []
# When the first cell's world was begun.
_began: list[float] = []


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    _began.append(time.monotonic())
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


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report, JSON and a table, where the variable names a place for them."""
    place = os.environ.get(REPORT)
    if not place or not _began:
        return
    asked = sum("cell" in getattr(item, "fixturenames", ()) for item in session.items)
    found = total(_rows, asked, time.monotonic() - _began[0])
    path = Path(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"total": found, "cells": _rows}
    path.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n")
    path.with_suffix(".md").write_text(f"{table(_rows)}\n{line(found)}\n")
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    reporter.write_line(f"\n{line(found)}: {path.with_suffix('.md')}")
