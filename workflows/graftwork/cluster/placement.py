"""The words of placement as Kubernetes writes them."""

from __future__ import annotations

from typing import Any

from graftwork.spec.placement import LABELS, Affinity, NodeLabel, Toleration
from graftwork.spec.resources import Pool

Json = dict[str, Any]

# KubeRay's label of what a pod is in its cluster.
_WORKER = {"ray.io/node-type": "worker"}


def worker_placement(pool: Pool, labels: dict[str, str], part: str, *, spot: bool) -> Json:
    """The fields of a pod that does the work; `spot` sends it to the pool's spot nodes."""
    selector, tolerations = dict(pool.node_selector), list(pool.tolerations)
    if spot and pool.spot:
        selector |= pool.spot.node_selector
        tolerations += pool.spot.tolerations
    placed = _placement(selector, tolerations, pool.priority_class)
    affinity = _affinity(pool.affinity or Affinity(), labels, alone=part == "alone")
    return placed | ({"affinity": affinity} if affinity else {})


def head_placement(pool: Pool) -> Json:
    """The fields of a pod that leads workers: not on their nodes, unless it is told to."""
    return _placement(pool.head.node_selector, pool.head.tolerations, pool.priority_class)


def _placement(
    selector: dict[str, str], tolerations: list[Toleration], priority: str | None
) -> Json:
    placed: Json = {}
    if selector:
        placed["nodeSelector"] = dict(selector)
    if tolerations:
        placed["tolerations"] = [_toleration(one) for one in tolerations]
    if priority:
        placed["priorityClassName"] = priority
    return placed


def _toleration(toleration: Toleration) -> Json:
    fields = toleration.model_dump(exclude_none=True)
    if "toleration_seconds" in fields:
        fields["tolerationSeconds"] = fields.pop("toleration_seconds")
    return fields


def _affinity(affinity: Affinity, labels: dict[str, str], *, alone: bool) -> Json:
    found: Json = {}
    if affinity.nodes:
        demands = [_demand(one) for one in affinity.nodes]
        found["nodeAffinity"] = {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": demands}]
            }
        }
    if alone:
        return found
    if affinity.spread:
        found["podAntiAffinity"] = _workers(affinity.spread, labels, required=affinity.required)
    if affinity.pack:
        found["podAffinity"] = _workers(affinity.pack, labels, required=affinity.required)
    return found


def _demand(label: NodeLabel) -> Json:
    demand: Json = {"key": label.key, "operator": label.operator}
    return demand | ({"values": list(label.values)} if label.values else {})


def _workers(topology: str, labels: dict[str, str], *, required: bool) -> Json:
    """To be, or not to be, where the job's other workers are."""
    term = {
        "labelSelector": {"matchLabels": labels | _WORKER},
        "topologyKey": LABELS.get(topology, topology),
    }
    if required:
        return {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
    weighed = [{"weight": 100, "podAffinityTerm": term}]
    return {"preferredDuringSchedulingIgnoredDuringExecution": weighed}
