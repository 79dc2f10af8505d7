"""Profiler traces on request: what the first worker does in a few steps, operator by operator.

A trace is a file for chrome://tracing or Perfetto. It lies beside the artifacts and not in one,
since it says how a stage ran and not what it made:

    <root>/.profiles/<stage>/<fingerprint>/steps-10-13.json.gz
"""

from __future__ import annotations

import posixpath
import tempfile
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from graftwork.spec.profile import Profile
from graftwork.spec.resources import Storage
from graftwork.store.files import files_for


class Profiler:
    """Records the steps that a stage asks for.

    Args:
        wanted: The stage's word; None records nothing.
        folder: URI to write to.
        storage: How to reach it.
        gpu: Whether there is a GPU to look at.
    """

    def __init__(self, wanted: Profile | None, folder: str, storage: Storage, *, gpu: bool) -> None:
        self.notes: list[str] = []
        self._first, self._last = wanted.steps if wanted else (0, -1)
        self._folder, self._storage = folder, storage
        self._activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * gpu
        self._running: profile | None = None
        self._began = self._at = 0

    def __enter__(self) -> Profiler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def before(self, step: int) -> None:
        """Begin to record, if this step, counted from 1, is the first that is wanted."""
        self._at = step
        if self._running is None and self._first <= step <= self._last:
            self._running, self._began = profile(activities=self._activities), step
            self._running.start()

    def after(self, step: int) -> None:
        """Write the trace, if this step was the last that is wanted."""
        if self._running is not None and step >= self._last:
            self.close()

    def close(self) -> None:
        """Write what was recorded, if anything.

        Raises:
            RunError: the storage refuses.
        """
        if self._running is None:
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        running, self._running = self._running, None
        running.stop()
        uri = posixpath.join(self._folder, f"steps-{self._began}-{self._at}.json.gz")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.json.gz"
            running.export_chrome_trace(str(path))
            files_for(uri, self._storage).save(uri, memoryview(path.read_bytes()))
        self.notes.append(f"Steps {self._began} to {self._at} were profiled; the trace is {uri}.")
