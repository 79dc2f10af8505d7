"""Whether Argo and KFP can hold a pipeline, found out before it is sent.

KFP's API server turns the IR into an Argo Workflow, one Kubernetes object. What is predicted here
is that object's size in bytes of JSON. The constants were measured by compiling our own IR of 1 to
200 steps with the compiler of KFP 2.17 (backend/src/v2/compiler/argocompiler); the prediction is
within 1% of it. Every step is in the object twice: in the root component, and as the argument of
its driver. A run has no parameters, so that KFP's 10,000 bytes for those do not bind.
"""

from __future__ import annotations

import json
from typing import Any

from graftwork.errors import Problem, SpecError, Where
from graftwork.plan import Note, Plan

# The limit that KFP names: backend/src/apiserver/model/pipeline_version.go.
MOST_BYTES = 700_000
MANY_BYTES = 350_000
# Templates that are the same in every workflow, and names of what is the same in every step.
FIXED_BYTES = 9_450
STEP_BYTES = 1_062
# kubeflow/pipelines#13738: 56 steps with retries, secrets and limits grew to 1.95 MiB while they
# ran, more than etcd takes in one request; the run went on, but could not be retried from the UI.
LIVE_STEP_BYTES = 36 * 1024
ETCD_BYTES = 1_572_864
# KFP adds a task of this name to every task.
DRIVER = "-driver"


def check_fit(plan: Plan, pipeline: dict[str, Any]) -> list[Note]:
    """Refuse what would not fit, and warn of what is near to it.

    Raises:
        SpecError: the object would be too large, or two of its tasks would have one name.
    """
    _check_names(plan)
    sizes = step_sizes(pipeline)
    size = argo_bytes(pipeline)
    if size > MOST_BYTES:
        raise SpecError([_too_large(plan, sizes, size)])
    notes = []
    if size > MANY_BYTES:
        text = (
            f"the pipeline will be an Argo Workflow of {size / 1000:.0f} kB; above "
            f"{MOST_BYTES / 1000:.0f} kB Argo takes none. The largest steps: {_largest(sizes)}"
        )
        notes.append(Note("", "warning", text))
    if len(plan.steps) * LIVE_STEP_BYTES + size > ETCD_BYTES:
        text = (
            f"with {len(plan.steps)} steps the Workflow grows beyond what KFP's 'retry' can send "
            f"to Kubernetes; after a failure create a new run, which skips what is done"
        )
        notes.append(Note("", "warning", text))
    return notes


def argo_bytes(pipeline: dict[str, Any]) -> int:
    """Bytes of the Argo Workflow that KFP makes of a PipelineSpec."""
    shared = (pipeline["components"], pipeline["deploymentSpec"])
    return FIXED_BYTES + sum(map(_quoted, shared)) + sum(step_sizes(pipeline).values())


def step_sizes(pipeline: dict[str, Any]) -> dict[str, int]:
    """By task's name, its bytes in the Argo Workflow."""
    tasks = pipeline["root"]["dag"]["tasks"]
    return {name: _step_size(name, task) for name, task in tasks.items()}


def _step_size(name: str, task: dict[str, Any]) -> int:
    waits = sum(len(other) + len(".Succeeded && ") for other in task.get("dependentTasks", ()))
    return STEP_BYTES + 2 * _quoted(task) + 8 * len(name) + waits


def _quoted(part: object) -> int:
    """Bytes of a part as JSON inside of a JSON string, as Argo's parameters are."""
    return len(json.dumps(json.dumps(part, separators=(",", ":"))))


def _too_large(plan: Plan, sizes: dict[str, int], size: int) -> Problem:
    what = (
        f"the pipeline's {len(plan.steps)} steps would make an Argo Workflow of "
        f"{size / 1000:.0f} kB, and Argo takes {MOST_BYTES / 1000:.0f} kB. "
        f"The largest steps: {_largest(sizes)}"
    )
    remedy = (
        "Make several workflows of it, with the same storage: a later one skips the stages that "
        "an earlier one has done. Fewer seeds or a smaller matrix help, too."
    )
    return Problem(Where(key="stages"), what, remedy)


def _largest(sizes: dict[str, int]) -> str:
    names = sorted(sizes, key=lambda name: (-sizes[name], name))[:3]
    return ", ".join(f"{name} ({sizes[name] / 1000:.1f} kB)" for name in names)


def _check_names(plan: Plan) -> None:
    stages = {planned.step.name: planned.step.stage for planned in plan.steps}
    taken = [name for name in stages if name + DRIVER in stages]
    if taken:
        raise SpecError(
            Problem(
                Where(key=f"stages.{stages[name + DRIVER]}"),
                f"KFP itself adds a task {name + DRIVER!r} for the stage {name!r}",
                f"Give the stage {stages[name + DRIVER]!r} another name.",
            )
            for name in taken
        )
