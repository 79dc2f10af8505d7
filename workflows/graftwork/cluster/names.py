"""Names and labels of a step's RayJob: the same for every try of the same step of the same run."""

from __future__ import annotations

import hashlib

# KubeRay appends to a RayJob's name and refuses names above this length.
LENGTH = 47
RUN = "graftwork.dev/run"
STEP = "graftwork.dev/step"
FINGERPRINT = "graftwork.dev/fingerprint"
WORKFLOW = "graftwork.dev/workflow"
# Whether the job is on its pool's spot nodes, or on its ordinary ones.
NODES = "graftwork.dev/nodes"
SPOT, ORDINARY = "spot", "ordinary"
MANAGED = {"app.kubernetes.io/managed-by": "graftwork"}


def job_name(run_id: str, step: str) -> str:
    """A RayJob's name: readable, at most 47 characters, unique to run and step.

    A step pod that was preempted and comes back derives the same name, finds its RayJob there and
    adopts it, so that training is never started twice.
    """
    digest = hashlib.sha256(f"{run_id}/{step}".encode()).hexdigest()[:12]
    return f"{step[: LENGTH - 1 - len(digest)].rstrip('-')}-{digest}"


def job_labels(run_id: str, workflow: str, step: str, fingerprint: str) -> dict[str, str]:
    """Labels by which people and `graftwork gc` find a step's RayJob and its pods."""
    return {
        **MANAGED,
        RUN: run_id,
        WORKFLOW: workflow,
        STEP: step,
        FINGERPRINT: fingerprint,
    }
