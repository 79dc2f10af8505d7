"""A step's work as a RayJob, in place of the child process of a local run."""

from __future__ import annotations

import os
import sys
from typing import Any

from graftwork.cluster.api import Api, NotFoundError
from graftwork.cluster.context import StepPod, step_pod
from graftwork.cluster.follow import Manifests, follow
from graftwork.cluster.logs import LogFollower
from graftwork.cluster.metrics import observing
from graftwork.cluster.names import job_name
from graftwork.cluster.object_store import complete_storage, take_credentials
from graftwork.cluster.rayjob import is_alone, ray_job
from graftwork.cluster.spot import SpotWatch
from graftwork.cluster.status import read_status
from graftwork.place import Place
from graftwork.step import Step
from graftwork.store import Store
from graftwork.store.lease import Lease
from graftwork.store.patience import ON_CLUSTER
from graftwork.store.patience import VARIABLE as PATIENCE

Json = dict[str, Any]


def on_cluster(step: Step) -> Place:
    """The step with its storage as the cluster has it, and its RayJob in place of a process.

    Raises:
        graftwork.errors.RunError: the pod's service account may not read what it needs.
    """
    os.environ.setdefault(PATIENCE, str(ON_CLUSTER))
    api = Api.in_pod()
    completed = complete_storage(step, api)
    take_credentials(completed.storage, api)
    pod = step_pod(api)

    followed: list[str] = []

    def archive(text: str) -> None:
        Store(completed.storage).write_log(pod.run_id, step.name, text)
        followed.append(pod.run_id)

    def run_ray_job(step: Step, lease: Lease) -> int:
        with observing(step, pod.run_id, _write) as observe:
            follow(
                api,
                _manifests(step, pod, api.namespace),
                workflow=pod.workflow.name,
                retried=pod.retried,
                archive=archive,
                observe=observe,
                write=_write,
            )
        return 0

    def tidy() -> None:
        # Also after a job whose first launcher was lost, and whose artifact this one found done.
        name = job_name(pod.run_id, step.name)
        Store(completed.storage).end_lease(completed.uri, name)
        try:
            status = read_status(api.ray_job(name))
        except NotFoundError:
            return
        text = "" if followed else LogFollower().read(status.dashboard, status.job_id, last=True)
        if text:
            archive(text)
        api.delete_ray_job(name)

    # One launcher follows the RayJob of this name: who finds its lease there succeeds a lost one.
    return Place(completed, run_ray_job, tidy, holder=job_name(pod.run_id, step.name))


def _manifests(step: Step, pod: StepPod, namespace: str) -> Manifests:
    def manifest(*, spot: bool) -> Json:
        owner = pod.workflow.reference()
        return ray_job(step, run_id=pod.run_id, namespace=namespace, owner=owner, spot=spot)

    ordinary, spot = manifest(spot=False), step.pool.spot
    if spot is None:
        return Manifests(ordinary)
    workers = 0 if is_alone(step) else step.pool.min_workers or step.pool.workers
    return Manifests(ordinary, manifest(spot=True), SpotWatch(spot, workers))


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
