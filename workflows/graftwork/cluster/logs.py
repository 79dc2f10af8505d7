"""A Ray job's log, followed by offset: best effort, never the sign that a job has ended."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

_TIMEOUT = 5
_LARGEST = 64 * 2**20


class LogFollower:
    """Gives what a job has printed since the last call.

    Ray serves a job's whole log at once; what was seen is skipped by its length, so that nothing
    is printed twice, and a new attempt (a new job id) begins at its own first line.
    """

    def __init__(self) -> None:
        self._job = ""
        self._seen = 0
        self.text = ""

    def read(self, dashboard: str, job_id: str) -> str:
        """New text of the job's log; empty where the head does not answer."""
        if not dashboard or not job_id:
            return ""
        if job_id != self._job:
            self._job, self._seen = job_id, 0
        request = urllib.request.Request(f"http://{dashboard}/api/jobs/{job_id}/logs")
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
                whole = str(json.loads(response.read(_LARGEST)).get("logs") or "")
        except (urllib.error.URLError, OSError, ValueError):
            # The head may be starting or gone; RayJob.status tells which, not this.
            return ""
        new, self._seen = whole[self._seen :], len(whole)
        self.text += new
        return new
