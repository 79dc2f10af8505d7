"""The training process of a step on this machine, and its end, however it comes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import IO

from graftwork.progress import emit
from graftwork.spawn import Process, spawn
from graftwork.step import Step
from graftwork.store.lease import Lease

# From SIGTERM to SIGKILL, for whatever a stage has to put down.
GRACE_SECONDS = 5.0


class Stopped(BaseException):
    """We were asked to end; `number` is the signal."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(number)


def run_child(step: Step, lease: Lease) -> int:
    """Run `python -m graftwork_train.run` for the step and pass its output through.

    The child leads a process group of its own and inherits the lease, so that it can be ended
    with all its children, and nobody takes the lease while any of them lives.

    Returns:
        The exit code; 128 and the signal's number where a signal ended it.
    """
    with tempfile.TemporaryDirectory(prefix="graftwork-") as folder:
        path = Path(folder) / "step.json"
        path.write_text(step.dumps(), encoding="utf-8")
        child = spawn(step, path, lease)
        assert child.stdout is not None  # it is a pipe, as was asked for
        copier = _copy(child.stdout, step.name)
        try:
            code = child.wait()
        finally:
            end_group(child)
            copier.join(timeout=2)
    if code < 0:
        _explain_signal(step, -code)
        return 128 - code
    return code


def end_group(child: Process, grace: float = GRACE_SECONDS) -> None:
    """End a child that leads a process group, and everything it started."""
    if child.poll() is None:
        _signal_group(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=grace)
    _signal_group(child.pid, signal.SIGKILL)
    child.wait()


def _signal_group(group: int, number: int) -> None:
    # The group may be gone, or (macOS) consist of a zombie only.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` on SIGTERM and SIGINT, once; only the main thread can take signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise Stopped(number)

    handlers: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}
    for number in (int(signal.SIGTERM), int(signal.SIGINT)):
        handlers[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _copy(source: IO[bytes], name: str) -> threading.Thread:
    """Pass the child's output through, and into `$GRAFTWORK_LOGS/<step>.log` where that is set."""
    folder = os.environ.get("GRAFTWORK_LOGS")
    log = Path(folder) / f"{name}.log" if folder else None

    def copy() -> None:
        with source:
            for line in source:
                # A disk that is full is told by the stage; its output must be read all the same,
                # or it would wait for ever to write it.
                with contextlib.suppress(OSError):
                    sys.stdout.buffer.write(line)
                    sys.stdout.buffer.flush()
                with contextlib.suppress(OSError):
                    _append(log, line)

    # A thread, since a daemon that the stage left behind would keep the pipe open for ever.
    thread = threading.Thread(target=copy, daemon=True, name="graftwork-output")
    thread.start()
    return thread


def _append(log: Path | None, line: bytes) -> None:
    if log is not None:
        with log.open("ab") as file:
            file.write(line)


def _explain_signal(step: Step, number: int) -> None:
    name = signal.Signals(number).name
    message = f"{step.name}: its process was ended by {name}"
    remedy = "Run the workflow again: it goes on from the last checkpoint."
    if number == signal.SIGKILL:
        message += ", most likely because the machine ran out of memory"
        remedy = "Use a smaller micro_batch or model, or a machine with more memory."
    sys.stdout.write(f"graftwork: {message}\n    {remedy}\n")
    emit("fail", step.name, message=message, remedy=remedy)
