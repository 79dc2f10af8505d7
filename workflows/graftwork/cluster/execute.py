"""A step's work as a RayJob, in place of the child process of a local run."""

from __future__ import annotations

import sys

from graftwork.cluster.api import Api
from graftwork.cluster.context import step_pod
from graftwork.cluster.follow import follow
from graftwork.cluster.rayjob import ray_job
from graftwork.step import Step
from graftwork.store import Store
from graftwork.store.lease import Lease


def run_ray_job(step: Step, lease: Lease) -> int:
    """Run the step's stage as a RayJob of this pod's namespace; 0 when it has succeeded.

    Raises:
        graftwork.errors.RunError: the job failed or the run was terminated, and why.
    """
    api = Api.in_pod()
    pod = step_pod(api)
    manifest = ray_job(
        step, run_id=pod.run_id, namespace=api.namespace, owner=pod.workflow.reference()
    )
    store = Store(step.storage)
    follow(
        api,
        manifest,
        workflow=pod.workflow.name,
        retried=pod.retried,
        archive=lambda text: store.write_log(pod.run_id, step.name, text),
        write=_write,
    )
    return 0


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
