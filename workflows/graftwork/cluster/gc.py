"""RayJobs that nobody waits for any more: found by their labels, deleted with their clusters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graftwork.cluster.api import Api, NotFoundError
from graftwork.cluster.names import MANAGED, STEP
from graftwork.cluster.status import is_over, is_terminating

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Orphan:
    """A RayJob to remove, and why."""

    name: str
    step: str
    reason: str


def orphans(api: Api) -> list[Orphan]:
    """RayJobs of ours whose Workflow is over, being terminated, or gone."""
    selector = ",".join(f"{key}={value}" for key, value in MANAGED.items())
    found = []
    for job in api.ray_jobs(selector):
        metadata = job["metadata"]
        reason = _reason(api, metadata.get("ownerReferences") or [])
        if reason:
            found.append(Orphan(metadata["name"], metadata["labels"].get(STEP, ""), reason))
    return found


def collect(api: Api) -> list[Orphan]:
    """Delete all orphans, and say which they were."""
    found = orphans(api)
    for orphan in found:
        api.delete_ray_job(orphan.name)
    return found


def _reason(api: Api, owners: list[Json]) -> str:
    workflows = [owner["name"] for owner in owners if owner["kind"] == "Workflow"]
    if not workflows:
        return "it belongs to no Workflow"
    try:
        workflow = api.workflow(workflows[0])
    except NotFoundError:
        return f"Workflow {workflows[0]} is gone"
    if is_over(workflow):
        return f"Workflow {workflows[0]} is over"
    return f"Workflow {workflows[0]} is being terminated" if is_terminating(workflow) else ""
