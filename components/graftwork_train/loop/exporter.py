"""From values to Ray's own metrics endpoint, without keeping the training.

A worker process of Ray sets Ray's gauges itself. A training that runs outside of Ray's workers, as
a pool of one worker does on a cluster, is no client of Ray and does not become one: it writes its
values into the pipe of a small process beside it, `python -m graftwork_train.loop.exporter`, which
connects to Ray in its own time and may fail without anybody noticing. Values that do not fit into
the pipe are dropped. Where there is no Ray, there is neither.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from typing import Protocol

import ray
from ray.util.metrics import Counter, Gauge

from graftwork.metrics import METRICS_ADDRESS, find

REPEAT_SECONDS = 5.0
LOOPBACK = ("127.", "localhost")


class Sink(Protocol):
    """Where values go."""

    def send(self, values: Mapping[str, float]) -> None:
        """Take values by the names of the registry; a counter's is added to it."""

    def close(self) -> None:
        """There is nothing more to come."""


class RaySink:
    """Sets Ray's metrics; for a process that is connected to Ray.

    Ray passes a gauge on once for each time that it is set, and forgets it after two intervals of
    ten seconds. A thread sets all of them again before that, for as long as the training lives.

    Args:
        labels: Of all values.
    """

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._labels = dict(labels)
        self._metrics: dict[str, Gauge | Counter] = {}
        self._last: dict[str, float] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="metrics", daemon=True)
        self._thread.start()

    def send(self, values: Mapping[str, float]) -> None:
        """Set gauges, add to counters."""
        for name, value in values.items():
            metric = self._metric(name)
            if isinstance(metric, Counter):
                metric.inc(value, self._labels)
            else:
                metric.set(value, self._labels)
                self._last[name] = value

    def close(self) -> None:
        """Say nothing any more; Ray sends what is left by itself."""
        self._closed.set()
        self._thread.join(timeout=5)

    def _repeat(self) -> None:
        while not self._closed.wait(REPEAT_SECONDS):
            self.send(dict(self._last))

    def _metric(self, name: str) -> Gauge | Counter:
        if name not in self._metrics:
            metric = find(name)
            make = Counter if metric.kind == "counter" else Gauge
            self._metrics[name] = make(name, metric.help, metric.labels)
        return self._metrics[name]


class PipeSink:
    """Hands values to an exporter process; never waits for it.

    Args:
        labels: Of all values.
        address: Of the Ray that exports them.
    """

    def __init__(self, labels: Mapping[str, str], address: str) -> None:
        env = {**os.environ, "RAY_ADDRESS": address}
        if not address.startswith(LOOPBACK):
            # This process keeps Ray to the loopback interface, see graftwork_train/__init__.py.
            env.pop("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", None)
        # What Ray says of its own must not get into the step's log.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "graftwork_train.loop.exporter", json.dumps(dict(labels))],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if self._process.stdin is None:
            raise AssertionError("the process was started with a pipe")
        self._pipe = self._process.stdin.fileno()
        os.set_blocking(self._pipe, False)

    def send(self, values: Mapping[str, float]) -> None:
        """Write a line; it is dropped where the process is behind, or gone."""
        line = json.dumps(values) + "\n"
        # A short line goes into a pipe whole or not at all (POSIX: up to 512 bytes; Linux: 4096).
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self._pipe, line.encode())

    def close(self) -> None:
        """Let the process end once it has passed everything on; nobody waits for that."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()


def exports() -> bool:
    """Whether this process's values go anywhere: there is a Ray that takes them."""
    return ray.is_initialized() or bool(os.environ.get(METRICS_ADDRESS))


def sink(labels: Mapping[str, str]) -> Sink | None:
    """Where this process's values go; None where there is no Ray that would export them."""
    if ray.is_initialized():
        return RaySink(labels)
    address = os.environ.get(METRICS_ADDRESS)
    return PipeSink(labels, address) if address else None


def serve(lines: Iterable[str], labels: Mapping[str, str]) -> None:
    """Pass on what comes, to the end."""
    to_ray = RaySink(labels)
    for line in lines:
        to_ray.send(json.loads(line))
    to_ray.close()


def main(labels: str) -> None:
    """Connect to the Ray at $RAY_ADDRESS, and pass on what comes on standard input."""
    ray.init(log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    # The training ends by these; this ends by the end of its input, with the last values sent.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    serve(sys.stdin, json.loads(labels))
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
