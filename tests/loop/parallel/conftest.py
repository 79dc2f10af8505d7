"""Gangs of workers that live as long as the tests of this folder."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from graftwork_train.loop.place import Place

MEMBER = Path(__file__).with_name("member.py")


class Gang:
    """Worker processes that train the same case together."""

    def __init__(self, workers: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.members = [
            subprocess.Popen(
                [sys.executable, str(MEMBER), str(rank), str(workers), str(port)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
            )
            for rank in range(workers)
        ]

    def train(self, **case: Any) -> list[Any]:
        """What every worker answers, by rank."""
        try:
            for member in self.members:
                pickle.dump(case, member.stdin)
                member.stdin.flush()
            return [pickle.load(member.stdout) for member in self.members]
        except (EOFError, OSError):
            # The others wait for it in vain.
            self.close(kill=True)
            raise AssertionError("a worker died; its traceback is on standard error") from None

    @property
    def alive(self) -> bool:
        """Whether all workers are still there."""
        return all(member.poll() is None for member in self.members)

    def close(self, *, kill: bool = False) -> None:
        """End the workers, once they have answered, or at once."""
        for member in self.members:
            if kill:
                member.kill()
            with contextlib.suppress(OSError):
                member.stdin.close()
        for member in self.members:
            member.wait(60)
            member.stdout.close()


@pytest.fixture(scope="session")
def gang() -> Iterator[Callable[[int], Gang]]:
    """Gangs by their number of workers, started when first asked for."""
    started: dict[int, Gang] = {}

    def of(workers: int) -> Gang:
        if workers in started and not started[workers].alive:
            started.pop(workers).close(kill=True)
        if workers not in started:
            started[workers] = Gang(workers)
        return started[workers]

    yield of
    for one in started.values():
        one.close()


@pytest.fixture(scope="session")
def alone() -> Callable[..., Any]:
    """What one worker makes of a case, in this process."""
    spec = importlib.util.spec_from_file_location("member", MEMBER)
    member = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(member)
    return lambda **case: member.train(case, Place())["trained"]
