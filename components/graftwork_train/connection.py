"""A Ray to work with: the one that is up, or a fresh one on this machine that is stopped again."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator

import ray

from graftwork.errors import RunError

# Ray gives its own processes 30 seconds to start, which a busy machine may miss once.
STARTS = 3


@contextlib.contextmanager
def connected(cores: int) -> Iterator[None]:
    """Connect to the Ray at $RAY_ADDRESS, or start one with so many cores and stop it at the end.

    Raises:
        RunError: Ray does not start.
    """
    if ray.is_initialized():
        yield
        return
    # Nothing is sent to anyone, and what workers print is not the step's log.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with _own_signals():
        _start(cores)
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Put SIGTERM's handler back: Ray's own, which it leaves, exits before anything is saved."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _start(cores: int) -> None:
    for attempt in range(1, STARTS + 1):
        try:
            if os.environ.get("RAY_ADDRESS"):
                ray.init(log_to_driver=False, logging_level=logging.WARNING)
            else:
                ray.init(
                    address="local",
                    num_cpus=cores,
                    include_dashboard=False,
                    _node_ip_address="127.0.0.1",
                    log_to_driver=False,
                    logging_level=logging.WARNING,
                )
        except Exception as error:  # Ray raises bare Exceptions when it does not start
            ray.shutdown()
            if attempt == STARTS:
                raise RunError(
                    f"Ray did not start: {str(error).splitlines()[0]}",
                    "Try again on a less busy machine, or set the pool's 'workers' to 1.",
                ) from error
        else:
            return
