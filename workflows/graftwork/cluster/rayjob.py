"""A step as a RayJob.

One worker is the head pod alone: the step's training runs in the job's own process, as it does on
a laptop. More workers are a worker group of their own, beside a small head that does no work.
"""

from __future__ import annotations

from typing import Any

from graftwork.cluster.names import job_labels, job_name
from graftwork.cluster.pods import pod_template
from graftwork.metrics import METRICS_ADDRESS, RUN_VARIABLE
from graftwork.step import Step

Json = dict[str, Any]

STEP_VARIABLE = "GRAFTWORK_STEP"
QUEUE = "kueue.x-k8s.io/queue-name"
# The cluster stays for a moment after the job, so that the last lines of its log can be read.
LINGER_SECONDS = 60
PRE_RUNNING_SECONDS = 3600


def entrypoint(*, alone: bool) -> str:
    """The shell command of the job.

    The step travels as a variable, so that no shell ever reads its text. One worker is this very
    process: without the address of the Ray that it runs on, Ray Train stays in local mode, and
    training begins half a minute earlier. Its metrics go to that Ray all the same, by another
    variable.
    """
    start = f'printf %s "${STEP_VARIABLE}" > /tmp/step.json'
    run = "python3 -m graftwork_train.run /tmp/step.json"
    return (
        f"{start} && {METRICS_ADDRESS}=$RAY_ADDRESS RAY_ADDRESS= {run}"
        if alone
        else f"{start} && {run}"
    )


def ray_job(step: Step, *, run_id: str, namespace: str, owner: Json | None) -> Json:
    """The RayJob of a step of a run.

    Args:
        step: What to do; its pool says where.
        run_id: The pipeline run's id.
        namespace: Where the job is made.
        owner: The Workflow as an owner reference, so that nothing outlives it.
    """
    labels = job_labels(run_id, step.workflow, step.name, step.fingerprint)
    metadata: Json = {
        "name": job_name(run_id, step.name),
        "namespace": namespace,
        "labels": labels | ({QUEUE: step.pool.queue} if step.pool.queue else {}),
    }
    if owner:
        metadata["ownerReferences"] = [owner]
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": metadata,
        "spec": {
            "entrypoint": entrypoint(alone=step.pool.workers == 1),
            "submissionMode": "HTTPMode",
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": LINGER_SECONDS,
            "backoffLimit": step.execution.retries,
            "activeDeadlineSeconds": step.execution.deadline,
            "preRunningDeadlineSeconds": min(PRE_RUNNING_SECONDS, step.execution.deadline),
            "rayClusterSpec": _cluster(step, labels, run_id),
        },
    }


def _cluster(step: Step, labels: dict[str, str], run_id: str) -> Json:
    alone = step.pool.workers == 1
    cluster: Json = {
        "headGroupSpec": {
            "rayStartParams": {
                "num-cpus": str(step.pool.cpus_per_worker) if alone else "0",
                "dashboard-host": "0.0.0.0",
            },
            "template": _pod(step, labels, run_id, works=alone),
        },
    }
    if not alone:
        cluster["workerGroupSpecs"] = [
            {
                "groupName": "workers",
                "replicas": step.pool.workers,
                "minReplicas": step.pool.workers,
                "maxReplicas": step.pool.workers,
                "rayStartParams": {"num-cpus": str(step.pool.cpus_per_worker)},
                "template": _pod(step, labels, run_id, works=True),
            }
        ]
    return cluster


def _pod(step: Step, labels: dict[str, str], run_id: str, *, works: bool) -> Json:
    return pod_template(
        step.pool,
        step.storage,
        step.pool.image or step.execution.image,
        labels,
        works=works,
        env=_environment(step, run_id),
    )


def _environment(step: Step, run_id: str) -> dict[str, str]:
    return {
        STEP_VARIABLE: step.dumps(),
        RUN_VARIABLE: run_id,
        "HOME": "/tmp",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": str(step.pool.cpus_per_worker),
    }
