"""Every metric: its name, its kind, its unit, what it means, its labels, and who exports it.

A name that is not here is not exported, and one that is here is on a dashboard and in the
reference. Light: the training imports it as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Exporter = Literal["training", "launcher"]
Kind = Literal["gauge", "counter"]
Unit = Literal[
    "nats/token", "tokens/s", "share", "seconds", "unix time", "steps", "flops", "number", "yes/no"
]
Group = Literal["Progress", "Loss", "Speed", "Optimizer", "Checkpoints", "Model", "Job"]

LABELS = ("run", "workflow", "stage", "step")
"""Of every metric. `step` is a stage with one seed, `run` the pipeline run's id."""
JOB_LABELS = (*LABELS, "rayjob")
"""Of every metric of the launcher."""
RUN_VARIABLE = "GRAFTWORK_PIPELINE_RUN"
"""Environment variable that holds the pipeline run's id."""
METRICS_ADDRESS = "GRAFTWORK_METRICS_ADDRESS"
"""Environment variable with the address of the Ray that exports for a process outside of it."""
LOCAL = "local"
"""The run of what no pipeline runs."""
LAUNCHER_PORT = 9464
"""Where a step pod serves the launcher's metrics."""
LAUNCHER_POD = {"app.kubernetes.io/component": "graftwork-launcher"}
"""The label of a step pod, by which Prometheus finds it."""
# Ray puts this before every name that is exported through it.
RAY_PREFIX = "ray_"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: As the code that exports it calls it.
        unit: Of its values.
        group: Its row on the dashboard.
        title: Its panel's title.
        help: What it means, in one or two sentences.
        exporter: The training, through Ray's endpoint, or the launcher, through its own.
        kind: Prometheus' type.
        labels: Their names, in order.
    """

    name: str
    unit: Unit
    group: Group
    title: str
    help: str
    exporter: Exporter = "training"
    kind: Kind = "gauge"
    labels: tuple[str, ...] = LABELS

    @property
    def exposed(self) -> str:
        """The name that Prometheus sees."""
        name = f"{RAY_PREFIX}{self.name}" if self.exporter == "training" else self.name
        return f"{name}_total" if self.kind == "counter" else name


TRAINING: tuple[Metric, ...] = (
    Metric(
        "graftwork_step", "steps", "Progress", "Step", "Optimizer steps done, over all attempts."
    ),
    Metric(
        "graftwork_steps_planned", "steps", "Progress", "Steps planned", "Optimizer steps in all."
    ),
    Metric(
        "graftwork_flops_done", "flops", "Progress", "FLOPs done",
        "FLOPs of this stage's training so far, over all attempts.",
    ),
    Metric(
        "graftwork_flops_planned", "flops", "Progress", "FLOPs planned",
        "FLOPs of this stage's whole training.",
    ),
    Metric(
        "graftwork_eta_seconds", "seconds", "Progress", "Time to the end",
        "Seconds until the last step at the pace of the last window; checkpoints and evaluations "
        "come on top.",
    ),
    Metric(
        "graftwork_progress_timestamp_seconds", "unix time", "Progress", "Last report",
        "When the training last told of its steps.",
    ),
    Metric(
        "graftwork_report_seconds", "seconds", "Progress", "Time between reports",
        "Seconds of the last window of log_every steps; 600 before the first one ends.",
    ),
    Metric(
        "graftwork_restarts", "number", "Progress", "Restarts",
        "How often this training has gone on from a checkpoint.",
    ),
    Metric(
        "graftwork_loss", "nats/token", "Loss", "Training loss", "Mean loss of the last window."
    ),
    Metric(
        "graftwork_held_out_loss", "nats/token", "Loss", "Held-out loss",
        "Mean loss on held-out data, as last measured.",
    ),
    Metric(
        "graftwork_not_finite", "yes/no", "Loss", "Not finite",
        "1 once a gradient was infinite or not a number; the training then ends.",
    ),
    Metric(
        "graftwork_tokens_per_second", "tokens/s", "Speed", "Throughput",
        "Tokens trained on per second, over all workers, in the last window.",
    ),
    Metric(
        "graftwork_mfu", "share", "Speed", "Model FLOPs utilization",
        "The model's FLOPs per second as a share of what the accelerators could do in dense bf16. "
        "Missing where that is not known, as on CPUs.",
    ),
    Metric(
        "graftwork_step_seconds", "seconds", "Speed", "Step time",
        "Mean seconds of a step in the last window, its wait for data included.",
    ),
    Metric(
        "graftwork_data_wait_ratio", "share", "Speed", "Waiting for data",
        "Share of the last window in which the first worker waited for its data.",
    ),
    Metric(
        "graftwork_learning_rate", "number", "Optimizer", "Learning rate", "Of the last step."
    ),
    Metric(
        "graftwork_grad_norm", "number", "Optimizer", "Gradient norm",
        "Of the last step, before clipping.",
    ),
    Metric(
        "graftwork_checkpoint_seconds", "seconds", "Checkpoints", "Time for a checkpoint",
        "Seconds for which the last checkpoint held the training up.",
    ),
    Metric(
        "graftwork_checkpoint_timestamp_seconds", "unix time", "Checkpoints", "Last checkpoint",
        "When the last checkpoint was made; before the first one, when the training began. Its "
        "age is time() minus this.",
    ),
    Metric(
        "graftwork_checkpoint_interval_seconds", "seconds", "Checkpoints",
        "Time between checkpoints",
        "Seconds that checkpoint_every steps take at the pace of the last window.",
    ),
    Metric(
        "graftwork_checkpoints", "number", "Checkpoints", "Checkpoints",
        "Checkpoints made by this attempt.", kind="counter",
    ),
    Metric(
        "graftwork_expert_balance", "number", "Model", "Balance of the experts",
        "Balance loss of the experts in the last step, a mean over layers; 1 is even. Only "
        "mixtures of experts.",
    ),
    Metric(
        "graftwork_expert_max_load", "number", "Model", "Busiest expert",
        "Load of the busiest expert of all layers in the last step; 1 is even, the number of "
        "experts is all on one. Only mixtures of experts.",
    ),
    Metric(
        "graftwork_sparsity", "share", "Model", "Sparsity",
        "Share of the blocks' linear weights that is held at zero.",
    ),
)  # fmt: skip

LAUNCHER: tuple[Metric, ...] = (
    Metric(
        "graftwork_step_state", "yes/no", "Job", "State of the step",
        "1 for the state that the step is in: waiting, running, succeeded or failed; 0 for the "
        "others.", "launcher", labels=(*JOB_LABELS, "state"),
    ),
    Metric(
        "graftwork_rayjob_phase", "yes/no", "Job", "Phase of the RayJob",
        "1 for the RayJob's jobDeploymentStatus as KubeRay calls it; 0 for earlier ones.",
        "launcher", labels=(*JOB_LABELS, "phase"),
    ),
    Metric(
        "graftwork_rayjob_attempts", "number", "Job", "Attempts",
        "Attempts of the RayJob so far, the present one included.", "launcher", labels=JOB_LABELS,
    ),
    Metric(
        "graftwork_rayjob_waiting_seconds", "seconds", "Job", "Waiting for the job",
        "Seconds in which the launcher has seen the RayJob wait for nodes, its queue or its "
        "images.", "launcher", labels=JOB_LABELS,
    ),
)  # fmt: skip

METRICS = (*TRAINING, *LAUNCHER)
_BY_NAME = {metric.name: metric for metric in METRICS}


def find(name: str) -> Metric:
    """The metric of this name.

    Raises:
        KeyError: there is none.
    """
    return _BY_NAME[name]


def labels_of(*, run: str, workflow: str, stage: str, step: str) -> dict[str, str]:
    """The labels of a step's metrics; a run that has no id is called `local`."""
    return {"run": run or LOCAL, "workflow": workflow, "stage": stage, "step": step}
