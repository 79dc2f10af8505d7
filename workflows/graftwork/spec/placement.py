"""Where on a cluster a pool's pods may go: labels, taints, neighbours, and nodes that may be lost.

Thin words for what Kubernetes has many lines for. A topology is `host`, `zone`, or the key of any
other label that nodes carry, such as that of a rack.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from graftwork.spec.base import Strict
from graftwork.units import Bytes, Seconds

Topology = Annotated[str, StringConstraints(pattern=r"^(host|zone|[\w.-]+/[\w.-]+)$")]
LABELS = {"host": "kubernetes.io/hostname", "zone": "topology.kubernetes.io/zone"}
_WITHOUT_VALUES = ("Exists", "DoesNotExist")


class Toleration(Strict):
    """A Kubernetes toleration."""

    key: str | None = None
    """The taint's key. Default, with `Exists`: every taint."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """`Exists` tolerates any value of the taint, `Equal` the one given."""
    value: str | None = None
    """The taint's value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The taint's effect. Default: any."""
    toleration_seconds: int | None = Field(default=None, ge=0)
    """How long a pod stays once the taint is set. Default: for good."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.operator == "Exists" and self.value is not None:
            raise ValueError(
                "a toleration with operator Exists takes no value; leave it out or write Equal"
            )
        if self.operator == "Equal" and self.key is None:
            raise ValueError(
                "a toleration with operator Equal needs a key; add 'key' or write Exists"
            )
        return self


class NodeLabel(Strict):
    """A demand on a label of a node that is more than one value."""

    key: str
    """The label."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] = "In"
    """How its value is compared."""
    values: list[str] = Field(default_factory=list)
    """The values; `Gt` and `Lt` take one number, `Exists` and `DoesNotExist` none."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.operator in _WITHOUT_VALUES and self.values:
            raise ValueError(f"{self.operator} takes no values; leave them out, or write In")
        if self.operator not in _WITHOUT_VALUES and not self.values:
            raise ValueError(f"{self.operator} compares with values; add them, or write Exists")
        if self.operator in ("Gt", "Lt") and not (
            len(self.values) == 1 and self.values[0].lstrip("-").isdecimal()
        ):
            raise ValueError(f"{self.operator} compares with one whole number; write values: ['8']")
        return self


class Affinity(Strict):
    """How the workers of one job lie to one another, and what their nodes must be."""

    spread: Topology | None = None
    """Each worker on another one: `host`, `zone`, or the key of a node label."""
    pack: Topology | None = None
    """All workers on the same one: `host`, `zone`, or the key of a node label."""
    required: bool = True
    """Whether workers wait until `spread` and `pack` can be had, or take what there is."""
    nodes: list[NodeLabel] = Field(default_factory=list)
    """What the labels of a node must be; all of these."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.spread is not None and self.spread == self.pack:
            raise ValueError(f"workers cannot be both spread and packed by {self.spread}; keep one")
        return self


class Spot(Strict):
    """Cheaper nodes that may be taken away; a job begins there, and goes to others if it must."""

    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels of spot nodes, beside the pool's own."""
    tolerations: list[Toleration] = Field(default_factory=list)
    """Taints of spot nodes, beside the pool's own."""
    patience: Seconds = Field(default=600, json_schema_extra={"default": "10m"})
    """How long a job waits for spot nodes, at its start and after a loss."""
    losses: int = Field(default=3, ge=1)
    """After so many lost pods the job goes to the pool's ordinary nodes."""

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        if not self.node_selector and not self.tolerations:
            raise ValueError(
                "spot nodes are like all others here; add node_selector or tolerations"
            )
        return self


class Head(Strict):
    """The pod beside several workers that leads them, and holds no accelerator."""

    cpus: float = Field(default=1, gt=0)
    """CPU cores that are set aside for it."""
    memory: Bytes = Field(default=4 * 2**30, json_schema_extra={"default": "4Gi"})
    """Its memory."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels that its node must have."""
    tolerations: list[Toleration] = Field(default_factory=list)
    """Taints that it tolerates."""
