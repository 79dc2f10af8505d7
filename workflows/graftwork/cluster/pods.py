"""A pool as pod templates: resources, placement, secrets, and what Pod Security asks for."""

from __future__ import annotations

from typing import Any

from graftwork.spec.resources import Pool, Storage, Toleration

Json = dict[str, Any]

CONTAINER = "ray"
# The user of our images; any other non-root user works as well, nothing is written but /tmp.
USER = 1000
# Ray's traffic between pods does not get through a service mesh's proxy.
_NO_SIDECAR = {"sidecar.istio.io/inject": "false"}
_KEYS = {"AWS_ACCESS_KEY_ID": "accesskey", "AWS_SECRET_ACCESS_KEY": "secretkey"}


def pod_template(
    pool: Pool, storage: Storage, image: str, labels: dict[str, str], *, works: bool, env: Json
) -> Json:
    """One pod of a Ray cluster. `works` says whether it gets the pool's CPUs and accelerators.

    `env` are plain variables; secrets come in by reference only.
    """
    spec: Json = {
        "containers": [_container(pool, storage, image, works=works, env=env)],
        "volumes": _volumes(pool),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "automountServiceAccountToken": False,
    }
    if works:
        spec |= _placement(pool)
    return {"metadata": {"labels": labels | _NO_SIDECAR}, "spec": spec}


def _container(pool: Pool, storage: Storage, image: str, *, works: bool, env: Json) -> Json:
    resources = _resources(pool) if works else {"cpu": "1", "memory": "2Gi"}
    return {
        "name": CONTAINER,
        "image": image,
        "env": _environment(pool, storage, env),
        "resources": {"limits": resources, "requests": dict(resources)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "scratch", "mountPath": "/tmp"},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }


def _resources(pool: Pool) -> Json:
    resources: Json = {"cpu": str(pool.cpus_per_worker)}
    if pool.memory:
        resources["memory"] = str(pool.memory)
    if pool.gpus_per_worker:
        resources[pool.accelerator] = str(pool.gpus_per_worker)
    return resources


def _environment(pool: Pool, storage: Storage, env: Json) -> list[Json]:
    variables = [{"name": name, "value": value} for name, value in sorted(env.items())]
    if storage.secret:
        variables += [_secret(name, storage.secret, key) for name, key in _KEYS.items()]
    for name, source in sorted(pool.env_secrets.items()):
        secret, key = source.split("/")
        variables.append(_secret(name, secret, key))
    return variables


def _secret(variable: str, secret: str, key: str) -> Json:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def _volumes(pool: Pool) -> list[Json]:
    shm: Json = {"medium": "Memory"}
    if pool.shm:
        shm["sizeLimit"] = str(pool.shm)
    return [{"name": "scratch", "emptyDir": {}}, {"name": "shm", "emptyDir": shm}]


def _placement(pool: Pool) -> Json:
    placed: Json = {}
    if pool.node_selector:
        placed["nodeSelector"] = dict(pool.node_selector)
    if pool.tolerations:
        placed["tolerations"] = [_toleration(one) for one in pool.tolerations]
    if pool.priority_class:
        placed["priorityClassName"] = pool.priority_class
    return placed


def _toleration(toleration: Toleration) -> Json:
    fields = toleration.model_dump(exclude_none=True)
    if "toleration_seconds" in fields:
        fields["tolerationSeconds"] = fields.pop("toleration_seconds")
    return fields
