"""Training loops that take turns of one step, each in a process of its own.

In one process each loop that drives itself would need a thread, and each thread that calculates
gets OpenMP threads of its own, more of them than there are cores. No training is like that.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import time
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import NoReturn

# Linux's PR_SET_PDEATHSIG.
_PARENT_DEATH = 1

Hold = Callable[[], None]
"""To be called at the end of each step; returns when it is the loop's turn again."""
Drive = Callable[[Hold], object]
"""Runs a training loop; can be pickled."""


def steps(make: Callable[[], Callable[[], object]], hold: Hold) -> NoReturn:
    """Drive a loop that is a function of one step.

    Args:
        make: Makes the function.
        hold: See `Hold`.
    """
    step = make()
    while True:
        step()
        hold()


class Player:
    """A loop in a process that stands still while it is not its turn.

    Args:
        drive: Runs the loop.
        threads: For torch.
    """

    def __init__(self, drive: Drive, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(drive, threads, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def step(self) -> float:
        """Seconds of one step; the first one is with everything that comes before it.

        Raises:
            RuntimeError: the loop failed, or came to its end.
        """
        os.kill(self._process.pid or 0, signal.SIGCONT)
        self._ours.send(None)
        try:
            told = self._ours.recv()
        except EOFError:
            told = "its process ended"
        # Threads that would go on beside the next loop stand still, too.
        os.kill(self._process.pid or 0, signal.SIGSTOP)
        # The signal takes effect later; what has ended is left for `close` to collect.
        os.waitid(os.P_PID, self._process.pid or 0, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if isinstance(told, str):
            raise RuntimeError(f"a loop stopped: {told}")
        return float(told)

    def close(self) -> None:
        """End the loop where it is."""
        self._process.kill()
        self._process.join()


def _serve(drive: Drive, threads: int, connection: Connection) -> None:
    import torch  # noqa: PLC0415 - after the process has begun

    # Who stands still when the parent is killed would do so for ever.
    ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGKILL)
    # What is printed is the parent's one JSON object; the others' loops print what they like.
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    connection.recv()
    began = time.perf_counter()

    def hold() -> None:
        nonlocal began
        connection.send(time.perf_counter() - began)
        connection.recv()
        began = time.perf_counter()

    try:
        drive(hold)
        connection.send("it came to its end")
    except Exception:
        connection.send(traceback.format_exc())
        raise
