"""A Ray job's log, followed by offset: best effort, never the sign that a job has ended."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from typing import Any

from graftwork.units import format_number

_TIMEOUT = 5
_LARGEST = 64 * 2**20
# Ray has no way to ask for a part of a log; reading the whole of a long one may take a tenth of
# the time and no more.
_SHARE = 10


class LogFollower:
    """Gives what a job has printed since the last call.

    Ray serves a job's whole log at once; what was seen is skipped by its length, so that nothing
    is printed twice, and a new attempt (a new job id) begins at its own first line.
    """

    def __init__(self) -> None:
        self._job = ""
        self._seen = 0
        self._next = 0.0

    def read(self, dashboard: str, job_id: str, *, last: bool = False) -> str:
        """New lines of the job's log; empty where the head does not answer.

        Args:
            dashboard: Host and port of the head.
            job_id: Whose log.
            last: Whether nothing more will come, so that half a line is a line as well.
        """
        if not dashboard or not job_id or (time.monotonic() < self._next and not last):
            return ""
        if job_id != self._job:
            self._job, self._seen = job_id, 0
        begun = time.monotonic()
        whole = _fetch(f"http://{dashboard}/api/jobs/{job_id}/logs")
        self._next = time.monotonic() + _SHARE * (time.monotonic() - begun)
        end = len(whole) if last else whole.rfind("\n") + 1
        new, self._seen = whole[self._seen : end], max(self._seen, end)
        return "".join(map(in_words, new.splitlines(keepends=True)))


def _fetch(url: str) -> str:
    try:
        with urllib.request.urlopen(urllib.request.Request(url), timeout=_TIMEOUT) as response:
            return str(json.loads(response.read(_LARGEST)).get("logs") or "")
    except (urllib.error.URLError, OSError, ValueError):
        # The head may be starting or gone; RayJob.status tells which, not this.
        return ""


def in_words(line: str) -> str:
    """A line of a log, for people: a stage's progress in words, anything else as it is."""
    if not line.startswith('{"time": '):
        return line
    try:
        event = json.loads(line)
        return _progress(event) if event["event"] == "progress" else ""
    except (ValueError, KeyError, TypeError):
        return line


def _progress(event: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(event["time"], UTC).isoformat(timespec="milliseconds")
    text = (
        f"{at[:23]}Z {event['step']}: {event['done']:.0f} of {event['total']:.0f} {event['unit']}"
    )
    if event.get("loss") is not None:
        text += f", loss {event['loss']:.4g}"
    if event.get("tokens_per_second"):
        text += f", {format_number(event['tokens_per_second'])} tokens/s"
    return text + "\n"
