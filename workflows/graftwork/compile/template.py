"""A pipeline of one task as kfp compiles it, with all settings that every step has.

The compiler repeats its task; so what kfp writes is what kfp wrote, and a pipeline of 200 steps
holds one component and one executor. kfp wants a pipeline's annotations as values, hence no
`from __future__ import annotations`.
"""

from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from kfp import dsl, kubernetes

from graftwork.compile.component import component
from graftwork.metrics import LAUNCHER_POD
from graftwork.plan import Plan
from graftwork.spec.resources import Execution, Storage

TASK = "run"
# The step pod creates a job, watches it and reads its log; the work is done elsewhere.
CPU_REQUEST, CPU_LIMIT = "100m", "1"
MEMORY_REQUEST, MEMORY_LIMIT = "256Mi", "1Gi"
USER = 65532
# The job has the stage's deadline. Its launcher lives longer, to see it end and to say so.
SLACK = 600
BACKOFF, BACKOFF_FACTOR = 30, 2


@dataclass(frozen=True, slots=True)
class Template:
    """The two documents of an IR, as plain data."""

    pipeline: dict[str, Any]
    platform: dict[str, Any]


def template(plan: Plan, storage: Storage) -> Template:
    """Compile the plan's pipeline with a single task in it."""
    execution = plan.execution
    work = component(execution.launcher_image)

    def pipeline() -> None:
        configure(work(step=""), execution, storage)

    config = dsl.PipelineConfig(ttl_seconds_after_finished=execution.ttl)
    made = dsl.pipeline(
        pipeline,
        name=plan.workflow,
        description=plan.title or None,
        pipeline_config=config,
    )
    return Template(
        json_format.MessageToDict(made.pipeline_spec), json_format.MessageToDict(made.platform_spec)
    )


def configure(task: Any, execution: Execution, storage: Storage) -> None:  # noqa: ANN401 - kfp
    """Set what every step pod has; accelerators and pools are the business of the step's job."""
    # Our own check of records is exact; KFP's cache never asks whether the artifact is there.
    task.set_caching_options(False)
    task.set_cpu_request(CPU_REQUEST).set_cpu_limit(CPU_LIMIT)
    task.set_memory_request(MEMORY_REQUEST).set_memory_limit(MEMORY_LIMIT)
    if execution.retries:
        task.set_retry(
            execution.retries,
            backoff_duration=f"{BACKOFF}s",
            backoff_factor=float(BACKOFF_FACTOR),
            backoff_max_duration=f"{retry_window(execution)}s",
        )
    for key, value in LAUNCHER_POD.items():
        kubernetes.add_pod_label(task, key, value)
    kubernetes.set_timeout(task, execution.deadline + SLACK)
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    if storage.secret:
        names = {key: variable for variable, key in storage.variables.items()}
        kubernetes.use_secret_as_env(task, storage.secret, names)


def retry_window(execution: Execution) -> int:
    """Seconds from the first attempt's start that all attempts and the waits between them may take.

    Argo counts KFP's `backoff_max_duration` so: after it no attempt is made, and one that is under
    way is ended. A window shorter than the deadline would take the retries from long stages.
    """
    waits = sum((BACKOFF * BACKOFF_FACTOR**n for n in range(execution.retries)), 0.0)
    return round((execution.retries + 1) * (execution.deadline + SLACK) + waits)
