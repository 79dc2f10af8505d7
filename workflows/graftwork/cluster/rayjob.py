"""A step as a RayJob.

One worker is the head pod alone: the step's work is done in the job's own process, as it is on a
laptop. More workers are a worker group of their own, beside a small head that does no work.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from graftwork.cluster.names import NODES, ORDINARY, RUN, SPOT, job_labels, job_name
from graftwork.cluster.pods import SECURITY, TOKEN_VOLUME, Part, is_elastic, pod_template
from graftwork.metrics import METRICS_ADDRESS, RUN_VARIABLE
from graftwork.progress import EVERY
from graftwork.progress import VARIABLE as PROGRESS
from graftwork.spec.resources import Pool
from graftwork.step import Step
from graftwork.store.patience import ON_CLUSTER
from graftwork.store.patience import VARIABLE as PATIENCE

Json = dict[str, Any]

STEP_VARIABLE = "GRAFTWORK_STEP"
QUEUE = "kueue.x-k8s.io/queue-name"
# The cluster stays for a moment after the job, so that the last lines of its log can be read.
LINGER_SECONDS = 60
PRE_RUNNING_SECONDS = 3600
# An elastic job's workers wait for their place in a training that starts again.
IDLE_SECONDS = 300
PROGRESS_SECONDS = 15
# A job that is stopped saves a checkpoint before it leaves; Ray would kill it after 3 seconds, in
# the middle of that.
STOP_SECONDS = 10
# A pod that is deleted waits until its job has left. Ray would wait for half a minute, which is as
# long as Kubernetes waits for the pod.
DRAIN_SECONDS = 15
# What workers print is not the job's log; a process in every pod that collects it is one too many.
_QUIET = {"include-log-monitor": "0"}
# Where the job's own process does the work, workers that Ray starts ahead would only be in its way.
_ALONE = {"RAY_prestart_worker_first_driver": "0"}
# Stages that read models and write one, or judge them: however large the pool, one worker of it.
IN_ONE_PROCESS = frozenset({"pretrained", "grow", "upcycle", "merge", "evaluate", "compare"})


def entrypoint(*, alone: bool) -> str:
    """The shell command of the job.

    The step travels as a variable, so that no shell ever reads its text. One worker is this very
    process: without the address of the Ray that it runs on, Ray Train stays in local mode, and
    training begins half a minute earlier. Its metrics go to that Ray all the same, by another
    variable.
    """
    start = f'printf %s "${STEP_VARIABLE}" > /tmp/step.json'
    run = "python3 -m graftwork_train.run /tmp/step.json"
    if alone:
        run = f"{METRICS_ADDRESS}=$RAY_ADDRESS RAY_ADDRESS= {run}"
    return f"{start} && {run}"


def ray_job(
    step: Step, *, run_id: str, namespace: str, owner: Json | None, spot: bool = False
) -> Json:
    """The RayJob of a step of a run.

    Args:
        step: What to do; its pool says where.
        run_id: The pipeline run's id.
        namespace: Where the job is made.
        owner: The Workflow as an owner reference, so that nothing outlives it.
        spot: Whether it is to run on the pool's spot nodes.
    """
    labels = job_labels(run_id, step.workflow, step.name, step.fingerprint)
    metadata: Json = {
        "name": job_name(run_id, step.name),
        "namespace": namespace,
        "labels": labels
        | {NODES: SPOT if spot else ORDINARY}
        | ({QUEUE: step.pool.queue} if step.pool.queue else {}),
    }
    if owner:
        metadata["ownerReferences"] = [owner]
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": metadata,
        "spec": {
            "entrypoint": entrypoint(alone=is_alone(step)),
            "submissionMode": "HTTPMode",
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": LINGER_SECONDS,
            "backoffLimit": step.execution.retries,
            "activeDeadlineSeconds": step.execution.deadline,
            "preRunningDeadlineSeconds": min(
                _pre_running(step.pool, spot=spot), step.execution.deadline
            ),
            "rayClusterSpec": _cluster(step, labels, spot=spot),
        },
    }


def _pre_running(pool: Pool, *, spot: bool) -> int:
    # On spot nodes the launcher loses its patience first, and makes the job anew elsewhere.
    return PRE_RUNNING_SECONDS + (pool.spot.patience if spot and pool.spot else 0)


def is_alone(step: Step) -> bool:
    """Whether one pod does it all: a pool of one, or a stage that has no use for more."""
    return step.pool.workers == 1 or step.spec.kind in IN_ONE_PROCESS


def _cluster(step: Step, labels: dict[str, str], *, spot: bool) -> Json:
    def pod(part: Part) -> Json:
        return pod_template(
            step.pool, step.storage, step.pool.image or step.execution.image, labels,
            part=part, env=_environment(step, labels[RUN]) | (_ALONE if part == "alone" else {}),
            spot=spot,
        )  # fmt: skip

    cpus = str(step.pool.cpus_per_worker)
    if is_alone(step):
        return {"headGroupSpec": _head(cpus, pod("alone"))}
    cluster = {
        "headGroupSpec": _head("0", pod("head")),
        "workerGroupSpecs": [_workers(step.pool) | {"template": pod("worker")}],
    }
    return cluster | (_autoscaling() if is_elastic(step.pool) else {})


def _head(cpus: str, template: Json) -> Json:
    # Ray's own monitor only looks on where KubeRay scales, and KubeRay itself leaves it out then.
    parameters = {"num-cpus": cpus, "dashboard-host": "0.0.0.0", "no-monitor": "true"}
    return {"rayStartParams": parameters | _QUIET, "template": template}


def _workers(pool: Pool) -> Json:
    # KubeRay submits the job once all replicas are there, so an elastic job begins with the fewest.
    fewest = pool.min_workers or pool.workers
    return {
        "groupName": "workers",
        "replicas": fewest,
        "minReplicas": fewest,
        "maxReplicas": pool.workers,
        "rayStartParams": {"num-cpus": str(pool.cpus_per_worker)} | _QUIET,
    }


def _autoscaling() -> Json:
    """Ray's own autoscaler, which asks for workers as Ray Train asks for places."""
    options = {
        "resources": {
            "limits": {"cpu": "500m", "memory": "1Gi"},
            "requests": {"cpu": "100m", "memory": "512Mi"},
        },
        "securityContext": deepcopy(SECURITY),
        "volumeMounts": [
            {
                "name": TOKEN_VOLUME,
                "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
                "readOnly": True,
            },
            {"name": "scratch", "mountPath": "/tmp"},
        ],
        "idleTimeoutSeconds": IDLE_SECONDS,
    }
    return {"enableInTreeAutoscaling": True, "autoscalerOptions": options}


def _environment(step: Step, run_id: str) -> dict[str, str]:
    return {
        STEP_VARIABLE: step.dumps(),
        RUN_VARIABLE: run_id,
        "HOME": "/tmp",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS),
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(DRAIN_SECONDS),
        "OMP_NUM_THREADS": str(step.pool.cpus_per_worker),
        # Into the job's log, which the launcher follows and passes on in words.
        PROGRESS: "/dev/stdout",
        EVERY: str(PROGRESS_SECONDS),
        PATIENCE: str(ON_CLUSTER),
    }
