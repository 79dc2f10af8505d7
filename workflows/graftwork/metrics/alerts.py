"""Alert rules on the metrics of the registry, as a PrometheusRule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from graftwork.metrics.registry import LABELS, find

Json = dict[str, Any]

BY = ", ".join(LABELS)
"""What tells one training from another, beside the namespace."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule: when it fires, and what is to be done then."""

    name: str
    expr: str
    severity: Literal["warning", "critical"]
    summary: str
    description: str
    for_: str = ""

    def rule(self) -> Json:
        """As Prometheus has it."""
        rule: Json = {"alert": self.name, "expr": self.expr}
        if self.for_:
            rule["for"] = self.for_
        return rule | {
            "labels": {"severity": self.severity},
            "annotations": {"summary": self.summary, "description": self.description},
        }


def of(name: str) -> str:
    """A metric of the training, one series a training: Ray's own labels are left behind."""
    return f"max by (namespace, {BY}) ({find(name).exposed})"


def _unfinished() -> str:
    return f"and {of('graftwork_step')}\n  < {of('graftwork_steps_planned')}"


_WHO = "Stage {{ $labels.step }} of {{ $labels.workflow }}"
_JOB_NAME = ".+-[0-9a-f]{12}"
_FOLLOWED = find("graftwork_rayjob_attempts").exposed


def alerts() -> tuple[Alert, ...]:
    """Every alert on metrics of graftwork's own."""
    return (*_of_progress(), *_of_failures())


def _of_progress() -> tuple[Alert, ...]:
    """On trainings that run, and do not get on as they should."""
    return (
        Alert(
            "GraftworkTrainingStalled",
            f"time() - {of('graftwork_progress_timestamp_seconds')}\n"
            f"  > 600 + 5 * {of('graftwork_report_seconds')}\n{_unfinished()}",
            "critical",
            f"{_WHO} has stopped making progress.",
            "It has told of no step for ten minutes and five times as long as it usually takes. "
            "See the step's log, and whether a worker, its storage or the network hangs.",
        ),
        Alert(
            "GraftworkLossNotFinite",
            f"max by (namespace, {BY}) "
            f"(max_over_time({find('graftwork_not_finite').exposed}[10m])) > 0\n"
            f"or {of('graftwork_loss')} != {of('graftwork_loss')}",
            "critical",
            f"The loss of {_WHO[0].lower()}{_WHO[1:]} is not finite any more.",
            "No weight was updated with it, and the stage fails. Lower the schedule's peak, give "
            "it a longer warmup, or train in fp32.",
        ),
        Alert(
            "GraftworkLowUtilization",
            f"{of('graftwork_mfu')} < 0.2",
            "warning",
            f"{_WHO} uses {{{{ $value | humanizePercentage }}}} of its accelerators.",
            "For half an hour the model FLOPs utilization has been below 20%. See on the dashboard "
            "whether it waits for data or checkpoints; else raise micro_batch, switch compile on, "
            "or train in bf16.",
            for_="30m",
        ),
    )


def _of_failures() -> tuple[Alert, ...]:
    """On what a failure would cost, has cost, or has left behind."""
    return (
        Alert(
            "GraftworkCheckpointStale",
            f"time() - {of('graftwork_checkpoint_timestamp_seconds')}\n"
            f"  > 600 + 3 * {of('graftwork_checkpoint_interval_seconds')}\n{_unfinished()}",
            "warning",
            f"The last checkpoint of {_WHO[0].lower()}{_WHO[1:]} is "
            "{{ $value | humanizeDuration }} old.",
            "That is ten minutes and three times the time between two checkpoints, and what a "
            "failure would cost. See the step's log, and whether its storage takes anything.",
        ),
        Alert(
            "GraftworkStageFailing",
            f"max by (namespace, {BY}, rayjob) ({_FOLLOWED}) > 1",
            "warning",
            f"{_WHO} is at its attempt {{{{ $value }}}}.",
            "RayJob {{ $labels.rayjob }} has failed and is tried again; it goes on from its last "
            "checkpoint. The reason is in the step's log.",
        ),
        Alert(
            "GraftworkRayJobOrphaned",
            # A job that a launcher has followed, and that now works without one.
            "(\n"
            "  max by (namespace, name) (kuberay_job_deployment_status"
            f'{{name=~"{_JOB_NAME}", deployment_status=~"Initializing|Running"}}) == 1\n'
            ") unless on (namespace, name) "
            f'label_replace({_FOLLOWED}, "name", "$1", "rayjob", "(.+)")\n'
            "and on (namespace, name) "
            f'label_replace(last_over_time({_FOLLOWED}[7d]), "name", "$1", "rayjob", "(.+)")',
            "critical",
            "RayJob {{ $labels.name }} in {{ $labels.namespace }} works for nobody.",
            "Nothing has followed it for 15 minutes: its Workflow is over or gone, and its pods "
            "may still hold accelerators. `graftwork gc` deletes such jobs; see why the CronJob "
            "graftwork-gc has not.",
            for_="15m",
        ),
    )  # fmt: skip


def prometheus_rule() -> Json:
    """The alerts as the Prometheus operator takes them."""
    rules = [alert.rule() for alert in alerts()]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "graftwork-training",
            "namespace": "kubeflow",
            "labels": {"release": "prometheus"},
        },
        "spec": {"groups": [{"name": "graftwork-training", "rules": rules}]},
    }
