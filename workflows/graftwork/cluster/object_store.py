"""Storage as Kubeflow Pipelines knows it: its `kfp-launcher` ConfigMap, for specs that say less.

A spec that names a bucket and nothing else runs on any cluster: the endpoint and the secret come
from there. `minio://` is KFP's name for an S3 server with an endpoint of its own, which no other
program understands, so it becomes `s3://`.
"""

from __future__ import annotations

import base64
import os
from typing import Any

import yaml

from graftwork.cluster.api import Api, NotFoundError
from graftwork.spec.resources import Storage
from graftwork.step import Step

_CONFIG_MAP = "kfp-launcher"
# The server that Kubeflow Pipelines brings along, which its settings need not name.
OWN = Storage(
    endpoint="http://minio-service.kubeflow:9000",
    region="us-east-1",
    secret="mlpipeline-minio-artifact",
)
_VARIABLES = {"AWS_ACCESS_KEY_ID": "accesskey", "AWS_SECRET_ACCESS_KEY": "secretkey"}


def complete_storage(step: Step, api: Api) -> Step:
    """The step with endpoint, region and secret filled in, where its storage is a bucket."""
    storage = step.storage
    scheme, _, rest = storage.root.partition("://")
    if scheme not in ("s3", "minio"):
        return step
    known = _provider(api, scheme)
    completed = storage.model_copy(
        update={
            "root": f"s3://{rest}",
            "endpoint": storage.endpoint or known.endpoint,
            "region": storage.region or known.region,
            "secret": storage.secret or known.secret,
        }
    )
    return step.model_copy(update={"storage": completed})


def take_credentials(storage: Storage, api: Api) -> None:
    """Put the secret's keys into this process's environment, unless they are there already."""
    if not storage.secret or all(name in os.environ for name in _VARIABLES):
        return
    data = api.secret(storage.secret)
    for name, key in _VARIABLES.items():
        if key in data:
            os.environ[name] = base64.b64decode(data[key]).decode()


def _provider(api: Api, scheme: str) -> Storage:
    """Endpoint, region and secret of KFP's provider for the scheme; nothing where it has none."""
    try:
        providers = yaml.safe_load(api.config_map(_CONFIG_MAP).get("providers", "")) or {}
    except NotFoundError:
        providers = {}
    known = providers.get(scheme) or providers.get("minio")
    if known is None and scheme == "minio":
        return OWN
    default: dict[str, Any] = (known or {}).get("default") or {}
    endpoint = default.get("endpoint")
    if endpoint and "://" not in endpoint:
        endpoint = f"{'http' if default.get('disableSSL') else 'https'}://{endpoint}"
    secret = ((default.get("credentials") or {}).get("secretRef") or {}).get("secretName")
    return Storage(endpoint=endpoint, region=default.get("region"), secret=secret)
