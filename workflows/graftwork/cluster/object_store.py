"""Storage as Kubeflow Pipelines knows it: its `kfp-launcher` ConfigMap, for specs that say less.

A spec that names a bucket and nothing else runs on any cluster: the endpoint and the secret come
from there. `minio://` is KFP's name for an S3 server with an endpoint of its own, which no other
program understands, so it becomes `s3://`.
"""

from __future__ import annotations

import base64
import os
import socket
from typing import Any

import yaml

from graftwork.cluster.api import Api, NotFoundError
from graftwork.spec.resources import Storage
from graftwork.step import Step

_CONFIG_MAP = "kfp-launcher"
# The server that Kubeflow Pipelines brings along, which its settings need not name: today's first,
# then the one of older releases.
_OWN_HOSTS = ("seaweedfs.kubeflow", "minio-service.kubeflow")
_OWN_PORT = 9000
_OWN_SECRET = "mlpipeline-minio-artifact"
_SECRET_FIELDS = ("secret", "access_key_name", "secret_key_name")


def complete_storage(step: Step, api: Api) -> Step:
    """The step with endpoint, region and secret filled in, where its storage is a bucket."""
    storage = step.storage
    scheme, _, rest = storage.root.partition("://")
    if scheme not in ("s3", "minio"):
        return step
    known = _provider(api, scheme, rest)
    completed = storage.model_copy(
        update={
            "root": f"s3://{rest}",
            "endpoint": storage.endpoint or known.endpoint,
            "region": storage.region or known.region,
            **_secret(storage if storage.secret else known),
        }
    )
    return step.model_copy(update={"storage": completed})


def take_credentials(storage: Storage, api: Api) -> None:
    """Put the secret's keys into this process's environment, unless they are there already."""
    if not storage.secret or all(name in os.environ for name in storage.variables):
        return
    data = api.secret(storage.secret)
    for name, key in storage.variables.items():
        if key in data:
            os.environ[name] = base64.b64decode(data[key]).decode()


def _secret(storage: Storage) -> dict[str, str | None]:
    return {name: getattr(storage, name) for name in _SECRET_FIELDS}


def _provider(api: Api, scheme: str, place: str) -> Storage:
    """What KFP's provider for the scheme says of a bucket and prefix; nothing where it is silent.

    Its `overrides` go before its `default`, and the first that fits is taken, as KFP does it.
    """
    try:
        providers = yaml.safe_load(api.config_map(_CONFIG_MAP).get("providers", "")) or {}
    except NotFoundError:
        providers = {}
    known = providers.get(scheme) or providers.get("minio")
    if known is None and scheme == "minio":
        return own()
    settings: dict[str, Any] = dict((known or {}).get("default") or {})
    settings |= _override(known or {}, place)
    endpoint = settings.get("endpoint")
    if endpoint and "://" not in endpoint:
        endpoint = f"{'http' if settings.get('disableSSL') else 'https'}://{endpoint}"
    credentials = settings.get("credentials") or {}
    secret = {} if credentials.get("fromEnv") else credentials.get("secretRef") or {}
    names = {
        "secret": secret.get("secretName"),
        "access_key_name": secret.get("accessKeyKey"),
        "secret_key_name": secret.get("secretKeyKey"),
    }
    said = {name: value for name, value in names.items() if value}
    return Storage(endpoint=endpoint or None, region=settings.get("region") or None, **said)


def _override(known: dict[str, Any], place: str) -> dict[str, Any]:
    bucket, _, prefix = place.partition("/")
    for one in known.get("overrides") or known.get("Overrides") or ():
        if one.get("bucketName") == bucket and prefix.startswith(one.get("keyPrefix") or ""):
            return {name: value for name, value in one.items() if value not in (None, "")}
    return {}


def own() -> Storage:
    """The server that Kubeflow Pipelines brings along, as the cluster's DNS knows it."""
    host = next((host for host in _OWN_HOSTS if _is_known(host)), _OWN_HOSTS[0])
    return Storage(endpoint=f"http://{host}:{_OWN_PORT}", region="us-east-1", secret=_OWN_SECRET)


def _is_known(host: str) -> bool:
    try:
        socket.getaddrinfo(host, _OWN_PORT)
    except OSError:
        return False
    return True
