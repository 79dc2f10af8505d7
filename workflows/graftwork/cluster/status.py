"""What a RayJob's status means for the step: pure functions on the object as KubeRay writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Json = dict[str, Any]
Phase = Literal["waiting", "running", "succeeded", "failed"]

# KubeRay never leaves ValidationFailed, though it does not count it among the terminal states.
_FAILED = {"Failed", "ValidationFailed"}
_REMEDIES = {
    "AppFailed": "The stage's own message is above, and in the archived log.",
    "SubmissionFailed": "See that the image has ray[default] and that the head's dashboard is up.",
    "DeadlineExceeded": "Raise execution.deadline, or shorten the stage's budget.",
    "PreRunningDeadlineExceeded": "No node took the pods in time: see the pool's resources, "
    "selectors, tolerations and queue.",
    "ValidationFailed": "KubeRay refused the job as it is written; see its message.",
}


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A RayJob's state in the step's terms.

    Attributes:
        phase: What it is doing.
        reason: Why it failed, in KubeRay's word.
        message: Why it failed, for people.
        attempts: The attempt that it is in, or was in.
        job_id: Ray's id of the attempt.
        dashboard: Host and port of the head.
        cluster: Its RayCluster.
        deployment: KubeRay's own word for its phase.
        head: Address of the head's pod; another one is another pod.
        workers: Worker pods that are ready.
    """

    phase: Phase
    reason: str
    message: str
    attempts: int
    job_id: str
    dashboard: str
    cluster: str
    deployment: str = ""
    head: str = ""
    workers: int = 0

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen."""
        return self.phase in ("succeeded", "failed")

    @property
    def pending(self) -> bool:
        """Whether its pods are waited for; a job that a queue holds back waits for its turn."""
        return self.deployment == "Initializing"

    @property
    def remedy(self) -> str:
        """What to do about a failure."""
        return _REMEDIES.get(self.reason, "")


def read_status(ray_job: Json) -> JobStatus:
    """The state of a RayJob object; an object without a status is waiting."""
    status = ray_job.get("status") or {}
    deployment = status.get("jobDeploymentStatus", "")
    job = status.get("jobStatus", "")
    phase = _phase(deployment, job)
    failed = int(status.get("failed") or 0)
    cluster = status.get("rayClusterStatus") or {}
    return JobStatus(
        phase=phase,
        reason=status.get("reason", "") or (deployment if deployment in _FAILED else ""),
        message=status.get("message", ""),
        # KubeRay has counted the last attempt among the failed ones by the time it gives up.
        attempts=max(1, failed) if phase == "failed" else failed + 1,
        job_id=status.get("jobId", ""),
        dashboard=status.get("dashboardURL", ""),
        cluster=status.get("rayClusterName", ""),
        deployment=deployment,
        head=(cluster.get("head") or {}).get("podIP", ""),
        workers=int(cluster.get("readyWorkerReplicas") or 0),
    )


def _phase(deployment: str, job: str) -> Phase:
    if deployment in _FAILED:
        return "failed"
    if deployment == "Complete":
        # A stopped job also completes its deployment, and has not done its work.
        return "succeeded" if job == "SUCCEEDED" else "failed"
    return "running" if deployment == "Running" and job in ("RUNNING", "SUCCEEDED") else "waiting"


def is_terminating(workflow: Json) -> bool:
    """Whether Argo's Workflow is being ended by its user.

    Kubeflow Pipelines ends a run by setting `activeDeadlineSeconds` to 0; Argo's own command sets
    `shutdown`.
    """
    spec = workflow.get("spec") or {}
    return spec.get("activeDeadlineSeconds") == 0 or bool(spec.get("shutdown"))


def is_over(workflow: Json) -> bool:
    """Whether Argo's Workflow has come to its end."""
    return bool((workflow.get("status") or {}).get("finishedAt"))
