"""The launcher's own metrics: how the RayJob of a step is, served for Prometheus.

They are only told, never waited for: where the port is taken the step runs on without them.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import get_args

from prometheus_client import CollectorRegistry, Gauge, start_http_server

from graftwork.cluster.names import job_name
from graftwork.cluster.status import JobStatus, Phase
from graftwork.metrics import LAUNCHER, LAUNCHER_PORT, RUN_VARIABLE, labels_of
from graftwork.metrics.grafana import step_link
from graftwork.step import Step


class JobMetrics:
    """The metrics of one RayJob.

    Args:
        labels: Of all of them: run, workflow, stage, step and rayjob.
        clock: Gives seconds.
    """

    def __init__(self, labels: dict[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        self.registry = CollectorRegistry()
        self._labels, self._clock = labels, clock
        self._gauges = {
            metric.name: Gauge(metric.name, metric.help, metric.labels, registry=self.registry)
            for metric in LAUNCHER
        }
        self._phases: set[str] = set()
        self._waited, self._looked = 0.0, clock()

    def update(self, status: JobStatus) -> None:
        """Take what the RayJob says of itself."""
        now = self._clock()
        if status.phase == "waiting":
            self._waited += now - self._looked
        self._looked = now
        for state in get_args(Phase):
            self._set("graftwork_step_state", state == status.phase, state=state)
        self._phases.add(status.deployment or "New")
        for phase in self._phases:
            current = phase == (status.deployment or "New")
            self._set("graftwork_rayjob_phase", current, phase=phase)
        self._set("graftwork_rayjob_attempts", status.attempts)
        self._set("graftwork_rayjob_waiting_seconds", self._waited)

    def _set(self, name: str, value: float, **more: str) -> None:
        self._gauges[name].labels(**self._labels, **more).set(value)


@contextmanager
def observing(
    step: Step, run_id: str, write: Callable[[str], object] = sys.stdout.write
) -> Iterator[Callable[[JobStatus], None]]:
    """Tell of a step's RayJob for the length of a block; gives what takes its states."""
    labels = labels_of(run=run_id, workflow=step.workflow, stage=step.stage, step=step.name)
    # The report, which this process writes as well, links to the metrics of this run.
    os.environ[RUN_VARIABLE] = run_id
    if step.execution.grafana:
        write(f"graftwork: metrics: {step_link(step.execution.grafana, **labels)}\n")
    metrics = JobMetrics({**labels, "rayjob": job_name(run_id, step.name)})
    with serving(metrics, write=write):
        yield metrics.update


@contextmanager
def serving(
    metrics: JobMetrics,
    port: int = LAUNCHER_PORT,
    write: Callable[[str], object] = sys.stdout.write,
) -> Iterator[int | None]:
    """Serve metrics for the length of a block.

    Gives the port, or None where it cannot be bound; `port` 0 takes any that is free.
    """
    try:
        server, thread = start_http_server(port, registry=metrics.registry)
    except OSError as error:
        write(f"graftwork: no metrics of this step's job: port {port}: {error.strerror}\n")
        yield None
        return
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
