"""Finding and ending the processes of a run.

Every process that a run starts inherits the variable `GRAFTWORK_RUN` with the run's name. On
Linux that finds them all, daemons included (Ray's start sessions of their own); elsewhere a run
ends its process groups.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

VARIABLE = "GRAFTWORK_RUN"
GRACE_SECONDS = 7.0


def marked(run: str) -> list[int]:
    """Processes other than this one that belong to the run; zombies do not count."""
    mark = f"{VARIABLE}={run}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        # Processes of other users cannot be read, and any may end while we look.
        with contextlib.suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return [process for process in found if process != os.getpid()]


def end_group(child: subprocess.Popen[bytes], grace: float = GRACE_SECONDS) -> None:
    """Ask all of a group that the child leads to end, with SIGKILL for what is left after it."""
    deadline = time.monotonic() + grace
    _kill(child.pid, signal.SIGTERM, group=True)
    while _lives(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    _kill(child.pid, signal.SIGKILL, group=True)
    child.wait()


def _lives(child: subprocess.Popen[bytes]) -> bool:
    """Whether any process of the group is left; the child, once over, is reaped first."""
    child.poll()
    try:
        os.killpg(child.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def sweep(run: str, grace: float = GRACE_SECONDS) -> None:
    """End every process of the run: SIGTERM, and after `grace` seconds SIGKILL."""
    deadline = time.monotonic() + grace
    for process in marked(run):
        _kill(process, signal.SIGTERM)
    while marked(run) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in marked(run):
        _kill(process, signal.SIGKILL)


def _kill(process: int, number: int, *, group: bool = False) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        (os.killpg if group else os.kill)(process, number)
