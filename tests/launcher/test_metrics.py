"""The launcher's metrics: how a RayJob is, served for as long as it is followed."""

import socket
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from graftwork.cluster.metrics import JobMetrics, observing, serving
from graftwork.cluster.names import job_name
from graftwork.cluster.status import read_status
from graftwork.metrics import LAUNCHER, RUN_VARIABLE

LABELS = {"run": "r1", "workflow": "tour", "stage": "base", "step": "base", "rayjob": "base-0"}


def status(deployment, job="", failed=0):
    return read_status(
        {"status": {"jobDeploymentStatus": deployment, "jobStatus": job, "failed": failed}}
    )


def served(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        text = response.read().decode()
    return [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


def value(samples, name, **labels):
    (found,) = [v for n, have, v in samples if n == name and labels.items() <= have.items()]
    return found


@pytest.fixture
def clock():
    class Clock:
        now = 100.0

        def __call__(self):
            return self.now

    return Clock()


def test_state_phase_attempts_and_waiting_are_told_with_labels(clock):
    metrics = JobMetrics(LABELS, clock)
    with serving(metrics, port=0) as port:
        metrics.update(status(""))
        clock.now += 5
        metrics.update(status("Initializing"))
        clock.now += 7
        metrics.update(status("Running", "RUNNING", failed=1))
        clock.now += 60
        metrics.update(status("Running", "RUNNING", failed=1))
        samples = served(port)
    assert {name for name, _, _ in samples} == {metric.exposed for metric in LAUNCHER}
    assert all(LABELS.items() <= labels.items() for _, labels, _ in samples)
    assert value(samples, "graftwork_step_state", state="running") == 1
    assert value(samples, "graftwork_step_state", state="waiting") == 0
    assert value(samples, "graftwork_rayjob_phase", phase="Running") == 1
    assert value(samples, "graftwork_rayjob_phase", phase="Initializing") == 0
    assert value(samples, "graftwork_rayjob_attempts") == 2
    assert value(samples, "graftwork_rayjob_waiting_seconds") == 5


def test_where_the_port_is_taken_the_step_runs_on_and_says_so():
    said = []
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with serving(JobMetrics(LABELS), port, said.append) as served_at:
            assert served_at is None
    assert said == [f"graftwork: no metrics of this step's job: port {port}: {ADDRESS_IN_USE}\n"]


ADDRESS_IN_USE = "Address already in use"


def test_a_step_with_a_grafana_links_to_its_metrics_in_its_log(step, monkeypatch):
    monkeypatch.setenv(RUN_VARIABLE, "")  # so that it is put back
    said = []
    with observing(step(), "r1", said.append) as observe:
        observe(status("Running", "RUNNING"))
    assert not [line for line in said if "grafana" in line]
    made = step()
    execution = made.execution.model_copy(update={"grafana": "https://grafana.example.com"})
    with observing(made.model_copy(update={"execution": execution}), "r1", said.append):
        pass
    (line,) = [line for line in said if "grafana" in line]
    assert "/d/graftwork-training?var-workflow=tour&var-stage=base" in line
    assert "var-run=r1" in line
    assert job_name("r1", "base").startswith("base-")
