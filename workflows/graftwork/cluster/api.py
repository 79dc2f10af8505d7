"""The Kubernetes API as the launcher needs it; the only importer of the Kubernetes client.

Every call is bounded in time and tried again while the API server is unreachable, throttles or
fails, because a step must outlive a restart of the control plane.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from graftwork.errors import RunError
from graftwork.units import format_seconds

Json = dict[str, Any]
T = TypeVar("T")

_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_TIMEOUT = (5, 30)
# A step waits for the control plane while its job trains on: a managed one that is being upgraded
# is away for minutes. A person at a command does not.
_PATIENCE_OF_A_STEP = 900.0
_PATIENCE_OF_A_COMMAND = 20.0
_TRANSIENT = {0, 408, 429, 500, 502, 503, 504}
_RUN_OF_POD = "pipeline/runid"
# Where a pod stands in its Workflow, such as `name(0).root(0).base(0).executor(0)`.
_NODE_OF_POD = "workflows.argoproj.io/node-name"
# Argo's name for the container of a step pod that runs the step.
_STEP_CONTAINER = "main"


class NotFoundError(RunError):
    """The object is not there."""


class Api:
    """RayJobs, Workflows, pods, ConfigMaps and secrets of one namespace."""

    def __init__(self, namespace: str, *, patience: float = _PATIENCE_OF_A_COMMAND) -> None:
        self.namespace = namespace
        self._patience = patience
        self._away = False
        self._custom = client.CustomObjectsApi()
        self._core = client.CoreV1Api()

    @classmethod
    def in_pod(cls) -> Api:
        """The API server of the cluster that this pod runs in, as its service account."""
        config.load_incluster_config()
        _once_a_call()
        return cls(_NAMESPACE.read_text().strip(), patience=_PATIENCE_OF_A_STEP)

    @classmethod
    def from_kubeconfig(cls, namespace: str | None = None) -> Api:
        """The API server of the current context of the user's kubeconfig.

        Raises:
            RunError: there is no usable kubeconfig.
        """
        try:
            config.load_kube_config()
            _, current = config.list_kube_config_contexts()
        except (config.ConfigException, OSError) as error:
            raise RunError(f"no cluster to talk to: {error}", "Set KUBECONFIG.") from error
        _once_a_call()
        return cls(namespace or current["context"].get("namespace", "kubeflow"))

    def create_ray_job(self, manifest: Json) -> Json | None:
        """Create the RayJob; None if one of that name is there already."""
        try:
            created: Json = self._try(
                self._custom.create_namespaced_custom_object, *self._jobs(), manifest
            )
        except client.ApiException as error:
            if error.status == 409:
                return None
            raise RunError(*_refusal("create RayJobs", error)) from error
        return created

    def ray_job(self, name: str) -> Json:
        """The RayJob of that name.

        Raises:
            NotFoundError: there is none.
        """
        return self._read(self._custom.get_namespaced_custom_object, *self._jobs(), name)

    def ray_jobs(self, selector: str) -> list[Json]:
        """The RayJobs with these labels."""
        found = self._read(
            self._custom.list_namespaced_custom_object, *self._jobs(), label_selector=selector
        )
        return list(found["items"])

    def delete_ray_job(self, name: str) -> None:
        """Delete the RayJob, and its cluster with it; none there is fine."""
        try:
            self._try(
                self._custom.delete_namespaced_custom_object,
                *self._jobs(),
                name,
                propagation_policy="Background",
            )
        except client.ApiException as error:
            if error.status != 404:
                raise RunError(*_refusal("delete RayJobs", error)) from error

    def workflow(self, name: str) -> Json:
        """Argo's Workflow of that name.

        Raises:
            NotFoundError: there is none.
        """
        return self._read(
            self._custom.get_namespaced_custom_object,
            "argoproj.io", "v1alpha1", self.namespace, "workflows", name,
        )  # fmt: skip

    def pod_labels(self, name: str) -> dict[str, str]:
        """Labels of a pod."""
        pod = self._read(self._core.read_namespaced_pod, name, self.namespace)
        return dict(pod.metadata.labels or {})

    def step_log(self, run_id: str, step: str) -> str:
        """What the latest pod of a run's step has printed so far; nothing where none has begun."""
        found = self._read(
            self._core.list_namespaced_pod,
            self.namespace,
            label_selector=f"{_RUN_OF_POD}={run_id}",
        )
        node = re.compile(rf"\.{re.escape(step)}\(\d+\)\.executor\(\d+\)$")
        pods = [
            pod
            for pod in found.items
            if node.search((pod.metadata.annotations or {}).get(_NODE_OF_POD, ""))
            and pod.status.phase != "Pending"
        ]
        if not pods:
            return ""
        latest = max(pods, key=lambda pod: pod.metadata.creation_timestamp)
        log: str = self._read(
            self._core.read_namespaced_pod_log,
            latest.metadata.name,
            self.namespace,
            container=_STEP_CONTAINER,
        )
        return log

    def config_map(self, name: str) -> dict[str, str]:
        """Data of a ConfigMap.

        Raises:
            NotFoundError: there is none.
        """
        found = self._read(self._core.read_namespaced_config_map, name, self.namespace)
        return dict(found.data or {})

    def secret(self, name: str) -> dict[str, str]:
        """Data of a secret, base64 as it is.

        Raises:
            NotFoundError: there is none.
        """
        found = self._read(self._core.read_namespaced_secret, name, self.namespace)
        return dict(found.data or {})

    def _jobs(self) -> tuple[str, str, str, str]:
        return "ray.io", "v1", self.namespace, "rayjobs"

    def _read(self, call: Callable[..., T], *arguments: object, **options: object) -> T:
        try:
            return self._try(call, *arguments, **options)
        except client.ApiException as error:
            if error.status == 404:
                raise NotFoundError(f"{arguments[-1]} is not there") from error
            raise RunError(*_refusal("read what it needs", error)) from error

    def _try(self, call: Callable[..., T], *arguments: object, **options: object) -> T:
        deadline = time.monotonic() + self._patience
        wait = 0.2
        while True:
            try:
                answer = call(*arguments, _request_timeout=_TIMEOUT, **options)
                self._tell_of(away=False)
                return answer
            except client.ApiException as error:
                if error.status not in _TRANSIENT or time.monotonic() > deadline:
                    raise
            except HTTPError as error:
                if time.monotonic() > deadline:
                    raise RunError(
                        f"the Kubernetes API server cannot be reached: {error}",
                        "See whether the control plane is up; the step may be tried again.",
                    ) from error
                self._tell_of(away=True)
            time.sleep(wait)
            wait = min(5.0, 2 * wait)

    def _tell_of(self, *, away: bool) -> None:
        """A line when the API server is first missed, and one when it is back."""
        if away == self._away:
            return
        self._away = away
        what = (
            f"does not answer; trying again for {format_seconds(self._patience)}"
            if away
            else "answers again"
        )
        sys.stderr.write(f"graftwork: the Kubernetes API server {what}\n")
        sys.stderr.flush()


def _once_a_call() -> None:
    """Leave trying again to `Api`: urllib3's own attempts are hasty, and a log line each."""
    settings = client.Configuration.get_default_copy()
    settings.retries = 0
    client.Configuration.set_default(settings)


def _refusal(what: str, error: client.ApiException) -> tuple[str, str]:
    if error.status in (401, 403):
        return (
            f"the step's service account may not {what}: {error.reason}",
            "Apply graftwork's manifests, which hold the Role that the launcher needs.",
        )
    return f"Kubernetes refused to {what}: {error.status} {error.reason} {error.body}", ""
