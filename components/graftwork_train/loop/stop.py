"""SIGTERM as a request: save, then leave."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from graftwork.errors import RunError
from graftwork.store.attempts import Workspace
from graftwork.store.patience import impatient

# Seconds between looks at a remote request; on this machine one is seen at the next step.
LOOK = 2.0


class StopRequest:
    """A file that says "stop", since workers in other processes get no signal.

    It lies on this machine, and in the workspace too, where that is another one's: workers may
    share no disk with the driver.

    Args:
        scratch: Local folder.
        workspace: The run's; a request is for this run only.
    """

    def __init__(self, scratch: Path, workspace: Workspace) -> None:
        self.path = scratch / "stop"
        self._workspace = workspace
        self._files = workspace.files()
        self._uri = workspace.path(f"stop-{workspace.run}")
        self._seen = threading.Event()
        self._ended = threading.Event()
        self._sender: threading.Thread | None = None

    def made(self) -> bool:
        """Whether training should end after this step; costs no look at a remote storage."""
        return self._seen.is_set() or self.path.exists()

    @contextlib.contextmanager
    def listen(self) -> Iterator[None]:
        """Look for a request in a remote workspace, now and then, in a thread."""
        if self._files.local:
            yield
            return

        def look() -> None:
            while not self._ended.wait(LOOK):
                # The next look may find the storage again.
                with contextlib.suppress(RunError), impatient():
                    if self._files.read(self._uri) is not None:
                        self._seen.set()
                        return

        thread = threading.Thread(target=look, daemon=True, name="graftwork-stop")
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Turn SIGTERM into the request while training runs; deliver it once that has ended."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        if threading.current_thread() is not threading.main_thread():
            # Python delivers signals to the main thread only; whoever owns that decides.
            yield
            return
        previous = signal.signal(signal.SIGTERM, self._request)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, previous)
            if self._sender is not None:
                self._sender.join()
            if self.made():
                self.path.unlink(missing_ok=True)
                signal.raise_signal(signal.SIGTERM)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.path.touch()
        if not self._files.local and self._sender is None:
            # Not here: a signal may have come in the middle of another call to the storage.
            self._sender = threading.Thread(target=self._send, name="graftwork-stop-sender")
            self._sender.start()

    def _send(self) -> None:
        with contextlib.suppress(RunError):  # workers that cannot be told are ended with the job
            self._files.write(self._uri, b"stop")
