"""`summary.json`: what a stage tells the report, written by several hands."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graftwork_train.job import SUMMARY


def extend_summary(
    out: Path, *, tables: Sequence[Mapping[str, Any]] = (), notes: Sequence[str] = ()
) -> None:
    """Append tables and notes to the summary in folder `out`, or begin one.

    Raises:
        ValueError: a cell is not finite, which JSON cannot say.
    """
    path = out / SUMMARY
    summary = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    summary["tables"] = [*summary.get("tables", ()), *tables]
    summary["notes"] = [*summary.get("notes", ()), *notes]
    text = json.dumps(summary, indent=2, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
