"""A workflow on a real cluster: done, skipped, cancelled, and with its launcher lost on the way."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Json = dict[str, Any]

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture
def spec(cluster, tmp_path) -> Callable[..., Path]:
    """A spec of two stages whose training takes so many steps, on a pool of that kind."""

    def write(steps: int, pool: Json | None = None, **execution: object) -> Path:
        root = f"{cluster.storage['root']}/{uuid.uuid4().hex[:12]}"
        path = tmp_path / "spec.yaml"
        path.write_text(
            yaml.safe_dump(
                {
                    "metadata": {"name": "cluster-run"},
                    "storage": {**cluster.storage, "root": root},
                    "execution": {
                        "image": cluster.images["train"],
                        "launcher_image": cluster.images["launcher"],
                        **execution,
                    },
                    "pools": {"some": pool or {}},
                    "corpora": {
                        "python": {"source": "stdlib", "domains": ["prose"], "limit": "300k"}
                    },
                    "stages": {
                        "tokens": {"prepare": {"from": "python", "context": 128}},
                        "base": {
                            "train": {
                                "data": "tokens",
                                "pool": "some",
                                "model": {"layers": 2, "width": 64, "heads": 4},
                                "budget": f"{steps} steps",
                                "batch": "8 sequences",
                            }
                        },
                    },
                }
            )
        )
        return path

    return write


@pytest.fixture
def submitted(cluster):
    """Submit a spec without waiting; gives the run's id."""

    def submit(path: Path) -> str:
        done = cluster.graftwork("submit", path, "--json")
        return str(json.loads(done.stdout)["run_id"])

    return submit


def jobs_of(cluster, run_id: str) -> list[dict]:
    label = f"graftwork.dev/run={run_id}"
    return cluster.objects("rayjobs", "-n", cluster.namespace, "-l", label)


def clusters_of(cluster, run_id: str) -> list[dict]:
    pods = cluster.objects("pods", "-n", cluster.namespace, "-l", f"graftwork.dev/run={run_id}")
    return [pod for pod in pods if pod["status"]["phase"] in ("Pending", "Running")]


def wait_until(what: str, holds: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(1)


def wait_for_training(cluster, run_id: str) -> None:
    def trains() -> bool:
        return any(
            job["metadata"]["labels"]["graftwork.dev/step"] == "base"
            and job.get("status", {}).get("jobStatus") == "RUNNING"
            for job in jobs_of(cluster, run_id)
        )

    wait_until("training has begun", trains, 420)


def ended(cluster, run_id: str) -> subprocess.CompletedProcess[str]:
    return cluster.graftwork("status", run_id, "--wait", "--json", check=False)


def test_a_run_makes_its_artifacts_leaves_no_job_and_is_not_done_twice(cluster, spec, submitted):
    path = spec(20)
    run_id = submitted(path)
    done = ended(cluster, run_id)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [stage["state"] for stage in json.loads(done.stdout)["stages"]] == ["SUCCEEDED"] * 2
    assert jobs_of(cluster, run_id) == []
    log = cluster.graftwork("logs", path, "--run", run_id, "--stage", "base").stdout
    assert "base: 20 of 20 steps, loss" in log
    assert log.count("20 of 20 steps") == 1
    plan = json.loads(cluster.graftwork("plan", path, "--json").stdout)
    assert [step["status"] for step in plan["steps"]] == ["done", "done"]
    again = submitted(path)
    assert ended(cluster, again).returncode == 0
    assert clusters_of(cluster, again) == []


def test_a_cancelled_run_holds_no_pods_after_30_seconds(cluster, spec, submitted):
    run_id = submitted(spec(100_000))
    wait_for_training(cluster, run_id)
    cluster.graftwork("cancel", run_id)
    wait_until("the job is deleted", lambda: not jobs_of(cluster, run_id), 30)
    wait_until("its pods are gone", lambda: not clusters_of(cluster, run_id), 30)
    assert ended(cluster, run_id).returncode == 1


def test_a_lost_launcher_is_replaced_and_the_training_is_not_started_again(
    cluster, spec, submitted
):
    run_id = submitted(spec(1500))
    wait_for_training(cluster, run_id)
    (job,) = jobs_of(cluster, run_id)
    before = (job["metadata"]["uid"], job["status"]["jobId"])
    launchers = cluster.objects(
        "pods", "-n", cluster.namespace, "-l", f"pipeline/runid={run_id}",
        "--field-selector=status.phase=Running",
    )  # fmt: skip
    names = [pod["metadata"]["name"] for pod in launchers if "impl" in pod["metadata"]["name"]]
    assert len(names) == 1
    cluster.kubectl("delete", "pod", "-n", cluster.namespace, names[0], "--grace-period=1")
    left = jobs_of(cluster, run_id)
    assert [(one["metadata"]["uid"], one["status"]["jobId"]) for one in left] == [before]
    done = ended(cluster, run_id)
    assert done.returncode == 0, done.stdout + done.stderr
    assert jobs_of(cluster, run_id) == []


def test_the_collector_spares_a_run_that_goes_on(cluster, spec, submitted):
    run_id = submitted(spec(100_000))
    wait_for_training(cluster, run_id)
    cluster.graftwork("gc", "--namespace", cluster.namespace)
    assert len(jobs_of(cluster, run_id)) == 1
    cluster.graftwork("cancel", run_id)
    assert ended(cluster, run_id).returncode == 1


def log_of(cluster, path: Path, run_id: str) -> str:
    return str(cluster.graftwork("logs", path, "--run", run_id, "--stage", "base").stdout)


def test_two_workers_train_as_pods_of_their_own(cluster, spec, submitted):
    small = {"cpus": 0.1, "memory": "3Gi"}
    pool = {"workers": 2, "cpu_request": 0.2, "head": small, "affinity": {"pack": "host"}}
    path = spec(20, pool)
    run_id = submitted(path)
    wait_for_training(cluster, run_id)
    (job,) = jobs_of(cluster, run_id)
    assert job["status"]["rayClusterStatus"]["readyWorkerReplicas"] == 2
    done = ended(cluster, run_id)
    assert done.returncode == 0, done.stdout + done.stderr
    assert jobs_of(cluster, run_id) == []
    plan = json.loads(cluster.graftwork("plan", path, "--json").stdout)
    assert [step["status"] for step in plan["steps"]] == ["done", "done"]


def test_a_job_that_no_spot_node_takes_is_done_on_ordinary_ones(cluster, spec, submitted):
    spot = {"node_selector": {"graftwork.dev/test": "no-such-node"}, "patience": "10s"}
    path = spec(20, {"spot": spot})
    run_id = submitted(path)
    done = ended(cluster, run_id)
    assert done.returncode == 0, done.stdout + done.stderr
    log = log_of(cluster, path, run_id)
    assert "no spot node took its pods for 10 s; making it anew on ordinary nodes" in log
    assert "20 of 20 steps" in log


def test_a_stage_beyond_its_deadline_fails_and_says_so(cluster, spec, submitted):
    path = spec(1_000_000, deadline="90s", retries=0)
    run_id = submitted(path)
    done = ended(cluster, run_id)
    assert done.returncode == 1
    wait_until("its pods are gone", lambda: not clusters_of(cluster, run_id), 90)
    (job,) = jobs_of(cluster, run_id) or [None]
    assert job is None or job["status"]["reason"] == "DeadlineExceeded"
