"""A pool as pod templates: resources, secrets, probes, and what Pod Security asks for."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Literal

from graftwork.cluster.placement import head_placement, worker_placement
from graftwork.spec.resources import Pool, Storage

Json = dict[str, Any]
# What a pod is in its Ray cluster: a head that also does the work, a head that leads, a worker.
Part = Literal["alone", "head", "worker"]

CONTAINER = "ray"
# The user of our images; any other non-root user works as well, nothing is written but /tmp.
USER = 1000
# What containers may do: nothing but their work.
SECURITY: Json = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
# Longest time between the deletion of a pod and the end of what it holds; Ray takes less.
GRACE_SECONDS = 20
TOKEN_VOLUME = "autoscaler-token"
# Ray's traffic between pods does not get through a service mesh's proxy.
_NO_SIDECAR = {"sidecar.istio.io/inject": "false"}
# Ray's agent in every pod says by itself, since 2.53, whether the node is well. KubeRay's own
# probes wait ten seconds before they first ask, and start several processes each time.
_HEALTH: Json = {"httpGet": {"path": "/api/healthz", "port": 52365}}
_READY: Json = _HEALTH | {"periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 10}
_ALIVE: Json = _HEALTH | {
    "initialDelaySeconds": 30, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 120,
}  # fmt: skip


def pod_template(
    pool: Pool, storage: Storage, image: str, labels: dict[str, str], *, part: Part,
    env: dict[str, str], spot: bool = False,
) -> Json:  # fmt: skip
    """One pod of a Ray cluster.

    Args:
        pool: What workers are given, and where they may go.
        storage: Whose keys are needed.
        image: What the pod runs.
        labels: By which the pod is found.
        part: Whether it gets the pool's CPUs and accelerators.
        env: Plain variables; secrets come in by reference only.
        spot: Whether it is to go to the pool's spot nodes, where it does the work.
    """
    leads = part == "head"
    spec: Json = {
        "containers": [_container(pool, storage, image, part, env)],
        "volumes": _volumes(pool, autoscaled=leads and is_elastic(pool)),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
    }
    spec |= head_placement(pool) if leads else worker_placement(pool, labels, part, spot=spot)
    return {"metadata": {"labels": labels | _NO_SIDECAR}, "spec": spec}


def is_elastic(pool: Pool) -> bool:
    """Whether the number of workers may change while the job runs."""
    return pool.min_workers is not None and pool.min_workers < pool.workers


def _container(pool: Pool, storage: Storage, image: str, part: Part, env: dict[str, str]) -> Json:
    return {
        "name": CONTAINER,
        "image": image,
        "env": _environment(pool, storage, env),
        "resources": _head_resources(pool) if part == "head" else _resources(pool),
        "securityContext": deepcopy(SECURITY),
        "readinessProbe": _READY,
        "livenessProbe": _ALIVE,
        "volumeMounts": [
            {"name": "scratch", "mountPath": "/tmp"},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }


def _resources(pool: Pool) -> Json:
    limits: Json = {"cpu": str(pool.cpus_per_worker)}
    if pool.memory:
        limits["memory"] = str(pool.memory)
    if pool.gpus_per_worker:
        limits[pool.accelerator] = str(pool.gpus_per_worker)
    requests = dict(limits)
    if pool.cpu_request:
        requests["cpu"] = _millicores(pool.cpu_request)
    return {"limits": limits, "requests": requests}


def _head_resources(pool: Pool) -> Json:
    memory = str(pool.head.memory)
    # It starts Ray and the job, for which a fraction of a core takes very long.
    limit = _millicores(max(1.0, pool.head.cpus))
    requests = {"cpu": _millicores(pool.head.cpus), "memory": memory}
    return {"limits": {"cpu": limit, "memory": memory}, "requests": requests}


def _millicores(cores: float) -> str:
    return str(int(cores)) if cores == int(cores) else f"{round(1000 * cores)}m"


def _environment(pool: Pool, storage: Storage, env: dict[str, str]) -> list[Json]:
    variables: list[Json] = [{"name": name, "value": value} for name, value in sorted(env.items())]
    if storage.secret:
        variables += [_secret(name, storage.secret, key) for name, key in storage.variables.items()]
    for name, source in sorted(pool.env_secrets.items()):
        secret, key = source.split("/")
        variables.append(_secret(name, secret, key))
    return variables


def _secret(variable: str, secret: str, key: str) -> Json:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def _volumes(pool: Pool, *, autoscaled: bool) -> list[Json]:
    shm: Json = {"medium": "Memory"}
    if pool.shm:
        shm["sizeLimit"] = str(pool.shm)
    volumes: list[Json] = [{"name": "scratch", "emptyDir": {}}, {"name": "shm", "emptyDir": shm}]
    return [*volumes, _token()] if autoscaled else volumes


def _token() -> Json:
    """What Kubernetes gives every container by itself; here the autoscaler's alone.

    Whoever reaches a Ray head may run code in it, which must not act in the cluster's name.
    """
    namespace = {"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}
    sources = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [namespace]}},
    ]
    return {"name": TOKEN_VOLUME, "projected": {"sources": sources}}
