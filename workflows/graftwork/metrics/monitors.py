"""What Prometheus has to scrape, as PodMonitors: Ray's heads and workers, and the launchers."""

from __future__ import annotations

from typing import Any

from graftwork.metrics.registry import LAUNCHER_POD, LAUNCHER_PORT

Json = dict[str, Any]

INTERVAL = "15s"
MANAGED = {"app.kubernetes.io/managed-by": "graftwork"}
RAY_LABELS = ["ray.io/cluster", "graftwork.dev/workflow", "graftwork.dev/step", "graftwork.dev/run"]
"""Labels of Ray's pods that Ray's own metrics, such as those of its memory, are told by."""
# Argo's name for the container of a step pod that runs the step.
STEP_CONTAINER = "main"


def pod_monitors() -> tuple[Json, ...]:
    """All of them."""
    return (_ray("head", "head"), _ray("worker", "workers"), _launcher())


def _ray(node_type: str, name: str) -> Json:
    # KubeRay names the port `metrics` on every pod.
    return _monitor(
        f"graftwork-ray-{name}",
        {**MANAGED, "ray.io/node-type": node_type},
        RAY_LABELS,
        {"port": "metrics", "interval": INTERVAL},
    )


def _launcher() -> Json:
    # Kubeflow Pipelines makes these pods and declares no port of theirs, so the address is put
    # together here. A pod has more containers than one, and each would be a target of its own.
    relabelings = [
        {
            "sourceLabels": ["__meta_kubernetes_pod_container_name"],
            "regex": STEP_CONTAINER,
            "action": "keep",
        },
        {
            "sourceLabels": ["__meta_kubernetes_pod_ip"],
            "regex": "(.+)",
            "targetLabel": "__address__",
            "replacement": f"$1:{LAUNCHER_PORT}",
        },
    ]
    return _monitor(
        "graftwork-launchers",
        LAUNCHER_POD,
        [],
        {"interval": INTERVAL, "relabelings": relabelings},
    )


def _monitor(name: str, pods: dict[str, str], labels: list[str], endpoint: Json) -> Json:
    spec: Json = {"selector": {"matchLabels": pods}, "podMetricsEndpoints": [endpoint]}
    if labels:
        spec["podTargetLabels"] = labels
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {
            "name": name,
            "namespace": "kubeflow",
            "labels": {"release": "prometheus"},
        },
        "spec": spec,
    }
