"""Progress of a run as lines of JSON: steps append them, the live display reads them.

Only the standard library: the file is named by the environment variable `GRAFTWORK_PROGRESS`,
and where it is not set, nothing is written. `GRAFTWORK_PROGRESS_EVERY` sets the fewest seconds
between two lines of progress of one step, for files that are kept, such as a job's log.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Mapping
from typing import Literal

VARIABLE = "GRAFTWORK_PROGRESS"
EVERY = "GRAFTWORK_PROGRESS_EVERY"
Event = Literal["start", "skip", "wait", "progress", "done", "fail"]


def emit(event: Event, step: str, **details: float | str | None) -> None:
    """Append one event of the step named `step`.

    Common details: `done` and `total` (optimizer steps, documents, …) with their `unit`, `loss`,
    `tokens_per_second`, `message`.
    """
    path = os.environ.get(VARIABLE)
    if not path or (event == "progress" and _too_soon(step, details)):
        return
    line = json.dumps({"time": time.time(), "event": event, "step": step, **details})
    # One write of one short line to a file opened for appending is not torn by other writers.
    # Progress is for whoever looks on: a full disk must fail the stage's own work, not this.
    with contextlib.suppress(OSError), open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")


_told: dict[str, float] = {}


def _too_soon(step: str, details: Mapping[str, object]) -> bool:
    """Whether a step's last line was a moment ago; its end is always told."""
    now = time.monotonic()
    wait = float(os.environ.get(EVERY) or 0)
    if now - _told.get(step, -math.inf) < wait and details.get("done") != details.get("total"):
        return True
    _told[step] = now
    return False
