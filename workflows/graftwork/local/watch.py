"""What the steps of a run are doing, read from their progress file."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

State = Literal[
    "waiting", "running", "held", "done", "reused", "left_out", "interrupted", "failed", "blocked"
]


@dataclass
class Status:
    """One step as it is now.

    Attributes:
        state: `held` while another run makes the same artifact; `reused`: done earlier;
            `left_out` by its condition; `blocked` by another step's failure.
        began, ended: Times in seconds since the epoch; 0 if not yet.
        done, total: Progress in `unit`; the total is 0 where it is not known.
        resumed: Where the progress stood when it was first heard of, and when.
        made: When this run began and ended making it; a later skip does not count.
    """

    name: str
    kind: str
    state: State = "waiting"
    began: float = 0.0
    ended: float = 0.0
    done: float = 0.0
    total: float = 0.0
    unit: str = ""
    loss: float | None = None
    tokens_per_second: float | None = None
    message: str = ""
    remedy: str = ""
    corrupt: str = ""
    resumed: tuple[float, float] = (0.0, 0.0)
    made: tuple[float, float] = (0.0, 0.0)

    def take(self, event: dict[str, Any]) -> None:
        """Take in one event of `graftwork.progress`."""
        kind, now = event["event"], float(event["time"])
        if kind == "start":
            self.state, self.began, self.ended, self.message = "running", now, 0.0, ""
        elif kind == "wait":
            self.state, self.message = "held", str(event.get("message") or "")
        elif kind == "progress":
            self._progress(event, now)
        elif kind == "skip":
            self._skip(event, now)
        elif kind == "done":
            self.state, self.ended = "done", now
            self.made = (self.began, now)
        elif kind == "fail":
            self._fail(event, now)
        self.loss = event.get("loss") or self.loss

    def _progress(self, event: dict[str, Any], now: float) -> None:
        self.state = "running"
        unit = str(event.get("unit") or "")
        self.done, self.total = float(event.get("done") or 0), float(event.get("total") or 0)
        if unit != self.unit or not self.resumed[1] or self.done < self.resumed[0]:
            self.unit, self.resumed = unit, (self.done, now)
        self.tokens_per_second = event.get("tokens_per_second")

    def reuse(self, loss: float | None) -> None:
        """It was done before the run came to it."""
        if not self.made[1]:
            self.state, self.began = "reused", time.time()
            self.ended, self.loss = self.began, loss

    def _skip(self, event: dict[str, Any], now: float) -> None:
        self.message, self.ended = str(event.get("message") or ""), now
        if event.get("why") != "done":
            self.state = "left_out"
        elif self.made[1]:
            self.state, (self.began, self.ended) = "done", self.made
        else:
            self.state = "reused"

    def _fail(self, event: dict[str, Any], now: float) -> None:
        if self.state == "failed":
            return  # the first message is the cause, the launcher's comes after it
        self.state, self.ended = "failed", now
        self.message = str(event.get("message") or "")
        self.remedy = str(event.get("remedy") or "")
        self.corrupt = str(event.get("corrupt") or "")

    @property
    def seconds(self) -> float:
        """Since it began, until it ended or now."""
        return (self.ended or time.time()) - self.began if self.began else 0.0

    @property
    def remaining(self) -> float | None:
        """Seconds still to go at the pace so far, or None while nobody can tell."""
        done, since = self.resumed
        elapsed = time.time() - since
        if self.state != "running" or self.done <= done or self.total <= self.done:
            return None
        return elapsed * (self.total - self.done) / (self.done - done)


@dataclass
class Watch:
    """The steps of a run, kept up to date from the file that they append to."""

    path: Path
    steps: dict[str, Status]
    _offset: int = 0
    _rest: bytes = field(default=b"")
    _free: float = 0.0

    @classmethod
    def of(cls, path: Path, steps: Iterable[tuple[str, str]]) -> Watch:
        """Watch `steps` (name and kind, in the order of the plan)."""
        return cls(path, {name: Status(name, kind) for name, kind in steps})

    def read(self) -> list[Status]:
        """Take in what was appended since the last call; the steps that it was about."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        touched: dict[str, Status] = {}
        for line in lines:
            event = json.loads(line)
            status = self.steps.get(event["step"])
            if status is not None:
                self._take(status, event)
                touched[status.name] = status
            elif event["event"] == "start":
                self._free = float(event["time"])
        return list(touched.values())

    def _take(self, status: Status, event: dict[str, Any]) -> None:
        # Steps run one after the other, so that each began when the one before it ended,
        # whatever KFP and it had to do before it could say so.
        status.take(event)
        if event["event"] == "start" and self._free:
            status.began = self._free
        if status.ended:
            self._free = status.ended

    def finish(self, interrupted: bool) -> list[Status]:
        """The run is over: what has not ended never will. The steps, in the plan's order."""
        self.read()
        reason = "the run was interrupted" if interrupted else "an earlier step failed"
        for status in self.steps.values():
            if status.state in ("running", "held"):
                status.state = "interrupted" if interrupted else "failed"
                status.ended = time.time()
                status.message = reason if interrupted else "it did not end"
            elif status.state == "waiting":
                status.state, status.message = "blocked", reason
        return list(self.steps.values())

    @property
    def failed(self) -> Status | None:
        """The step that failed, if one did."""
        return next((one for one in self.steps.values() if one.state == "failed"), None)
