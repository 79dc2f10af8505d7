"""What is exported arrives: a real Prometheus scrapes a real Ray on which a training runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from graftwork.cluster.metrics import JobMetrics, serving
from graftwork.cluster.rayjob import entrypoint
from graftwork.cluster.status import read_status
from graftwork.metrics import LAUNCHER, METRICS_ADDRESS, RUN_VARIABLE, TRAINING, labels_of
from graftwork.metrics.alerts import alerts

STEPS = 100_000
SPEC = {
    "metadata": {"name": "measured"},
    "corpora": {"python": {"source": "stdlib", "domains": ["prose"], "limit": "60k"}},
    "pools": {"two": {"workers": 2, "accelerator_peak": "1e12 flops/s"}},
    "stages": {
        "tokens": {"prepare": {"from": "python", "tokenizer": "bytes", "context": 32}},
        "experts": {
            "train": {
                "data": "tokens",
                "model": {
                    "layers": 2, "width": 32, "heads": 2, "experts": {"count": 4, "top_k": 2},
                },
                "budget": f"{STEPS} steps",
                "batch": "4 sequences",
                "log_every": 5,
                "checkpoint_every": 20,
            }
        },
    },
}  # fmt: skip
# Nothing is exported of a device whose peak nobody knows; here the pool names one.
ALL = {metric.exposed for metric in TRAINING}


@contextmanager
def training(folder: Path, workers: int, **environment: str) -> Iterator[None]:
    """A process that trains for the length of a block; it would go on for long."""
    spec = json.loads(json.dumps(SPEC))
    spec["storage"] = {"root": str(folder / "runs")}
    spec["pools"]["two"]["workers"] = workers
    spec["stages"]["experts"]["train"]["pool"] = "two"
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(spec))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("graftwork"), "run", path],
            env={**os.environ, **environment}, cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            yield
            assert process.poll() is None, (folder / "log").read_text()
        finally:
            process.terminate()
            process.wait(timeout=120)


def check_series(prometheus, labels: dict[str, str]) -> None:
    """Every metric of the training has arrived, with its labels and what it should be."""
    found = prometheus.series(*ALL, **labels)
    values = {name: float(one["value"][1]) for name, one in found.items()}
    assert values["ray_graftwork_step"] <= values["ray_graftwork_steps_planned"] == STEPS
    assert values["ray_graftwork_flops_done"] <= values["ray_graftwork_flops_planned"]
    assert 0 < values["ray_graftwork_loss"] < 10
    assert 0 < values["ray_graftwork_held_out_loss"] < 10
    assert 0 < values["ray_graftwork_mfu"] < 1
    assert 0 <= values["ray_graftwork_data_wait_ratio"] < 1
    assert 1 <= values["ray_graftwork_expert_max_load"] <= 4
    assert values["ray_graftwork_checkpoints_total"] >= 1
    assert values["ray_graftwork_not_finite"] == values["ray_graftwork_sparsity"] == 0
    for one in found.values():
        assert one["metric"].items() >= labels.items()
    # This machine is far from the peak that the pool claims, and all else is well.
    told = {alert.name for alert in alerts() if prometheus.query(alert.expr)}
    assert told == {"GraftworkLowUtilization"}


@pytest.mark.slow
def test_every_metric_of_a_training_on_two_workers_arrives(ray_head, prometheus, tmp_path):
    scraping = prometheus(ray_head.metrics_port)
    labels = labels_of(run="run-7", workflow="measured", stage="experts", step="experts")
    with training(tmp_path, 2, **ray_head.client, **{RUN_VARIABLE: "run-7"}):
        check_series(scraping, labels)


@pytest.mark.slow
def test_every_metric_of_a_training_in_the_job_s_own_process_arrives(
    ray_head, prometheus, tmp_path
):
    assert f"{METRICS_ADDRESS}=$RAY_ADDRESS RAY_ADDRESS= " in entrypoint(alone=True)
    scraping = prometheus(ray_head.metrics_port)
    alone = {"RAY_ADDRESS": "", METRICS_ADDRESS: ray_head.address, RUN_VARIABLE: "run-8"}
    labels = labels_of(run="run-8", workflow="measured", stage="experts", step="experts")
    with training(tmp_path, 1, **(ray_head.client | alone)):
        check_series(scraping, labels)


def test_every_metric_of_the_launcher_arrives(prometheus):
    labels = labels_of(run="run-9", workflow="measured", stage="experts", step="experts-s18")
    labels["rayjob"] = "experts-s18-0123456789ab"
    metrics = JobMetrics(labels)
    with serving(metrics, port=0) as port:
        scraping = prometheus(port)
        metrics.update(read_status({"status": {"jobDeploymentStatus": "Initializing"}}))
        metrics.update(
            read_status(
                {"status": {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING", "failed": 1}}
            )
        )
        scraping.series(*(metric.exposed for metric in LAUNCHER), **labels)
        (state,) = scraping.query("graftwork_step_state == 1")
        (phase,) = scraping.query("graftwork_rayjob_phase == 1")
        (attempts,) = scraping.query("graftwork_rayjob_attempts")
    assert state["metric"]["state"] == "running"
    assert phase["metric"]["phase"] == "Running"
    assert attempts["value"][1] == "2"
