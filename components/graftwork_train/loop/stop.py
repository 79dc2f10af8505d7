"""SIGTERM as a request: save, then leave."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType


class StopRequest:
    """A file that says "stop", since workers in other processes get no signal."""

    def __init__(self, scratch: Path) -> None:
        self.path = scratch / "stop"

    def made(self) -> bool:
        """Whether training should end after this step."""
        return self.path.exists()

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Turn SIGTERM into the request while training runs; deliver it once that has ended."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        if threading.current_thread() is not threading.main_thread():
            # Python delivers signals to the main thread only; whoever owns that decides.
            yield
            return

        def request(number: int, frame: FrameType | None) -> None:
            self.path.touch()

        previous = signal.signal(signal.SIGTERM, request)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, previous)
            if self.made():
                self.path.unlink()
                signal.raise_signal(signal.SIGTERM)
