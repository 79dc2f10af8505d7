"""Pools, storage and execution: where and how stages run, never what they make."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from graftwork.spec.base import Name, Strict
from graftwork.spec.placement import Affinity, Head, Spot, Toleration
from graftwork.units import Bytes, FlopsPerSecond, Seconds, format_bytes


def _check_cache(size: int) -> int:
    if size < 2**30:
        raise ValueError(
            f"{format_bytes(size)} hold too few of the blocks that are shuffled together; "
            f"write 1Gi or more"
        )
    return size


class Pool(Strict):
    """A group of equal workers, and the nodes they may run on."""

    workers: int = Field(default=1, ge=1)
    """Ray Train workers. 1 runs in the step's own process where it runs locally."""
    min_workers: int | None = None
    """Fewest workers that training goes on with; on a cluster the job grows and shrinks between
    this and `workers`, as nodes come and go. Default: `workers`."""
    cpus_per_worker: int = Field(default=1, ge=1)
    """CPU cores of a worker."""
    cpu_request: float | None = Field(default=None, gt=0)
    """CPU cores that the cluster sets aside for a worker; fewer than `cpus_per_worker` let it share
    them with other pods. Default: all."""
    gpus_per_worker: int = Field(default=0, ge=0)
    """Accelerators of a worker."""
    accelerator: str = "nvidia.com/gpu"
    """Kubernetes resource name of the accelerator."""
    accelerator_memory: Bytes | None = None
    """Memory of one accelerator; the plan warns where a model would not fit."""
    accelerator_peak: FlopsPerSecond | None = None
    """What one accelerator could do at most in dense bf16, for the metric of model FLOPs
    utilization. Default: as the maker says of common ones."""
    memory: Bytes | None = None
    """Memory of a worker."""
    shm: Bytes | None = None
    """Shared memory of a worker (/dev/shm)."""
    data_cache: Annotated[Bytes, AfterValidator(_check_cache)] = Field(
        default=10 * 2**30, json_schema_extra={"default": "10Gi"}
    )
    """Disk on each machine for the blocks of tokens that are read from a URL; at least 1Gi."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels that a node must have."""
    tolerations: list[Toleration] = Field(default_factory=list)
    """Taints that the workers tolerate."""
    affinity: Affinity | None = None
    """How the workers lie to one another, and further demands on their nodes."""
    spot: Spot | None = None
    """Cheaper nodes to begin on, which may be taken away."""
    head: Head = Head()
    """The pod that leads several workers on a cluster."""
    queue: Name | None = None
    """Kueue's local queue."""
    priority_class: str | None = None
    """Kubernetes priority class."""
    image: str | None = None
    """Image of the workers. Default: the workflow's."""
    env_secrets: dict[str, str] = Field(default_factory=dict)
    """Environment variables from secrets: `NAME: secret/key`."""

    @model_validator(mode="after")
    def _within_bounds(self) -> Self:
        if self.min_workers is not None and not 1 <= self.min_workers <= self.workers:
            raise ValueError(
                f"min_workers is {self.min_workers}, and there are {self.workers} workers; write a "
                f"number from 1 to {self.workers}"
            )
        if self.cpu_request is not None and self.cpu_request > self.cpus_per_worker:
            raise ValueError(
                f"cpu_request sets {self.cpu_request:g} cores aside for workers that use "
                f"{self.cpus_per_worker}; raise cpus_per_worker, or lower it"
            )
        return self

    @model_validator(mode="after")
    def _secrets_by_reference(self) -> Self:
        for variable, source in self.env_secrets.items():
            if len(source.split("/")) != 2 or not all(source.split("/")):
                raise ValueError(
                    f"env_secrets gives {variable} something else than a secret and its key; write "
                    f"'{variable}: secret/key', and never the value itself"
                )
        return self


_SECRET_KEY = r"^[-._a-zA-Z0-9]+$"


class Storage(Strict):
    """Where artifacts lie."""

    root: str = "runs"
    """A folder, or any fsspec URL such as s3://bucket/prefix."""
    endpoint: str | None = None
    """Endpoint of an S3 server other than Amazon's."""
    region: str | None = None
    """Region of the bucket."""
    secret: Name | None = None
    """Kubernetes secret that holds the access key and the secret key."""
    access_key_name: str = Field(default="accesskey", pattern=_SECRET_KEY)
    """Under which name that secret holds the access key."""
    secret_key_name: str = Field(default="secretkey", pattern=_SECRET_KEY)
    """Under which name that secret holds the secret key."""

    @property
    def variables(self) -> dict[str, str]:
        """The variables that S3 clients read, each with its name in the secret."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key_name,
            "AWS_SECRET_ACCESS_KEY": self.secret_key_name,
        }

    @model_validator(mode="after")
    def _sane(self) -> Self:
        if not self.root.strip():
            raise ValueError("root is empty; name a folder or a URL such as s3://bucket/runs")
        if ".." in self.root.replace("\\", "/").split("/"):
            raise ValueError(f"root {self.root!r} climbs out with '..'; write the path itself")
        return self


class Execution(Strict):
    """How the pipeline runs on a cluster."""

    image: str = "graftwork/train:0.1.0"
    """Image of the training containers."""
    launcher_image: str = "graftwork/launcher:0.1.0"
    """Image of the step pods."""
    deadline: Seconds = Field(default=604_800, json_schema_extra={"default": "7d"})
    """Longest time that one stage may take."""
    ttl: Seconds = Field(default=604_800, json_schema_extra={"default": "7d"})
    """How long finished pods and jobs are kept."""
    retries: int = Field(default=2, ge=0, le=10)
    """How often a stage that failed is tried again; it goes on from its last checkpoint."""
    grafana: str | None = Field(default=None, pattern=r"^https?://\S+$")
    """Address of Grafana; logs and reports of steps then link to their metrics."""
    worker_restarts: int = Field(default=3, ge=0, le=1000)
    """How often a training's workers are started anew inside one try, after one was lost."""
