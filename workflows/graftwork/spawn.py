"""Starting a step's training process: a new one, or a fork of a warm one (`graftwork_train.warm`).

Either way it leads a process group of its own, and holds the lease as long as it lives.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Protocol

from graftwork.step import Step
from graftwork.store.lease import Lease

# Names the socket of the run's warm process.
VARIABLE = "GRAFTWORK_WARM"
# Stages that import neither torch nor Ray Train: they start as fast by themselves.
COLD = frozenset({"select", "prepare", "compare"})
LENGTH_BYTES = 8


class Process(Protocol):
    """A process that leads a group; the part of `subprocess.Popen` that we need."""

    pid: int
    stdout: IO[bytes] | None

    def poll(self) -> int | None:
        """The exit code, or None while it runs; negative where a signal ended it."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """


def spawn(step: Step, path: Path, lease: Lease) -> Process:
    """Start `graftwork_train.run` on the step file, by the warm process if the run has one."""
    environment = {**os.environ, "GRAFTWORK_STARTED": repr(time.time())}
    warm = environment.pop(VARIABLE, None)
    if warm and step.spec.kind not in COLD:
        try:
            return Forked(warm, path, lease, environment)
        except OSError:
            pass  # it did not survive its imports, or was ended: a new process does as well
    return subprocess.Popen(
        [sys.executable, "-m", "graftwork_train.run", str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
        pass_fds=() if lease.handle is None else (lease.handle,),
        env=environment,
    )


class Forked:
    """A fork of the warm process, which tells us how it ends."""

    def __init__(self, warm: str, path: Path, lease: Lease, environment: dict[str, str]) -> None:
        self._code: int | None = None
        with contextlib.ExitStack() as undo:
            self._server = undo.enter_context(socket.socket(socket.AF_UNIX))
            self._server.connect(warm)
            # Unbuffered, so that a reply which is there shows in `select`.
            self._replies = undo.enter_context(self._server.makefile("rb", buffering=0))
            read, write = os.pipe()
            self.stdout: IO[bytes] | None = undo.enter_context(os.fdopen(read, "rb"))
            self._ask(write, lease, path, environment)
            self.pid = int(self._reply())
            undo.pop_all()

    def _ask(self, output: int, lease: Lease, path: Path, environment: dict[str, str]) -> None:
        request = {"arguments": [str(path)], "environment": environment, "folder": os.getcwd()}
        text = json.dumps(request).encode()
        handles = [output] if lease.handle is None else [output, lease.handle]
        try:
            socket.send_fds(self._server, [len(text).to_bytes(LENGTH_BYTES)], handles)
            self._server.sendall(text)
        finally:
            os.close(output)

    def _reply(self) -> bytes:
        line = self._replies.readline()
        if not line:
            raise ConnectionResetError("the warm process has ended")
        return line

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        try:
            return self.wait(timeout=0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code; the end of the warm process is the end of its forks."""
        if self._code is None:
            ready, _, _ = select.select([self._server], [], [], timeout)
            if not ready:
                raise subprocess.TimeoutExpired("graftwork_train.run", timeout or 0)
            try:
                self._code = int(self._reply())
            except ConnectionResetError:
                self._code = -signal.SIGKILL
            self._replies.close()
            self._server.close()
        return self._code
