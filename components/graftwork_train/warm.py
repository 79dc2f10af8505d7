"""`python -m graftwork_train.warm SOCKET KIND…`: a process that has its imports behind it.

Importing torch and Ray Train takes seconds, more than many a small stage. So a local run starts
this process once: it imports the stages that the run needs and then forks a child for every step
that it is asked to run. It computes nothing itself, starts no Ray and touches no GPU, so that a
child begins as a new process would. A request is one connection: the length of a JSON text, with
the descriptors for output and lease, then the text; the replies are the child's process id and,
at its end, its exit code, a line each.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
from dataclasses import dataclass
from typing import Any, NoReturn

from graftwork_train.run import import_stage, main

LENGTH_BYTES = 8
DESCRIPTORS = 2


@dataclass(frozen=True, slots=True)
class Request:
    """A step to run: what `graftwork_train.run` is called with, and where."""

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    output: int
    lease: int | None


def serve(path: str, kinds: list[str]) -> NoReturn:
    """Import the stages, then fork for every request until we are ended."""
    # Whoever asks while we import waits in the queue of the socket.
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(path)
        door.listen()
        for kind in kinds:
            import_stage(kind)
        gc.freeze()  # nor shall the collector of a child touch what it shares
        ended, wake = socket.socketpair()
        ended.setblocking(False)
        wake.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        while True:
            connection, _ = door.accept()
            with connection:
                request = receive(connection)
                child = os.fork()
                if child == 0:
                    for descriptor in (door, connection, ended, wake):
                        descriptor.close()
                    finish(become(request))
                _follow(child, request, connection, ended)


def receive(connection: socket.socket) -> Request:
    """Read one request."""
    head, descriptors, _, _ = socket.recv_fds(connection, LENGTH_BYTES, DESCRIPTORS)
    text = b""
    while len(text) < int.from_bytes(head):
        text += connection.recv(2**16)
    data: dict[str, Any] = json.loads(text)
    output, *lease = descriptors
    return Request(**data, output=output, lease=lease[0] if lease else None)


def become(request: Request) -> int:
    """In the child: be the process that the request asks for; its exit code."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setpgid(0, 0)
    os.dup2(request.output, 1)
    os.dup2(request.output, 2)
    os.close(request.output)
    os.environ.clear()
    os.environ.update(request.environment)
    os.chdir(request.folder)
    return main(request.arguments)


def finish(code: int) -> NoReturn:
    """In the child: end at once, after what was left to be done at the end.

    To take the interpreter down in good order would touch every object, and so copy every page
    that the child shares with its parent: two seconds for nothing.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _follow(child: int, request: Request, connection: socket.socket, ended: socket.socket) -> None:
    """In the parent: report the child's id and exit code; end it if nobody is there to listen."""
    os.close(request.output)
    if request.lease is not None:
        os.close(request.lease)
    with contextlib.suppress(PermissionError, ProcessLookupError):
        os.setpgid(child, child)  # also done by the child; whoever comes first
    _reply(connection, child)
    while True:
        ready, _, _ = select.select([connection, ended], [], [])
        if ended in ready:
            ended.recv(2**10)
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            _reply(connection, os.waitstatus_to_exitcode(status))
            return
        if connection in ready:
            # Nothing more is ever sent to us: the launcher is gone.
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return


def _reply(connection: socket.socket, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # the loop above notices that nobody listens
        connection.sendall(f"{number}\n".encode())


def _end_with_parent() -> None:
    if sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG in prctl(2)
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


if __name__ == "__main__":
    _end_with_parent()
    serve(sys.argv[1], sys.argv[2:])
