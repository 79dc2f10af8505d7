"""The cluster of the settings file, talked to from inside the network that it lies in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config

from graftwork.spec.resources import Storage
from graftwork.store import Store

Json = dict[str, Any]
VARIABLE = "GRAFTWORK_TEST_CLUSTER"
_ENTERED = "GRAFTWORK_TEST_CLUSTER_ENTERED"
RUN = "graftwork.dev/run"
_LIVE = ("Pending", "Running")


@dataclass(frozen=True)
class Settings:
    """The keys of the settings file; README.md beside the folder says what they mean."""

    enter: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    namespace: str = "kubeflow"
    storage: Json = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    faults: Json = field(default_factory=dict)


def read_settings() -> Settings:
    """What $GRAFTWORK_TEST_CLUSTER names."""
    name = os.environ.get(VARIABLE)
    if not name:
        raise SystemExit(f"${VARIABLE} names no cluster: see tests/cluster/README.md")
    return Settings(**yaml.safe_load(Path(name).read_text(encoding="utf-8")))


def enter(settings: Settings) -> None:
    """Go on in the cluster's network and environment, as a process of its own where need be."""
    if os.environ.get(_ENTERED):
        return
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, **settings.env, _ENTERED: "1"}
    command = [*settings.enter, sys.executable, *sys.argv]
    os.execvpe(shutil.which(command[0]) or command[0], command, environment)


class Place:
    """Kubernetes and storage, as far as the campaign needs them."""

    def __init__(self, settings: Settings) -> None:
        config.load_kube_config()
        self.settings = settings
        self.namespace = settings.namespace
        self._core = client.CoreV1Api()
        self._custom = client.CustomObjectsApi()

    def pods(self, selector: str, namespace: str | None = None) -> list[Any]:
        """Pods that wait or run."""
        found = self._core.list_namespaced_pod(
            namespace or self.namespace, label_selector=selector, _request_timeout=30
        )
        return [pod for pod in found.items if pod.status.phase in _LIVE]

    def kill(self, pod: Any) -> None:
        """Delete a pod with no time to say goodbye."""
        self._core.delete_namespaced_pod(
            pod.metadata.name, pod.metadata.namespace, grace_period_seconds=0
        )

    def rays(self, kind: str, run_id: str) -> list[str]:
        """Names of a run's RayJobs or RayClusters."""
        found = self._custom.list_namespaced_custom_object(
            "ray.io", "v1", self.namespace, kind, label_selector=f"{RUN}={run_id}"
        )
        return [one["metadata"]["name"] for one in found["items"]]

    def launchers(self, run_id: str) -> list[Any]:
        """Step pods of a run whose main container runs."""
        pods = self.pods(f"pipeline/runid={run_id}")
        return [
            pod for pod in pods if "impl" in pod.metadata.name and pod.status.phase != "Pending"
        ]

    def parts(self, run_id: str, kind: str) -> list[Any]:
        """Ray pods of a run that run: its `head` or its `worker`s."""
        pods = self.pods(f"{RUN}={run_id},ray.io/node-type={kind}")
        return [pod for pod in pods if pod.status.phase == "Running"]

    def kubectl(
        self, *arguments: str, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl; its failure is the caller's to judge."""
        return subprocess.run(
            ["kubectl", *arguments], input=stdin, capture_output=True, text=True, check=False
        )


def store_at(settings: Settings, root: str) -> Store:
    """The artifacts below a root."""
    return Store(Storage(root=root, endpoint=os.environ.get("AWS_ENDPOINT_URL")))


def shell(command: str | Sequence[str]) -> None:
    """Run a command of the settings."""
    subprocess.run(command, shell=isinstance(command, str), check=True, stdout=subprocess.DEVNULL)
