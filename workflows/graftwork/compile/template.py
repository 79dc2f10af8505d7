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
BACKOFF, BACKOFF_FACTOR, BACKOFF_LIMIT = "30s", 2.0, "10m"
# The names that KFP's own manifests and most charts give the keys of such a secret.
SECRET_KEYS = {"accesskey": "AWS_ACCESS_KEY_ID", "secretkey": "AWS_SECRET_ACCESS_KEY"}


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
            backoff_duration=BACKOFF,
            backoff_factor=BACKOFF_FACTOR,
            backoff_max_duration=BACKOFF_LIMIT,
        )
    for key, value in LAUNCHER_POD.items():
        kubernetes.add_pod_label(task, key, value)
    kubernetes.set_timeout(task, execution.deadline + SLACK)
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    if storage.secret:
        kubernetes.use_secret_as_env(task, storage.secret, SECRET_KEYS)
