"""Progress of a run as lines of JSON: steps append them, the live display reads them.

Only the standard library: the file is named by the environment variable `GRAFTWORK_PROGRESS`,
and where it is not set, nothing is written.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Literal

VARIABLE = "GRAFTWORK_PROGRESS"
Event = Literal["start", "skip", "wait", "progress", "done", "fail"]


def emit(event: Event, step: str, **details: float | str | None) -> None:
    """Append one event of the step named `step`.

    Common details: `done` and `total` (optimizer steps, documents, …) with their `unit`, `loss`,
    `tokens_per_second`, `message`.
    """
    path = os.environ.get(VARIABLE)
    if not path:
        return
    line = json.dumps({"time": time.time(), "event": event, "step": step, **details})
    # One write of one short line to a file opened for appending is not torn by other writers.
    # Progress is for whoever looks on: a full disk must fail the stage's own work, not this.
    with contextlib.suppress(OSError), open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")
