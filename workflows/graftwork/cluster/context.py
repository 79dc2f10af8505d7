"""Which pipeline run a step pod belongs to, by what Kubeflow Pipelines and Argo say of it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from graftwork.cluster.api import Api
from graftwork.cluster.follow import Owner
from graftwork.errors import RunError

POD_NAME = "KFP_POD_NAME"
RETRY = "KFP_RETRY_INDEX"
_WORKFLOW = "workflows.argoproj.io/workflow"
_RUN = "pipeline/runid"


@dataclass(frozen=True, slots=True)
class StepPod:
    """The pod that a step runs in.

    Attributes:
        run_id: Kubeflow Pipelines' id of the run.
        workflow: Argo's Workflow.
        retried: Whether Argo made this pod because an earlier one failed.
    """

    run_id: str
    workflow: Owner
    retried: bool


def step_pod(api: Api) -> StepPod:
    """The pod that this process runs in.

    Raises:
        RunError: the pod does not carry Argo's label.
    """
    name = os.environ[POD_NAME]
    labels = api.pod_labels(name)
    if _WORKFLOW not in labels:
        raise RunError(
            f"pod {name} belongs to no Workflow",
            "Steps run on a cluster through Kubeflow Pipelines; elsewhere use `graftwork run`.",
        )
    metadata = api.workflow(labels[_WORKFLOW])["metadata"]
    return StepPod(
        run_id=labels.get(_RUN) or metadata["labels"].get(_RUN, metadata["uid"]),
        workflow=Owner(metadata["name"], metadata["uid"]),
        retried=int(os.environ.get(RETRY) or 0) > 0,
    )
